// Depthwise convolutions along the sequence, channels last.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace torch {
class Library;
}

namespace ribo::kernels {

/// The short convolution of a Mamba block: every residue sees itself and the K - 1 before it (5').
///
///   y[b, t, c] = act(bias[c] + sum_k weight[c, k] x[b, t - (K-1) + k, c])
///   reverse:     act(bias[c] + sum_k weight[c, k] x[b, t + (K-1) - k, c])   (those after it, 3')
///
/// x [B, L, C]; weight [C, K], K = 1 .. 63; bias [C], or undefined for none; lengths [B] int64 with
/// values 0 .. L, or undefined where every sequence has L residues; act is SiLU with `silu`, else
/// the identity. x is zero outside its sequence: what lies behind a length is never read, y and
/// the gradients there are zero, and it costs no time.
///
/// All of a floating type and on one device, lengths on the CPU or there. Any strides; rows whose
/// channels lie side by side are not copied (a half of a projection's output, say). Computes in
/// float32, in float64 where x is float64, whatever autocast says; y has x's type, every gradient
/// that of its tensor. Differentiable once, in x, weight and bias; keeps x alone for the backward
/// pass. Gradients are the same bits on each run and for any number of threads.
/// Throws Error that names the argument.
///
/// Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
/// arXiv:2312.00752, section 3.4.
RIBO_API at::Tensor causal_conv1d(const at::Tensor& x, const at::Tensor& weight,
                                  const at::Tensor& bias, const at::Tensor& lengths, bool silu,
                                  bool reverse);

/// Filters of several widths over each channel, summed:
///
///   y[b, t, c] = bias[c] + sum_i sum_k weights[i][c, k] x[b, t - before_i + k, c]
///
/// with before_i = K_i / 2 (centred; K_i odd), or K_i - 1 with `causal`. weights[i] [C, K_i], at
/// least one. The filters are added to one before they meet x, so that a further width costs
/// nothing. The rest as in causal_conv1d.
///
/// Source: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions",
/// arXiv:1610.02357.
RIBO_API at::Tensor depthwise_conv1d(const at::Tensor& x, at::TensorList weights,
                                     const at::Tensor& bias, const at::Tensor& lengths,
                                     bool causal);

void register_conv1d(torch::Library& m);

}  // namespace ribo::kernels
