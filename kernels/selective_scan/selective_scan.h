// The selective scan of Mamba: a linear recurrence whose coefficients depend on the input.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace ribo::kernels {

/// For every sequence b, channel d and state n, with h = 0 before the first position:
///
///   h[t, d, n] = exp(delta[t, d] A[d, n]) h[t-1, d, n] + delta[t, d] u[t, d] B[t, n]
///   y[t, d]    = sum_n C[t, n] h[t, d, n] + D[d] u[t, d]
///
/// u, delta [B, L, D] (delta after its softplus, >= 0); A [D, N] (negative, so that the state
/// decays); B, C [B, L, N]; D [D], or undefined for no skip. All of a floating type, on one device.
/// Returns y [B, L, D] in u's type. A position with delta = 0 passes the state on unchanged.
///
/// The state is float32 whatever autocast or the inputs' types say (float64 where u is float64).
/// Differentiable once, in all six. States are kept only at chunk boundaries and recomputed in the
/// backward pass: memory is that of a few [B, L, D] tensors, not of [B, L, D, N].
/// Throws Error where the shapes disagree.
///
/// Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
/// arXiv:2312.00752, algorithm 2 (with B's simplified Euler discretisation, as mamba-ssm does).
RIBO_API at::Tensor selective_scan(const at::Tensor& u, const at::Tensor& delta,
                                   const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                   const at::Tensor& D);

}  // namespace ribo::kernels
