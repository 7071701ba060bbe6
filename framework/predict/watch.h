// What a model makes on its way to a prediction.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "predict/trained_model.h"

namespace ribo {

/// Of one sequence of L residues, in float32 on the CPU; undefined where the model has none.
struct Watched {
  at::Tensor pairing;        // [L, L], the stream `bpp`
  at::Tensor pair_strength;  // [L, L], the Euclidean norm of the stream `pair` over its channels
  at::Tensor attention;      // [heads, L, L], of one layer: rows attend to columns
  int64_t pair_width = 0;    // channels of `pair`
  int64_t layer = 0;         // that of `attention`, from 1
  int64_t layers = 0;        // blocks that show their attention (docs/writing_a_block.md)
};

/// Runs the model on a batch of one sequence, in the direction in which it stands. `layer` counts
/// from 1; unset = the last one. Throws ConfigError for a layer that there is not.
Watched watch(const TrainedModel& trained, const Streams& inputs, std::optional<int64_t> layer);

}  // namespace ribo
