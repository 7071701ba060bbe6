// The forward pass of the pair transition. A warp takes tiles of 32 positions from memory to
// memory on its own: norm, both products and the residual stay in its registers, and only weights
// are read from shared memory. 16 hidden units exist at a time; as the result of a product they
// lie just as the next product wants its operand.
#pragma once

#include "pair_transition/pair_transition_tile.cuh"

namespace ribo::kernels {

/// 16 positions each, of a warp: a fragment of weights serves both, and registers allow no more.
inline constexpr int kForwardParts = 2;
inline constexpr int kForwardThreads = 384;

/// Bytes in shared memory for the rows that follow, of all warps. For float32 they would not fit
/// beside the weights in 163 KB (sm_80): those are fetched into the second-level cache only.
template <class Io, int kChannels>
inline constexpr int kForwardAhead = sizeof(Io) == 2 ? kForwardThreads* kForwardParts* kChannels
                                                     : 0;

template <class Io, class T, int kChannels>
__global__ void __launch_bounds__(kForwardThreads, 1)
    transition_forward_kernel(Positions positions, const void* __restrict__ weights, int units,
                              float eps, const Io* __restrict__ x, Io* __restrict__ y) {
  constexpr int kParts = kForwardParts, kRows = 16 * kParts;
  constexpr int kSteps = kChannels / 16, kTiles = kChannels / 8;
  const StagedWeights<T, kChannels> staged(shared_memory<char>(), units);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int g = lane / 4, t = lane % 4;
  constexpr int kW1Stride = StagedWeights<T, kChannels>::kW1Stride;
  const int w2_stride = staged.w2_stride();
  const T* const w1_lane = staged.w1 + by_rows(lane, kW1Stride);
  const T* const w2_lane = staged.w2 + by_rows(lane, w2_stride);

  const unsigned stride = kRows * gridDim.x * (kForwardThreads / 32);
  unsigned first = kRows * (warp * gridDim.x + blockIdx.x);
  // What this lane copies there, and reads: [2 kParts, kWords, 32] for each warp.
  using Words = RowWords<Io, kChannels>;
  constexpr int kWords = kRowWords<Io, kChannels>;
  constexpr bool kAhead = sizeof(Io) == 2;
  Words* const ahead =
      reinterpret_cast<Words*>(staged.b2 + kChannels) + warp * (2 * kParts * kWords * 32) + lane;
  // Bit i: position at + i is real. Has those fetched.
  const auto fetch = [&](unsigned at) {
    const unsigned bits = __ballot_sync(~0u, positions.real(at + lane % kRows));
    if constexpr (kAhead) {
#pragma unroll
      for (int i = 0; i < 2 * kParts * kWords; ++i) {
        const int row = i / kWords * 8 + g;
        __pipeline_memcpy_async(ahead + 32 * i, words_at<kChannels>(x, at + row, t, i % kWords),
                                sizeof(Words), bits >> row & 1 ? 0 : sizeof(Words));
      }
      __pipeline_commit();
    } else if (lane < kRows && (bits >> lane & 1)) {
      prefetch_row<kChannels>(x, at + lane);
    }
    return bits;
  };
  staged.fetch(weights);
  unsigned next = fetch(first);
  __pipeline_wait_prior(0);
  __syncthreads();
  for (; first < positions.count; first += stride) {
    const unsigned real = next;
    Fragments<kTiles> out[kParts];
    uint32_t normed[kParts][kSteps][4];
    Norm norms[2 * kParts];
    __pipeline_wait_prior(0);
#pragma unroll
    for (int row = 0; row < 2 * kParts; ++row) {
      const auto set = [&](int v, float value) {
        value_at<kTiles>(out[row / 2], row % 2, v) = value;
      };
      if constexpr (kAhead) {
        unpack_row<Io, kChannels>([&](int k) { return ahead[32 * (row * kWords + k)]; }, set);
      } else {
        load_row<kChannels>(x, first + 8 * row + g, t, real >> (8 * row + g) & 1, set);
      }
    }
    normalise<T, kTiles>(normed, norms, out, eps);
    next = fetch(first + stride);
    if (real == 0) {
      for (int i = g; i < kRows && first + i < positions.count; i += 8) {
        store_row<kChannels>(y, first + i, t, [](int) { return 0.0f; });
      }
      continue;
    }
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const float2 bias = load_pair(staged.b2 + 8 * tile + 2 * t);
        out[part][tile][0] += bias.x, out[part][tile][1] += bias.y;
        out[part][tile][2] += bias.x, out[part][tile][3] += bias.y;
      }
    }
    const T *w1_at = w1_lane, *w2_at = w2_lane;
    const float* b1_at = staged.b1 + 2 * t;
    for (int h = 0; h < units; h += 16) {
      const float2 left = load_pair(b1_at), right = load_pair(b1_at + 8);
      Fragments<2> hidden[kParts];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        hidden[part][0][0] = hidden[part][0][2] = left.x;
        hidden[part][0][1] = hidden[part][0][3] = left.y;
        hidden[part][1][0] = hidden[part][1][2] = right.x;
        hidden[part][1][1] = hidden[part][1][3] = right.y;
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t w1[4];
        load_matrix_x4(w1, w1_at + 16 * step);
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          multiply<T>(hidden[part][0], hidden[part][1], normed[part][step], w1);
        }
      }
      uint32_t active[kParts][4];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        to_operand<T, /*kRelu=*/true>(active[part], hidden[part][0], hidden[part][1]);
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t w2[4];
        load_matrix_x4(w2, w2_at + 16 * step * w2_stride);
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          multiply<T>(out[part][2 * step], out[part][2 * step + 1], active[part], w2);
        }
      }
      w1_at += 16 * kW1Stride, w2_at += 16, b1_at += 16;
    }
#pragma unroll
    for (int row = 0; row < 2 * kParts; ++row) {
      const int i = 8 * row + g;
      if (real >> i & 1) {
        store_row<kChannels>(y, first + i, t,
                             [&](int v) { return value_at<kTiles>(out[row / 2], row % 2, v); });
      } else if (first + i < positions.count) {
        store_row<kChannels>(y, first + i, t, [](int) { return 0.0f; });
      }
    }
  }
}

}  // namespace ribo::kernels
