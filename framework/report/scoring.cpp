#include "report/scoring.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace ribo {
namespace {

// Views of the one sequence at place b; a stream without a batch dimension passes as it is.
Streams sequence_of(const Streams& streams, int64_t b) {
  const int64_t n = streams.mask().size(0);
  Streams out;
  for (const auto& [name, tensor] : streams) {
    out.set(name, tensor.dim() > 0 && tensor.size(0) == n ? tensor.narrow(0, b, 1) : tensor);
  }
  return out;
}

}  // namespace

Finish finish_of(std::shared_ptr<const Metric> metric) {
  return [metric = std::move(metric)](std::span<const double> sums) {
    return metric->finish(at::from_blob(const_cast<double*>(sums.data()),
                                        {static_cast<int64_t>(sums.size())}, at::kDouble));
  };
}

RowCollector::RowCollector(std::vector<NamedMetric> metrics, int64_t sequences)
    : metrics_(std::move(metrics)),
      sequences_(static_cast<size_t>(sequences)),
      rows_(metrics_.size()) {}

void RowCollector::add(const Batch& batch) {
  for (size_t b = 0; b < batch.indices.size(); ++b) {
    const Streams sequence = sequence_of(batch.streams, static_cast<int64_t>(b));
    for (size_t m = 0; m < metrics_.size(); ++m) {
      const at::Tensor sums = metrics_[m].metric->accumulate(sequence).contiguous();
      const auto* row = sums.const_data_ptr<double>();
      MetricRows& rows = rows_[m];
      if (rows.sums.empty()) {
        rows.width = static_cast<size_t>(sums.numel());
        rows.sums.resize(sequences_ * rows.width);
      }
      std::copy(row, row + rows.width,
                rows.sums.begin() + static_cast<std::ptrdiff_t>(
                                        static_cast<size_t>(batch.indices[b]) * rows.width));
    }
  }
}

}  // namespace ribo
