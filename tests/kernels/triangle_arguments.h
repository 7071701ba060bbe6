// Random arguments of triangle_multiply.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

namespace ribo::testing {

/// x [B, L, L, C], then TriangleWeights' members in their order.
inline std::vector<at::Tensor> random_triangle(int64_t batch, int64_t length, int64_t channels,
                                               int64_t hidden, at::ScalarType type) {
  const auto map = [&](int64_t out, int64_t in) {
    return at::randn({out, in}, type) / std::sqrt(static_cast<double>(in));
  };
  const auto vector = [&](int64_t n, double mean) { return at::randn({n}, type) * 0.3 + mean; };
  std::vector<at::Tensor> a = {at::randn({batch, length, length, channels}, type) * 2 + 0.5,
                               vector(channels, 1), vector(channels, 0)};
  for (int i = 0; i < 5; ++i) {
    a.push_back(map(hidden, channels));
    a.push_back(vector(hidden, i % 2));
  }
  a.insert(a.end(),
           {vector(hidden, 1), vector(hidden, 0), map(channels, hidden), vector(channels, 0)});
  return a;
}

}  // namespace ribo::testing
