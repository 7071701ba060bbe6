// What the backward kernels of the pair transition share: a warp's rows on their way in and out,
// and what a block leaves (pair_transition_sums.cuh).
#pragma once

#include "pair_transition/pair_transition_sums.cuh"
#include "pair_transition/pair_transition_tile.cuh"

namespace ribo::kernels {

/// The first tile of kPositions from `first` on, `stride` apart, that is not all padding; others
/// get zeros in dx. By all kThreads of a block.
template <int kPositions, int kThreads, int kChannels, class Io>
__device__ inline unsigned next_tile(const Positions& positions, unsigned first, unsigned stride,
                                     Io* dx) {
  const int lane = static_cast<int>(threadIdx.x % 32), row = static_cast<int>(threadIdx.x / 4);
  for (; positions.lengths != nullptr && first < positions.count; first += stride) {
    bool any = false;
#pragma unroll
    for (int i = 0; i < kPositions; i += 32) any |= positions.real(first + i + lane);
    if (__ballot_sync(~0u, any) != 0) break;
    for (unsigned i = first + row; i < first + kPositions && i < positions.count;
         i += kThreads / 4) {
      store_row<kChannels>(dx, i, lane % 4, [](int) { return 0.0f; });
    }
  }
  return first;
}

/// A lane's part of a warp's 16 rows, of x or dy.
template <class Io, int kChannels>
struct RowsOfLane {
  static constexpr int kWords = kRowWords<Io, kChannels>;
  RowWords<Io, kChannels> words[2][kWords];

  /// Those from `first` on, where bit i of `real` says whether row i is; zeros elsewhere.
  __device__ void load(const Io* from, unsigned first, unsigned real) {
    const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = 8 * half + lane / 4;
#pragma unroll
      for (int k = 0; k < kWords; ++k) {
        words[half][k] = {};
        if (real >> i & 1) words[half][k] = *words_at<kChannels>(from, first + i, lane % 4, k);
      }
    }
  }
  __device__ void widen_to(Fragments<kChannels / 8>& to) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      unpack_row<Io, kChannels>(
          [&](int k) { return words[half][k]; },
          [&](int v, float value) { value_at<kChannels / 8>(to, half, v) = value; });
    }
  }
};

/// x, normalised, to store(step, n), operands A of 16 channels, and the norms' scale, or -1 where a
/// row is not real, to `scale`.
template <class T, class Io, int kChannels, class Store>
__device__ inline void bring_normed(const RowsOfLane<Io, kChannels>& x, unsigned real, float* scale,
                                    float eps, Store&& store) {
  constexpr int kTiles = kChannels / 8, kSteps = kChannels / 16;
  const int lane = static_cast<int>(threadIdx.x % 32);
  Fragments<kTiles> values[1];
  uint32_t normed[1][kSteps][4];
  Norm norms[2];
  x.widen_to(values[0]);
  normalise<T, kTiles>(normed, norms, values, eps);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) store(step, normed[0][step]);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = 8 * half + lane / 4;
    if (lane % 4 == 0) scale[i] = real >> i & 1 ? norms[half].scale : -1.0f;
  }
}

/// dy to store(step, dy), operands A of 16 channels, and to add(quad, sums), four of a lane's
/// channels each.
template <class T, class Io, int kChannels, class Store, class Add>
__device__ inline void bring_dy(const RowsOfLane<Io, kChannels>& dy, Store&& store, Add&& add) {
  constexpr int kTiles = kChannels / 8, kSteps = kChannels / 16;
  Fragments<kTiles> grads;
  dy.widen_to(grads);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t operand[4];
    if constexpr (std::is_same_v<Io, T>) {
      constexpr int kEach = sizeof(dy.words[0][0]) / 4;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int word = 2 * step + j / 2;
        operand[j] = dy.words[j % 2][word / kEach].word[word % kEach];
      }
    } else {
      to_operand<T>(operand, grads[2 * step], grads[2 * step + 1]);
    }
    store(step, operand);
    const auto both = [&](int i) {
      return value_at<kTiles>(grads, 0, 4 * step + i) + value_at<kTiles>(grads, 1, 4 * step + i);
    };
    add(step, float4{both(0), both(1), both(2), both(3)});
  }
}

