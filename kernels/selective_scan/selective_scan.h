// The selective scan of Mamba: a linear recurrence whose coefficients depend on the input.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace torch {
class Library;
}

namespace ribo::kernels {

/// All floating, each of any floating type, on one device; any strides. An undefined tensor is an
/// argument that is not given. B batch, L positions, D channels, N states (1 to 256), G groups.
struct SelectiveScanArgs {
  at::Tensor u, delta;       // [B, L, D]
  at::Tensor A;              // [D, N], negative, so that the state decays
  at::Tensor B, C;           // [B, L, N], or [B, L, G, N] for the groups of D / G channels
  at::Tensor D;              // [D], optional: skip
  at::Tensor z;              // [B, L, D], optional: gate
  at::Tensor delta_bias;     // [D], optional
  at::Tensor initial_state;  // [B, D, N], optional: zero
  /// [B] of integers, on the CPU or on u's device, optional: how many positions of each sequence
  /// count. What lies behind them is never read; y and the gradients are zero there.
  at::Tensor lengths;
  bool delta_softplus = false;
  /// Scan from each sequence's last position (of its own length) to its first.
  bool reverse = false;
};

struct SelectiveScanResult {
  at::Tensor y;           // [B, L, D], of u's type
  at::Tensor last_state;  // [B, D, N], float32 (float64 where u is); also an initial_state's type
};

/// For every sequence b, channel d of group g and state n, h starting as the initial state:
///
///   dt[t, d]   = delta[t, d] + delta_bias[d], or softplus of that
///   h[t, d, n] = exp(dt[t, d] A[d, n]) h[t-1, d, n] + dt[t, d] u[t, d] B[t, g, n]
///   y[t, d]    = (sum_n C[t, g, n] h[t, d, n] + D[d] u[t, d]) silu(z[t, d])
///
/// and last_state = h behind the last position. A position with dt = 0 passes the state on.
///
/// Computes in float32 whatever autocast or the narrow types say (in float64 where u is float64).
/// Differentiable once, in all nine floating arguments, through y and last_state; the gradients are
/// the same bits for any number of threads. The backward pass recomputes the states from those kept
/// every few positions, and everything else from the arguments: memory is that of a few [B, L, D]
/// tensors, not of [B, L, D, N].
/// Throws Error where a shape, a type, a device or a length is not as stated.
///
/// Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
/// arXiv:2312.00752, algorithm 2 (with B's simplified Euler discretisation, as mamba-ssm does).
RIBO_API SelectiveScanResult selective_scan(const SelectiveScanArgs& args);

void register_selective_scan(torch::Library& m);

}  // namespace ribo::kernels
