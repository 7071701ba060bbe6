// The triangle multiplicative update of a pair representation.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace torch {
class Library;
}

namespace ribo::kernels {

/// The weights of a triangle multiplicative update, of a pair width C and a hidden width H. Linear
/// maps are [out, in], as torch::nn::Linear has them.
struct TriangleWeights {
  at::Tensor norm_weight, norm_bias;              // [C]
  at::Tensor left_weight, left_bias;              // [H, C], [H]
  at::Tensor left_gate_weight, left_gate_bias;    // [H, C], [H]
  at::Tensor right_weight, right_bias;            // [H, C], [H]
  at::Tensor right_gate_weight, right_gate_bias;  // [H, C], [H]
  at::Tensor out_gate_weight, out_gate_bias;      // [H, C], [H]
  at::Tensor out_norm_weight, out_norm_bias;      // [H]
  at::Tensor out_weight, out_bias;                // [C, H], [C]
};

/// Edge (i, j) learns from the edges that close a triangle with it. With u = norm(x),
///
///   left  = (left_weight u + left_bias) sigmoid(left_gate_weight u + left_gate_bias), right alike
///   outgoing: z[i, j] = sum_k left[i, k] right[j, k]
///   ingoing:  z[i, j] = sum_k left[k, j] right[k, i]
///   y = out_weight (out_norm(z) sigmoid(out_gate_weight u + out_gate_bias)) + out_bias
///
/// where k runs over the sequence's positions and both norms are layer norms, eps 1e-5. x is
/// [B, L, L, C] of any strides; lengths [B] whole numbers, or undefined for no padding. Returns
/// [B, L, L, C] in x's type, without x added. Rows and columns behind the lengths are never read,
/// take no time on the CPU, are zero in y and get zero gradients.
///
/// The CPU computes in float32 (float64 where x is), but under bf16 autocast products round their
/// operands where it has AVX512-BF16; other devices compute in autocast's type or x's. On CUDA,
/// where that is bfloat16 or float16 and C and H are multiples of 16 up to 64, products round their
/// operands and all else is float32. The weights may have any floating type. Differentiable once,
/// in x and all weights; the gradients are the same bits every time and for any number of threads.
/// Kept for the backward pass are x and three tensors [B, H, L, L] (left, right, z), in bfloat16
/// where the CPU rounds operands; gates and norms are recomputed. Throws Error where shapes, types
/// or devices disagree; lengths on a GPU that are not of 0 .. L may be taken as the nearest of
/// those.
///
/// Source: Jumper et al. 2021 (AlphaFold), supplementary algorithms 11 and 12; the ingoing one
/// transposed as in RibonanzaNet's TriangleMultiplicativeModule.
RIBO_API at::Tensor triangle_multiply(const at::Tensor& x, const TriangleWeights& weights,
                                      const at::Tensor& lengths, bool outgoing);

/// x + keep triangle_multiply(x, ...), the update with its residual and, where `keep` is defined, a
/// dropout behind it: keep are its factors, of [B, L, L, C] or with 1 for either L, in x's type and
/// without a gradient. On a CPU that takes no further pass over the pairs.
RIBO_API at::Tensor add_triangle_multiply(const at::Tensor& x, const TriangleWeights& weights,
                                          const at::Tensor& lengths, bool outgoing,
                                          const at::Tensor& keep);

/// Registers ribo::triangle_multiply, whose `weights` are TriangleWeights' members in their order;
/// with `residual` it is add_triangle_multiply().
void register_triangle_multiply(torch::Library& m);

}  // namespace ribo::kernels
