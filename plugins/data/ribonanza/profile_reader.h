// Kaggle's Stanford Ribonanza tables (train_data.csv): one row a sequence and experiment.
#pragma once

#include "ribo/csv_reader.h"
#include "common/inputs.h"
#include "ribonanza/profile_table.h"

namespace ribo {

struct ReadOptions {
  /// A file with neither `experiment_type` nor reactivity columns is a list of sequences to be
  /// predicted, not an error.
  bool labels_optional = false;
  size_t block = CsvReader::kBlock;  // bytes of one read; never changes the result
};

/// Reads the files as one table: rows of one id are joined, wherever they stand. Columns, in any
/// order: `sequence_id` or `id`, `sequence`, `experiment_type` (2A3_MaP, DMS_MaP),
/// `signal_to_noise`, `SN_filter`, `reactivity_0001` ...; others are passed over. Only numbers are
/// kept in memory. Throws Error `file:line: what; remedy`.
ProfileTable read_profiles(const Paths& files, const ReadOptions& options = {});

}  // namespace ribo
