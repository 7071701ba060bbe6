// The bias that a pair representation gives to attention.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace torch {
class Library;
}

namespace ribo::kernels {

/// linear(layer_norm(pair)) [B, heads, L, L] of `pair` [B, L, L, C], eps 1e-5: norm_weight [C],
/// norm_bias [C] or undefined, weight [heads, C]. What pair_bias_attention() takes.
///
/// The norm and, without autocast, the result are in norm_weight's type; the result is in that of
/// autocast where it is on. The backward pass computes the norm again: keeping it would keep
/// another tensor as large as `pair` for each layer. Differentiable once. Throws Error where shapes
/// or devices disagree.
///
/// Source: Jumper et al. 2021 (AlphaFold), supplementary algorithm 7, line 3; RibonanzaNet has the
/// same.
RIBO_API at::Tensor pair_bias(const at::Tensor& pair, const at::Tensor& norm_weight,
                              const at::Tensor& norm_bias, const at::Tensor& weight);

/// Registers ribo::pair_bias.
void register_pair_bias(torch::Library& m);

}  // namespace ribo::kernels
