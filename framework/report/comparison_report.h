// The answer of `ribo-run compare`, as text and as JSON.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "report/pipeline_difference.h"
#include "report/run_record.h"
#include "report/scores.h"

namespace ribo {

inline constexpr std::array<const char*, 2> kSides = {"A", "B"};  // what they are called

/// One trained model; a side has one or several (seeds).
struct ComparedRun {
  std::string run, checkpoint;
  int64_t parameters = 0;
  bool flip = false;
  double sequences_per_second = 0;  // predicting, in turns with the others; median over batches
  RunRecord record;                 // of its training
};

struct MetricComparison {
  std::string name;
  bool lower_is_better = true;
  PairedDifference all;
  std::vector<double> a, b;  // of each sequence, means over seeds; NaN where nothing was measured
};

struct ComparisonReport {
  std::array<std::vector<ComparedRun>, 2> sides;  // A, B
  std::string source, split, device;
  std::vector<std::string> files;  // of --data
  int threads = 0;
  Resampling resampling;
  size_t moved = 10;  // sequences to list
  std::vector<ScoredSequence> sequences;
  std::vector<MetricComparison> metrics;  // the first one decides
  std::vector<PipelineDifference> pipeline;
};

/// One metric of both sides; `a` and `b` have an entry a seed, on the same sequences.
RIBO_API MetricComparison compare_metric(const std::vector<MetricScores>& a,
                                         const std::vector<MetricScores>& b,
                                         const Resampling& resampling);

/// What may be said of a metric in a sentence: which side is better and by how much, or that these
/// sequences cannot tell. A side is called better where the interval leaves zero out and, with one
/// seed a side, p is below 0.05 as well.
RIBO_API std::string verdict(const MetricComparison& metric);

/// The sequences whose value changed most, largest change first, `count` at most.
RIBO_API std::vector<size_t> most_moved(const MetricComparison& metric, size_t count);

RIBO_API std::string to_text(const ComparisonReport& report);
RIBO_API std::string to_json(const ComparisonReport& report);

}  // namespace ribo
