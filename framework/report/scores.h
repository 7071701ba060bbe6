// What was scored, sequence by sequence: the raw material of reports.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "report/statistics.h"

namespace ribo {

struct ScoredSequence {
  std::string id;
  int64_t length = 0;
  std::vector<double>
      signal_to_noise;  // of each of its profiles, NaN = unknown; empty: no such data

  /// The lowest that is known, for that profile limits what a score means; NaN without any.
  double lowest_signal_to_noise() const {
    double lowest = NAN;
    for (const double x : signal_to_noise) lowest = std::fmin(lowest, x);
    return lowest;
  }
};

struct NamedRows {
  std::string name;
  MetricRows rows;
};

/// One metric of one model on every sequence.
struct MetricScores {
  std::string name;
  bool lower_is_better = true;
  Finish finish;
  MetricRows rows;
  std::vector<NamedRows> floors;      // of the trivial predictors, on the same sequences
  std::vector<MetricScores> columns;  // the same metric of one target column each
};

}  // namespace ribo
