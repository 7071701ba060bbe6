// The bias in the arrangement that the kernels of many groups read (Arrangement), and its gradient
// back from there.
#pragma once

#include "attention/attention_tile.cuh"

namespace ribo::kernels::attention {

inline constexpr int kBiasThreads = 256;

/// A thread has a value of `to`, a block part of the `blocks` of a head.
template <class From, class To>
__global__ void __launch_bounds__(kBiasThreads) bias_kernel(CudaAttentionBias a, int blocks) {
  using Arranged = Arrangement<To>;
  constexpr int kPiece = Arranged::kPiece;
  const Arranged arranged(a.length);
  const int head = static_cast<int>(blockIdx.x) / blocks;
  const int at =
      static_cast<int>(blockIdx.x) % blocks * kBiasThreads + static_cast<int>(threadIdx.x);
  const int tile = at / 512, lane = at / kPiece % 32;
  const int value = at % 512 / (32 * kPiece) * kPiece + at % kPiece;
  const int i = tile / arranged.chunks * 16 + value / 2 % 2 * 8 + lane / 4;
  const int j = tile % arranged.chunks * kChunk + value / 4 * 8 + lane % 4 * 2 + value % 2;
  const From* const from = static_cast<const From*>(a.from);
  float x = 0;
  if (i < a.length && j < a.length) {
    const int64_t b = head / a.heads, h = head % a.heads;
    x = widen(a.transposed
                  ? from[head * arranged.size() + arranged.at(j, i)]
                  : from[b * a.steps[0] + h * a.steps[1] + i * a.steps[2] + j * a.steps[3]]);
  }
  static_cast<To*>(a.to)[head * arranged.size() + at] = narrow<To>(a.factor * x);
}

/// Adds the slices of the gradient in their order. A warp has a row.
template <class X>
__global__ void __launch_bounds__(kBiasThreads) add_bias_kernel(CudaAttentionBackward a) {
  const int64_t rows = int64_t{a.batch} * a.heads * a.length;
  const int64_t row = int64_t{blockIdx.x} * (kBiasThreads / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  const int pitch = pitch_of(a.length);
  const float* const from = a.bias_sums + row * pitch;
  X* const to = static_cast<X*>(a.bias_grad) + row * a.length;
  for (int j = static_cast<int>(threadIdx.x % 32); j < a.length; j += 32) {
    float sum = 0;
    for (int slice = 0; slice < a.slices; ++slice) sum += from[slice * rows * pitch + j];
    to[j] = narrow<X>(sum);
  }
}

}  // namespace ribo::kernels::attention
