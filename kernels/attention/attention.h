// Attention with a bias that has a gradient, and the attention of pairs whose heads share one.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace torch {
class Library;
}

namespace ribo::kernels {

/// Attention that a pair representation biases:
///
///   out[b, h, i] = sum_j softmax_j(q[b, h, i] k[b, h, j] / sqrt(d) + bias[b, h, i, j]) v[b, h, j]
///
/// over the positions i, j < lengths[b]. q, k, v [B, H, L, d] of any strides; bias [B, H, L, L];
/// lengths [B] whole numbers, or undefined for no padding. Returns [B, H, L, d] in q's type; with
/// its dimensions 1 and 2 exchanged it is contiguous. What lies behind the lengths is never read,
/// gives zeros and gets zero gradients; so does a row whose biases are all minus infinity.
/// `dropout` is the probability that a weight becomes 0, drawn from LibTorch's generator; the
/// others grow by 1 / (1 - dropout).
///
/// Logits and softmax are float32 (float64 where q is) whatever autocast says. Differentiable once,
/// in q, k, v and bias. The backward pass recomputes the weights from q, k and bias; kept beside
/// these are a number a row, with dropout a byte a weight, and by CUDA's kernels the output. Throws
/// Error where shapes, types or devices disagree.
///
/// Source: Jumper et al. 2021 (AlphaFold), supplementary algorithm 7, without its gate, and
/// RibonanzaNet's self-attention.
RIBO_API at::Tensor pair_bias_attention(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& bias,
                                        const at::Tensor& lengths, double dropout = 0);

/// The attention of a pair representation along its rows or columns. Rows attend along themselves,
///
///   out[b, r, i, h] = sum_j softmax_j(q[b, r, i, h] k[b, r, j, h] / sqrt(d) + bias[b, i, j, h])
///                           v[b, r, j, h]
///
/// and with `columns` a column c, q[b, i, c], k[b, j, c] and v[b, j, c], takes the row's place. q,
/// k, v [B, L, L, H, d] of any strides; bias [B, L, L, H]; lengths as above, for both positions.
/// Returns [B, L, L, H, d], contiguous, in q's type.
///
/// Memory is that of the arguments and a fixed number of [B, L, L, H], never [B, L, L, L, H];
/// types, gradients and padding are as above.
///
/// Source: Jumper et al. 2021, supplementary algorithms 13 and 14, without their gate, as
/// RibonanzaNet has them (its column attention shares bias[i, j] among the columns).
RIBO_API at::Tensor triangle_attention(const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& v, const at::Tensor& bias,
                                       const at::Tensor& lengths, bool columns);

/// Registers ribo::pair_bias_attention and ribo::triangle_attention.
void register_attention(torch::Library& m);

}  // namespace ribo::kernels
