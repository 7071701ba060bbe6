// A small network on each pair alone.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace torch {
class Library;
}

namespace ribo::kernels {

/// With its residual:
///
///   y = x + W2 relu(W1 layer_norm(x) + b1) + b2
///
/// x [..., C]; norm_weight, norm_bias [C]; w1 [H, C]; b1 [H]; w2 [C, H]; b2 [C]. lengths [B] whole
/// numbers, or undefined for no padding; with lengths x is [B, L, L, C], and rows and columns
/// behind a length cost no time, are not read, are zero in y and get zero gradients. Returns y in
/// x's shape and type.
///
/// The hidden layer exists for a few positions at a time only and is computed again for the
/// gradients; only the arguments are kept. On the CPU everything is computed in float32 (float64
/// where x is), but under bf16 autocast products round their operands where the CPU has
/// AVX512-BF16. Elsewhere products take autocast's type, or else x's; sums and the norm are float32
/// (float64 where x is), and so is the residual where x is. On CUDA, kernels of its own take
/// products in bfloat16 or float16 for C = 16, 32 or 64 and H a multiple of 16, up to 128 (256 for
/// C = 64); LibTorch's operators take the rest. Differentiable once, in all but lengths; the same
/// bits for any number of threads, and every time on the same GPU. Throws Error where shapes,
/// types or devices disagree.
///
/// Source: Jumper et al. 2021 (AlphaFold), supplementary algorithm 15.
RIBO_API at::Tensor pair_transition(const at::Tensor& x, const at::Tensor& norm_weight,
                                    const at::Tensor& norm_bias, const at::Tensor& w1,
                                    const at::Tensor& b1, const at::Tensor& w2,
                                    const at::Tensor& b2, const at::Tensor& lengths,
                                    double eps = 1e-5);

/// Registers ribo::pair_transition.
void register_pair_transition(torch::Library& m);

}  // namespace ribo::kernels
