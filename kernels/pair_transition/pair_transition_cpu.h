// The CPU's part of pair_transition: raw pointers, no LibTorch.
#pragma once

#include <cstdint>

#include "common/isa.h"

namespace ribo::kernels {

/// Which positions count. With lengths: of [batch, length, length] those whose two indices lie
/// below lengths[b]; without: the first `count`, in a row.
struct Pairs {
  const int64_t* lengths;
  int64_t batch, length;
  int64_t count;
};

/// Every matrix contiguous, in the layout of pair_transition.h. Positions that don't count are
/// neither read nor written.
template <class T>
struct TransitionArgs {
  Pairs pairs;
  int channels, hidden;
  double eps;
  /// x, y, dy and dx are bfloat16 instead of T.
  bool bfloat16;
  const void* x;
  const T *norm_weight, *norm_bias, *w1, *b1, *w2, *b2;
  void* y;
  // Backward only.
  const void* dy;
  void* dx;
  T *d_norm_weight, *d_norm_bias, *dw1, *db1, *dw2, *db2;
  /// As many elements as transition_scratch() says.
  T* scratch;
};

template <Isa isa, class T>
int64_t transition_scratch(const TransitionArgs<T>& a, bool backward);
/// Writes y.
template <Isa isa, class T>
void transition_forward(const TransitionArgs<T>& a);
/// Writes dx and the six gradients of the parameters.
template <Isa isa, class T>
void transition_backward(const TransitionArgs<T>& a);

}  // namespace ribo::kernels
