// Synthetic sums of a mean absolute error: [error, positions] for each sequence.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "report/scores.h"

namespace ribo::testing {

inline double mean_error(std::span<const double> sums) { return sums[0] / sums[1]; }

/// Positions differ from sequence to sequence; errors are `level` and normal noise, whose part
/// `shared` (by sequence, of `sequences_seed`) is the same in all rows made with that seed.
inline MetricRows error_rows(size_t n, double level, double shared, double own, uint64_t own_seed,
                             uint64_t sequences_seed = 1) {
  std::mt19937_64 sequences(sequences_seed), runs(own_seed);
  // One each, for a distribution keeps the second of the two values that it makes at a time.
  std::normal_distribution<double> of_sequences, of_runs;
  MetricRows rows;
  rows.width = 2;
  for (size_t i = 0; i < n; ++i) {
    const double positions = static_cast<double>(50 + sequences() % 50);
    const double error = level + shared * of_sequences(sequences) + own * of_runs(runs);
    rows.sums.push_back(error * positions);
    rows.sums.push_back(positions);
  }
  return rows;
}

inline MetricScores scores_of(MetricRows rows, std::string name = "mae") {
  return {std::move(name), true, mean_error, std::move(rows), {}, {}};
}

}  // namespace ribo::testing
