// What `ribo-run check` prints: the plan's table, with costs measured in one real forward pass.
#pragma once

#include <string>
#include <vector>

#include "model/model.h"

namespace ribo {

struct BlockCost {
  const PlanNode* node = nullptr;
  int64_t parameters = 0;
  int64_t flops = 0;             // of the forward pass
  int64_t activation_bytes = 0;  // kept for the backward pass
};

struct ModelCost {
  std::vector<BlockCost> blocks;  // in the order of the forward pass
  int64_t parameters = 0;
  int64_t flops = 0;
  int64_t activation_bytes = 0;
  int64_t batch = 0, length = 0;
};

/// Runs the model forward once on `batch` (any device) and counts, block by block: matrix products,
/// convolutions and attention at 2 FLOPs a multiply-add (as the profiler of PyTorch does) and one
/// FLOP an output element for arithmetic operators; and the bytes still allocated afterwards.
ModelCost measure(Model& model, Streams& batch);

/// The table of `check`: block, streams in and out, shapes, parameters, FLOPs, activations.
std::string format_table(const Plan& plan, const ModelCost& cost);

/// "1.2 M", "340 k", "17"
std::string short_count(double n);
/// "1.5 GiB", "12.0 MiB"
std::string short_bytes(double n);

}  // namespace ribo
