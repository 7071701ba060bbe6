// What a run's own metrics.jsonl says of its training.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "ribo/error.h"

namespace ribo {

struct RunRecord {
  bool found = false;  // whether there is such a file
  std::string device;
  std::string reason;               // why it ended; "" while it goes on, or when it was killed
  int64_t updates = 0;              // done
  double seconds = 0;               // of training, validations included
  double sequences_per_second = 0;  // the median over updates; NaN for fewer than two
  int64_t peak_memory = 0;          // bytes of main memory, of the largest session; 0 = unknown
};

/// Reads `run`/metrics.jsonl as far as its lines are whole. Never throws for what it holds.
RIBO_API RunRecord read_run_record(const std::filesystem::path& run);

}  // namespace ribo
