// A metric sequence by sequence, by adding up each one's own slice of a batch.
#pragma once

#include <vector>

#include "report/scores.h"
#include "train/evaluate.h"

namespace ribo {

/// metric->finish() over rows.
Finish finish_of(std::shared_ptr<const Metric> metric);

/// Collects the rows of some metrics while batches come in any order.
class RowCollector {
 public:
  RowCollector(std::vector<NamedMetric> metrics, int64_t sequences);
  /// A batch with its predictions; gradients are off.
  void add(const Batch& batch);
  /// Of each metric, a row for each sequence of the split.
  const std::vector<MetricRows>& rows() const { return rows_; }

 private:
  std::vector<NamedMetric> metrics_;
  size_t sequences_;
  std::vector<MetricRows> rows_;
};

}  // namespace ribo
