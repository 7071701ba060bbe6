// Sequences to predict, from the files that people have.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/error.h"

namespace ribo {

struct InputSequence {
  std::string id;
  std::string letters;     // A C G U N
  int64_t first_row = -1;  // `id_min` of Kaggle's Ribonanza: the row of its first position
};

enum class SequenceFormat { automatic, fasta, csv, json };

/// "auto", "fasta", "csv" or "json". Throws ConfigError.
SequenceFormat sequence_format(const std::string& name);

/// Reads a file, or standard input for "-", in its order:
///   fasta  >id and anything, then lines of letters; blanks and empty lines don't count
///   csv    columns `sequence` and `sequence_id`, `id` or `target_id`; `id_min` and `id_max` where
///          they are (Kaggle Ribonanza's test_sequences.csv)
///   json   lines {"sequence": ..., "id" or "seq_id" or "sequence_id": ...} (OpenVaccine's test.json)
/// `automatic` goes by the file's extension, else by its first character. Lower case and T are
/// taken as upper case and U. Throws Error `file:line: what; remedy` for an empty record, a letter
/// that is none of A C G U T N, an id that comes twice, and a file without sequences.
std::vector<InputSequence> read_sequences(const std::string& path,
                                          SequenceFormat format = SequenceFormat::automatic);

/// `letters` with A C G U N in place of both cases and T. Returns the position of the first letter
/// that has no such form, or npos.
size_t normalize_letters(std::string& letters);

}  // namespace ribo
