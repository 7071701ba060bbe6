// Sums of several values at once over lanes.
#pragma once

#include "common/cuda.cuh"

namespace ribo::kernels {

/// Sums of kCount values over kLanes lanes, whose numbers differ in the bits of (kLanes - 1) kMask:
/// the lane with the number i there gets the sums of the i-th kCount / kLanes values, as the first
/// ones of `value`. Each exchange halves what a lane answers for.
template <int kCount, int kLanes, int kMask, class T, int kSize>
__device__ inline void scatter_sums(T (&value)[kSize]) {
  if constexpr (kLanes > 1) {
    constexpr int kHalf = kCount / 2, kBit = kLanes / 2 * kMask;
    const bool upper = threadIdx.x & kBit;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const T keep = upper ? value[i + kHalf] : value[i];
      const T give = upper ? value[i] : value[i + kHalf];
      value[i] = keep + __shfl_xor_sync(~0u, give, kBit);
    }
    scatter_sums<kHalf, kLanes / 2, kMask>(value);
  }
}

}  // namespace ribo::kernels
