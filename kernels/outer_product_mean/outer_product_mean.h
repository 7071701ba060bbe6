// From a representation of single positions to one of pairs: projected outer products.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace torch {
class Library;
}

namespace ribo::kernels {

/// The outer product of every two positions' channels, projected, and added to `residual`:
///
///   out[b, i, j, z] = residual[b, i, j, z] + bias[z]
///                     + sum_{c, d} weight[z, c K + d] b[b, j, c] a[b, i, d]
///
/// a, b [B, L, K]; weight [C, K K]; bias [C], or undefined for none; residual [B, L, L, C], or
/// undefined for none; lengths [B] whole numbers, or undefined for no padding: rows i and columns j
/// behind a length are not read, are zero in the output and get zero gradients. Returns
/// [B, L, L, C] in residual's type, or else a's.
///
/// weight is contracted with a first, which gives the same numbers as projecting [B, L, L, K K] and
/// takes K times fewer operations; that tensor never exists. On the CPU everything is computed in
/// float32 (float64 where a is), but under bf16 autocast products with b round their operands where
/// the CPU has AVX512-BF16; elsewhere products take a's type, and autocast changes nothing.
/// Differentiable once, in all but lengths; only the arguments are kept for that. Throws Error
/// where shapes, types or devices disagree.
///
/// Source: Jumper et al. 2021 (AlphaFold), supplementary algorithm 10, as RibonanzaNet has it: of
/// one sequence, so without a mean.
RIBO_API at::Tensor outer_product_mean(const at::Tensor& a, const at::Tensor& b,
                                       const at::Tensor& weight, const at::Tensor& bias,
                                       const at::Tensor& residual, const at::Tensor& lengths);

/// Registers ribo::outer_product_mean.
void register_outer_product_mean(torch::Library& m);

}  // namespace ribo::kernels
