// The arguments of a depthwise convolution as the code for each device takes them.
#pragma once

#include <cstdint>

namespace ribo::kernels {

inline constexpr int64_t kConv1dWidest = 63;

/// y[b, t, c] = act(bias[c] + sum_j weight[j, c] x[b, t - before + j, c]), j = 0 .. width-1, where
/// x is zero outside the sequence and act is SiLU or the identity. Io is what x, y and their
/// gradients are stored in, T what everything else is and is computed in.
template <class Io, class T = Io>
struct Conv1dArgs {
  int64_t batch, length, channels, width, before;
  bool silu;
  const int64_t* lengths;  // [B] or null, each in 0 .. length
  const T* weight;         // [width, C]
  const T* bias;           // [C] or null
  const Io* x;
  int64_t x_batch, x_row;  // strides; channels lie side by side
  Io* y;                   // [B, L, C], forward only

  // Backward only.
  const Io* dy;
  int64_t dy_batch, dy_row;
  Io* dx;  // [B, L, C]
  // [B * conv1d_pieces(), width + 1, C]: for each piece of work the gradients of weight and, in the
  // last row, bias. Their sum, in the order of the pieces, is left in the first.
  T* sums;
};

/// Rows of time of one piece of work.
inline constexpr int64_t kConv1dPiece = 256;

inline int64_t conv1d_pieces(int64_t length) { return (length + kConv1dPiece - 1) / kConv1dPiece; }

}  // namespace ribo::kernels
