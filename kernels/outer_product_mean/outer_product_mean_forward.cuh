// The forward pass: a block has the pairs of one position i, a warp 16 of them at a time. Rows go
// from memory to fragments and back (common/rows.cuh); the projected side stays in registers, and
// the sums begin as residual and bias. No shared memory.
#pragma once

#include "common/rows.cuh"
#include "outer_product_mean/outer_product_mean_cuda.h"

namespace ribo::kernels::outer_product {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = 32 * kWarps;

template <class Io, class T, int kWidth, int kChannels>
__global__ void __launch_bounds__(kThreads) forward_kernel(CudaOuterProductForward a) {
  constexpr int kSteps = kWidth / 16, kTiles = kChannels / 8;
  using Order = RowOrder<Io, kChannels>;
  using Row = Words<kWidth / 8>;  // a lane's part of K numbers, in RowOrder
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int g = lane / 4, t = lane % 4;
  const auto row_of = [&](const void* rows, int64_t index) {
    const T* const row = static_cast<const T*>(rows) + index * kWidth;
    return *reinterpret_cast<const Row*>(row + t * (kWidth / 4));
  };

  const int64_t position = blockIdx.x, sequence = position / a.length;
  const auto end = static_cast<int>(length_of(a.lengths, sequence, a.length));
  const int real = position - sequence * a.length < end ? end : 0;  // pairs that are
  Row projected[kTiles] = {};
  float bias[Order::kValues] = {};
  if (real > 0) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      projected[tile] = row_of(a.projected, position * kChannels + Order::channel(8 * tile + g));
    }
    if (a.bias != nullptr) {
#pragma unroll
      for (int v = 0; v < Order::kValues; ++v) {
        const int z = Order::channel(16 * (v / 4) + 8 * (v / 2 % 2) + 2 * t + v % 2);
        bias[v] = a.wide_bias ? static_cast<const float*>(a.bias)[z]
                              : widen(static_cast<const T*>(a.bias)[z]);
      }
    }
  }
  const auto* const residual = static_cast<const Io*>(a.residual);
  auto* const out = static_cast<Io*>(a.out);
  const int64_t first_row = position * a.length;
  // Has the second-level cache fetch this warp's rows from j = `first` on.
  const auto fetch = [&](int first) {
    const int j = first + lane;
    if (residual != nullptr && lane < 16 && j < real) {
      prefetch_row<kChannels>(residual, static_cast<unsigned>(first_row + j));
    }
  };
  constexpr int kStep = 16 * kWarps;
  fetch(16 * warp + kStep);
  for (int first = 16 * warp; first < a.length; first += kStep) {
    fetch(first + 2 * kStep);
    Fragments<kTiles> sum;
    Row b[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int j = first + 8 * half + g;
      const bool there = j < real;
      load_row<kChannels>(residual, static_cast<unsigned>(first_row + j), t,
                          there && residual != nullptr,
                          [&](int v, float x) { value_at<kTiles>(sum, half, v) = x + bias[v]; });
      if (there) b[half] = row_of(a.b, sequence * a.length + j);
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int low = 2 * step, high = 2 * step + 1;
      const uint32_t left[4] = {b[0].word[low], b[1].word[low], b[0].word[high], b[1].word[high]};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const uint32_t right[2] = {projected[tile].word[low], projected[tile].word[high]};
        mma_16x8x16<T>(sum[tile], left, right);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int j = first + 8 * half + g;
      if (j >= a.length) continue;
      store_row<kChannels>(out, static_cast<unsigned>(first_row + j), t,
                           [&](int v) { return j < real ? value_at<kTiles>(sum, half, v) : 0.0f; });
    }
  }
}

}  // namespace ribo::kernels::outer_product
