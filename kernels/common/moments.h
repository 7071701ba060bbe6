// Mean and deviation over channels, for vectors of positions.
#pragma once

#include "common/vec.h"

namespace ribo::kernels {
namespace RIBO_ISA {

/// What a layer norm adds to the variance: PyTorch's default.
inline constexpr double kNormEps = 1e-5;

template <class T>
[[gnu::always_inline]] inline Vec<T> inverse_deviation(Vec<T> variance) {
  for (int i = 0; i < lanes<T>; ++i) {
    variance[i] = T{1} / std::sqrt(variance[i] + static_cast<T>(kNormEps));
  }
  return variance;
}

/// Mean and 1 / deviation of n channels for two vectors of positions; `stride` elements from
/// channel to channel.
template <class T, class S>
[[gnu::always_inline]] inline void moments(const S* x, int64_t n, int64_t stride, T* mean,
                                           T* scale) {
  const T share = T{1} / static_cast<T>(n);
  // The sum of value(x[c, v]) for both vectors v. Even and odd channels apart: a single sum would
  // wait for itself.
  const auto add = [&](Vec<T>(&sum)[2], auto value) {
    Vec<T> odd[2] = {};
    sum[0] = sum[1] = Vec<T>{};
    const auto next = [&](Vec<T>(&to)[2], int64_t c) {
      for (int v = 0; v < 2; ++v) to[v] += value(load(x + c * stride + v * lanes<T>), v);
    };
    int64_t c = 0;
    for (; c + 2 <= n; c += 2) {
      next(sum, c);
      next(odd, c + 1);
    }
    if (c < n) next(sum, c);
    for (int v = 0; v < 2; ++v) sum[v] += odd[v];
  };
  Vec<T> centre[2], squares[2];
  add(centre, [](Vec<T> value, int) { return value; });
  for (Vec<T>& v : centre) v *= share;
  add(squares, [&](Vec<T> value, int v) { return (value - centre[v]) * (value - centre[v]); });
  for (int v = 0; v < 2; ++v) {
    store<T>(mean + v * lanes<T>, centre[v]);
    store<T>(scale + v * lanes<T>, inverse_deviation<T>(squares[v] * share));
  }
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
