// Doubles to and from the types that kernels store, and how far apart they are.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/cuda.cuh"

namespace cuda_on_host {

template <class Io>
std::vector<Io> to(const std::vector<double>& x) {
  std::vector<Io> out;
  for (const double v : x) {
    out.push_back(ribo::kernels::narrow<Io>(static_cast<ribo::kernels::Real<Io>>(v)));
  }
  return out;
}
template <class Io>
std::vector<double> from(const std::vector<Io>& x) {
  std::vector<double> out;
  for (const Io v : x) out.push_back(ribo::kernels::widen(v));
  return out;
}

/// The largest difference, relative to the largest of what is wanted where that is above 1;
/// infinite where a NaN is.
inline double difference(const std::vector<double>& got, const std::vector<double>& want) {
  double most = 0, scale = 1;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = std::abs(got[i] - want[i]);
    most = std::isnan(d) ? INFINITY : std::max(most, d);
    scale = std::max(scale, std::abs(want[i]));
  }
  return most / scale;
}

}  // namespace cuda_on_host
