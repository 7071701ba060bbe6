// The bias that pairing probabilities give to attention.
#pragma once

#include <ATen/core/Tensor.h>

namespace ribo::blocks {

/// weight [heads, 2] times the two features (pairing_features.h) of `bpp` [B, L, L], as
/// [B, heads, L, L] in weight's type. The backward pass computes the features again: they would
/// be kept for each layer. `bpp` gets no gradient; differentiable once in weight.
at::Tensor bpp_bias(const at::Tensor& bpp, const at::Tensor& weight);

}  // namespace ribo::blocks
