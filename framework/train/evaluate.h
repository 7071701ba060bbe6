// A pass over a split without gradients.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ribo/loss.h"
#include "ribo/metric.h"
#include "train/loader.h"

namespace ribo {

struct NamedMetric {
  std::string name;
  std::shared_ptr<const Metric> metric;
};

struct Evaluation {
  double loss = 0;             // mean over batches, weighted by their sequences
  std::vector<double> values;  // of the metrics, in their order
};

/// Calls `predict` on each batch of the loader's epoch 0 and scores what it adds. `loss` may be
/// null. Gradients are off inside.
Evaluation evaluate(Loader& loader, const std::function<void(Streams&)>& predict, const Loss* loss,
                    const std::vector<NamedMetric>& metrics);

}  // namespace ribo
