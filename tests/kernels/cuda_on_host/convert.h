// Doubles to and from the types that kernels store.
#pragma once

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

}  // namespace cuda_on_host
