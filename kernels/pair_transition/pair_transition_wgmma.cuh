// What both directions of the pair transition share where a warpgroup's matrix instructions run
// (common/wgmma.cuh), for C = 64.
#pragma once

#include "common/wgmma.cuh"
#include "pair_transition/pair_transition_tile.cuh"

namespace ribo::kernels {

/// The most hidden units. Fewer are filled up with zeros.
inline constexpr int kWgmmaUnits = 256;

/// The weights in shared memory, in the order of StagedWeights. A bias is three values of T that
/// add up to it, so that a product of 16 more channels, three ones and zeros, adds it.
template <class T>
struct WgmmaWeights {
  static constexpr int kChannels = 64, kSteps = 16, kParts = 3;
  SwizzledRows<T> w1, w2;  // [units, C]: w2 transposed
  SwizzledRows<T> biases;  // [units / 64 + 1, 16, 64]: of b1 and, behind it, b2

  static constexpr int64_t kBytes =
      2 * (2 * kWgmmaUnits * kChannels + (kWgmmaUnits / 64 + 1) * kSteps * 64);

  __device__ explicit WgmmaWeights(void* shared, int = kWgmmaUnits)
      : w1(static_cast<T*>(shared)),
        w2(w1.rows + kWgmmaUnits * kChannels),
        biases(w2.rows + kWgmmaUnits * kChannels) {}

  __device__ void fetch(const void* from) const { fetch_bytes(w1.rows, from, kBytes); }

  /// The biases of the 64 units from 64 chunk on, B for ones() or A; kWgmmaUnits / 64 is b2's.
  __device__ WgmmaOperand<T, true> bias(int chunk) const { return biases.across(kSteps * chunk); }
  __device__ static void ones(uint32_t (&a)[4]) {
    const unsigned t = threadIdx.x % 4;
    a[0] = a[1] = t == 0 ? pack<T>(1, 1) : t == 1 ? pack<T>(1, 0) : 0;
    a[2] = a[3] = 0;
  }
  __device__ void set_w1(int row, int column, float low, float high) const {
    *reinterpret_cast<uint32_t*>(w1.at(row, column)) = pack<T>(low, high);
  }
  __device__ void set_w2(int row, int column, float low, float high) const {
    *w2.at(row, column) = narrow<T>(low);
    *w2.at(row + 1, column) = narrow<T>(high);
  }
  /// By a warp, whose lanes have a row each.
  __device__ void set_b1(int row, float value) const {
    const int step = static_cast<int>(threadIdx.x % 32);
    T part = narrow<T>(value);
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      if (i < step) {
        value -= widen(part);
        if (!(fabsf(value) < INFINITY)) value = 0;  // infinite or NaN, as the first part tells
        part = narrow<T>(value);
      }
    }
    if (step < kSteps) *bias_at(row, step) = step < kParts ? part : narrow<T>(0);
  }
  __device__ void set_b2(int column, float value) const { set_b1(kWgmmaUnits + column, value); }

 private:
  __device__ T* bias_at(int unit, int part) const {
    return biases.at(unit / 64 * kSteps + part, unit % 64);
  }
};

}  // namespace ribo::kernels
