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
  Vec<T> a{}, b{};
  for (int64_t c = 0; c < n; ++c) {
    a += load(x + c * stride);
    b += load(x + c * stride + lanes<T>);
  }
  const Vec<T> mean_a = a * share, mean_b = b * share;
  a = b = Vec<T>{};
  for (int64_t c = 0; c < n; ++c) {
    const Vec<T> da = load(x + c * stride) - mean_a;
    const Vec<T> db = load(x + c * stride + lanes<T>) - mean_b;
    a += da * da;
    b += db * db;
  }
  store<T>(mean, mean_a);
  store<T>(mean + lanes<T>, mean_b);
  store<T>(scale, inverse_deviation<T>(a * share));
  store<T>(scale + lanes<T>, inverse_deviation<T>(b * share));
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
