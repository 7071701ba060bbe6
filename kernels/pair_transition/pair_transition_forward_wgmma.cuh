// The forward pass of the pair transition by a warpgroup's matrix instructions, for C = 64 and up
// to 256 hidden units. A warpgroup takes tiles of 64 positions from memory to memory on its own:
// norm, both products and the residual stay in its registers, and weights are read from shared
// memory. 64 hidden units are ended while the product of the next 64 runs; as the result of a
// product they lie just as the next product wants its operand.
#pragma once

#include "pair_transition/pair_transition_wgmma.cuh"

namespace ribo::kernels {

inline constexpr int kWgmmaForwardThreads = 384;

/// Bytes of shared memory: weights, and two tiles' rows of each warpgroup.
template <class Io, class T>
inline constexpr int64_t kWgmmaForwardBytes = WgmmaWeights<T>::kBytes +
                                              int64_t{2 * 64 * 64 * sizeof(Io)} *
                                                  (kWgmmaForwardThreads / 128);

template <class Io, class T>
__global__ void __launch_bounds__(kWgmmaForwardThreads, 1)
    transition_forward_wgmma_kernel([[maybe_unused]] Positions positions,
                                    [[maybe_unused]] const void* __restrict__ folded,
                                    int /*hidden*/, [[maybe_unused]] float eps,
                                    [[maybe_unused]] const Io* __restrict__ x,
                                    [[maybe_unused]] Io* __restrict__ y) {
#ifdef RIBO_WGMMA
  constexpr int kChannels = 64, kTiles = kChannels / 8, kSteps = kChannels / 16, kRows = 64;
  constexpr int kChunks = kWgmmaUnits / 64;
  const WgmmaWeights<T> weights(shared_memory<char>());
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x / 32), 0);
  const int group = warp / 4, part = warp % 4 * 16;  // of the warp's 16 rows

  // What this lane copies there, and reads: [2, 2 kWords, threads].
  using Words = RowWords<Io, kChannels>;
  constexpr int kWords = kRowWords<Io, kChannels>;
  Words* const copied =
      reinterpret_cast<Words*>(shared_memory<char>() + WgmmaWeights<T>::kBytes) + threadIdx.x;
  const auto words = [&](int turn, int half, int k) -> Words& {
    return copied[((turn % 2 * 2 + half) * kWords + k) * kWgmmaForwardThreads];
  };
  // Has a tile's rows copied; bit i: position at + i is real.
  const auto fetch = [&](unsigned at, int turn) {
    uint64_t bits = __ballot_sync(~0u, positions.real(at + 32 + lane));
    bits = bits << 32 | __ballot_sync(~0u, positions.real(at + lane));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = part + 8 * half + g;
#pragma unroll
      for (int k = 0; k < kWords; ++k) {
        __pipeline_memcpy_async(&words(turn, half, k), words_at<kChannels>(x, at + row, t, k),
                                sizeof(Words), bits >> row & 1 ? 0 : sizeof(Words));
      }
    }
    __pipeline_commit();
    return bits;
  };

  const unsigned stride = kRows * gridDim.x * (kWgmmaForwardThreads / 128);
  unsigned first = kRows * (group * gridDim.x + blockIdx.x);
  uint64_t next = fetch(first, 0);
  await_previous();
  weights.fetch(folded);
  __pipeline_wait_prior(0);
  publish_to_wgmma();
  __syncthreads();
  uint32_t ones[4];
  WgmmaWeights<T>::ones(ones);
  for (int turn = 0; first < positions.count; ++turn, first += stride) {
    const uint64_t real = next;
    next = fetch(first + stride, turn + 1);
    __pipeline_wait_prior(1);
    if (real == 0) {
      for (int i = part + g; i < part + 16 && first + i < positions.count; i += 8) {
        store_row<kChannels>(y, first + i, t, [](int) { return 0.0f; });
      }
      continue;
    }
    const auto read = [&](int half, auto&& set) {
      unpack_row<Io, kChannels>([&](int k) { return words(turn, half, k); }, set);
    };
    uint32_t normed[1][kSteps][4];
    {
      Fragments<kTiles> values[1];
      Norm norms[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        read(half, [&](int v, float value) { value_at<kTiles>(values[0], half, v) = value; });
      }
      normalise<T, kTiles>(normed, norms, values, eps);
    }
    Sums64 hidden[2], out;
    // W1 n + b1 of 64 hidden units.
    const auto multiply_first = [&](int chunk) {
      wgmma<false>(hidden[chunk % 2], ones, weights.bias(chunk));
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        wgmma(hidden[chunk % 2], normed[0][step], weights.w1.along(64 * chunk, 16 * step));
      }
      end_wgmma();
    };
    begin_wgmma(ones, normed[0]);
    wgmma<false>(out, ones, weights.bias(kChunks));
    multiply_first(0);
    uint32_t active[kSteps][4];
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      if (chunk == 0) {
        begin_wgmma();
        multiply_first(chunk + 1);
        await_wgmma<1>(hidden[chunk % 2]);
      } else if (chunk + 1 < kChunks) {
        begin_wgmma();
        multiply_first(chunk + 1);
        await_wgmma<1>(hidden[chunk % 2], active);
      } else {
        await_wgmma<0>(hidden[chunk % 2], active);
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        to_operand<T, /*kRelu=*/true>(active[step], hidden[chunk % 2][2 * step],
                                      hidden[chunk % 2][2 * step + 1]);
      }
      begin_wgmma(active);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        wgmma(out, active[step], weights.w2.across(64 * chunk + 16 * step));
      }
      end_wgmma();
    }
    await_wgmma<0>(out);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = part + 8 * half + g;
      if (real >> i & 1) {
        read(half, [&](int v, float value) { value_at<kTiles>(out, half, v) += value; });
        store_row<kChannels>(y, first + i, t,
                             [&](int v) { return value_at<kTiles>(out, half, v); });
      } else if (first + i < positions.count) {
        store_row<kChannels>(y, first + i, t, [](int) { return 0.0f; });
      }
    }
  }
#endif
}

}  // namespace ribo::kernels