/// dx of a lane's row, which is half of its fragments, at `position`: dn through the norm, and dy.
/// What bring_rows() gave comes back by read_n(words), read_dy(words), two values each, and
/// `scale`.
template <class T, int kChannels, class Io, class N, class Dy>
__device__ inline void finish_row(Fragments<kChannels / 8>& dn, int half, float scale,
                                  unsigned position, unsigned count, const Io* d, Io* dx,
                                  N&& read_n, Dy&& read_dy) {
  constexpr int kTiles = kChannels / 8, kValues = kChannels / 4;
  const int t = static_cast<int>(threadIdx.x % 4);
  const auto value_in = [](const uint32_t(&words)[kTiles], int v) {
    float value[2];
    unpack<T>(words[v / 2], value[0], value[1]);
    return value[v % 2];
  };
  uint32_t n[kTiles];
  read_n(n);
  float along[1] = {};  // n times dn. The mean of dn is 0.
#pragma unroll
  for (int v = 0; v < kValues; ++v) along[0] += value_at<kTiles>(dn, half, v) * value_in(n, v);
  add_lanes(along);
  const bool real = scale != -1;
  const float slope = along[0] / kChannels;
  if (position >= count) return;
  if (!real) {
    store_row<kChannels>(dx, position, t, [](int) { return 0.0f; });
    return;
  }
  const auto store = [&](auto&& of_dy) {
    store_row<kChannels>(dx, position, t, [&](int v) {
      return of_dy(v) + scale * (value_at<kTiles>(dn, half, v) - value_in(n, v) * slope);
    });
  };
  // dy may have been rounded on its way to shared memory.
  if constexpr (std::is_same_v<Io, T>) {
    uint32_t words[kTiles];
    read_dy(words);
    store([&](int v) { return value_in(words, v); });
  } else {
    float values[kValues];
    load_row<kChannels>(d, position, t, true, [&](int v, float x) { values[v] = x; });
    store([&](int v) { return values[v]; });
  }
}

/// Sums of dy in shared memory, [C / 16, kThreads, 4]: of each lane's rows and channels.
template <int kThreads>
__device__ inline float4& db2_quad(float* db2, int quad) {
  return reinterpret_cast<float4*>(db2)[quad * kThreads + static_cast<int>(threadIdx.x) % kThreads];
}
template <int kChannels, int kThreads>
__device__ inline void clear_db2(float* db2) {
#pragma unroll
  for (int quad = 0; quad < kChannels / 16; ++quad) db2_quad<kThreads>(db2, quad) = {0, 0, 0, 0};
}
/// By the block, behind a barrier.
template <class Io, int kChannels, int kThreads>
__device__ inline void leave_db2(const float* db2, float* to) {
  const int threads = static_cast<int>(blockDim.x);
  for (int channel = static_cast<int>(threadIdx.x); channel < kChannels; channel += threads) {
    const int column = RowOrder<Io, kChannels>::column(channel), t = column % 8 / 2;
    float sum = 0;
#pragma unroll 16
    for (int thread = t; thread < kThreads; thread += 4) {
      sum += db2[(column / 16 * kThreads + thread) * 4 + column / 8 % 2 * 2 + column % 2];
    }
    to[channel] = sum;
  }
}

/// The row of a unit, which half a lane's fragments belong to.
template <int kChannels>
__device__ inline void leave_unit(Fragments<kChannels / 8>& dw1, Fragments<kChannels / 8>& dw2,
                                  int half, float db1, int unit, int hidden, float* to) {
  constexpr int kRow = kSumsRow<kChannels>, kTiles = kChannels / 8;
  const int t = static_cast<int>(threadIdx.x % 4);
  if (unit >= hidden) return;
  const auto store_quad = [&](float* at, Fragments<kTiles>& x, int quad) {
    const auto value = [&](int i) { return value_at<kTiles>(x, half, 4 * quad + i); };
    *reinterpret_cast<float4*>(at) = {value(0), value(1), value(2), value(3)};
  };
#pragma unroll
  for (int quad = 0; quad < kChannels / 16; ++quad) {
    float* const at = to + unit * kRow + 16 * quad + 4 * t;
    store_quad(at, dw1, quad);
    store_quad(at + kChannels, dw2, quad);
  }
  if (t == 0) to[unit * kRow + 2 * kChannels] = db1;
}

}  // namespace ribo::kernels
