// What a difference between numbers means: intervals and p-values over sequences (and seeds).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "ribo/error.h"

namespace ribo {

/// The sums of one metric for each of n sequences, as Metric::accumulate() gives them: [n, width].
struct MetricRows {
  size_t width = 0;
  std::vector<double> sums;

  size_t size() const { return width > 0 ? sums.size() / width : 0; }
  std::span<const double> row(size_t i) const { return {sums.data() + i * width, width}; }
};

/// The metric's value from rows that were added up, [width]: Metric::finish(). NaN where nothing
/// was measured.
using Finish = std::function<double(std::span<const double>)>;

struct Bounds {
  double low = 0, high = 0;
};

struct Resampling {
  int64_t count = 2000;  // of the bootstrap and of the permutations
  uint64_t seed = 0;
  /// Called before each of them; what it throws ends everything.
  std::function<void()> before_each = {};
};

/// A metric over some sequences.
struct Estimate {
  size_t sequences = 0;            // those in which something was measured
  double value = 0;                // NaN without any
  std::optional<Bounds> interval;  // 95 %; none for fewer than two sequences or beside NaN
};

/// The value over the sequences `among`, with the percentile interval of the bootstrap: sequences
/// are drawn with replacement, as many as there are. Equal arguments give equal results everywhere.
RIBO_API Estimate estimate(const MetricRows& rows, const std::vector<size_t>& among,
                           const Finish& finish, const Resampling& resampling);

/// All of them: 0 .. n-1.
RIBO_API std::vector<size_t> all_of(size_t n);

/// Two sides, each one or several seeds of a training, on the same sequences.
struct PairedDifference {
  size_t sequences = 0;
  std::vector<double> a_seeds, b_seeds;  // the value of each seed
  double a = 0, b = 0;                   // their means
  double difference = 0;                 // b - a
  std::optional<Bounds> interval;        // 95 %, of the difference; none as in Estimate
  double p = 1;                          // two-sided; over sequences, not over seeds
};

/// `a` and `b`: a MetricRows a seed, all of the same sequences in the same order. The interval
/// draws sequences with replacement, the same ones for every seed of both sides, and where a side
/// has several seeds those as well, spread as far as so few of them ask for (Student's t). The
/// p-value is that of a permutation test: under the hypothesis that the sides don't differ, each
/// sequence's rows (means over a side's seeds) may as well be swapped; p = (k + 1) / (count + 1), k
/// of the random swaps having at least this difference.
RIBO_API PairedDifference compare_paired(const std::vector<MetricRows>& a,
                                         const std::vector<MetricRows>& b, const Finish& finish,
                                         const Resampling& resampling);

}  // namespace ribo
