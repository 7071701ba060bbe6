// The bias that a pair representation gives to attention.
#pragma once

#include <ATen/core/Tensor.h>

namespace ribo::blocks {

/// linear(layer_norm(pair)) [B, heads, L, L] of `pair` [B, L, L, Z], eps 1e-5; norm_bias may be
/// undefined; weight [heads, Z]. The backward pass computes the norm again: keeping it would keep
/// another tensor as large as `pair` for each layer. Differentiable once.
at::Tensor pair_bias(const at::Tensor& pair, const at::Tensor& norm_weight,
                     const at::Tensor& norm_bias, const at::Tensor& weight);

}  // namespace ribo::blocks
