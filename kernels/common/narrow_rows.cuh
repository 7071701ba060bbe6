// Rows of few channels for arithmetic in float32: neighbouring lanes have a row together, each
// eight neighbouring channels of it, so that a warp reads and writes several rows in accesses of 16
// bytes and sums over a row with a few exchanges.
#pragma once

#include "common/cuda_float.h"
#include "common/rows.cuh"

namespace ribo::kernels {

inline constexpr int kRowVector = 8;  // channels of a lane

__host__ __device__ inline bool is_narrow(int channels) {
  return channels == 16 || channels == 32 || channels == 64 || channels == 128;
}

/// f(std::integral_constant<int, channels>{}), for is_narrow().
template <class F>
auto with_channels(int channels, F&& f) {
  switch (channels) {
    case 16:
      return f(std::integral_constant<int, 16>{});
    case 32:
      return f(std::integral_constant<int, 32>{});
    case 128:
      return f(std::integral_constant<int, 128>{});
    default:
      return f(std::integral_constant<int, 64>{});
  }
}

/// f(X{}) for the type.
template <class F>
auto with_float(CudaFloat type, F&& f) {
  switch (type) {
    case CudaFloat::bfloat16:
      return f(__nv_bfloat16{});
    case CudaFloat::float16:
      return f(__half{});
    default:
      return f(float{});
  }
}

/// How a block of kWarps warps shares out a tile of rows, of which each lane has kPasses at a time.
template <int kChannels, int kWarps, int kPasses>
struct NarrowRows {
  static constexpr int kLanes = kChannels / kRowVector, kRows = 32 / kLanes;  // of a row; of a warp
  static constexpr int kTile = kWarps * kPasses * kRows;                      // rows of a block

  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  /// The thread's place in its rows; its first channel.
  __device__ static int part() { return static_cast<int>(threadIdx.x) % kLanes; }
  __device__ static int column() { return part() * kRowVector; }
  /// The thread's row of that pass, in the tile.
  __device__ static int row(int pass) {
    return (warp() * kPasses + pass) * kRows + static_cast<int>(threadIdx.x) % 32 / kLanes;
  }

  /// The sum over a row's lanes, for each of them.
  __device__ static float sum(float x) {
#pragma unroll
    for (int lanes = 1; lanes < kLanes; lanes *= 2) x += __shfl_xor_sync(~0u, x, lanes);
    return x;
  }
  /// The sum over a warp's rows, for each of its lanes.
  __device__ static float sum_of_rows(float x) {
#pragma unroll
    for (int lanes = kLanes; lanes < 32; lanes *= 2) x += __shfl_xor_sync(~0u, x, lanes);
    return x;
  }

  /// A row's part minus the row's mean over its deviation, in place; returns 1 / deviation.
  __device__ static float normalise(float (&x)[kRowVector], float eps) {
    constexpr float kShare = 1.0f / kChannels;
    float mean = 0, variance = 0;
#pragma unroll
    for (int i = 0; i < kRowVector; ++i) mean += x[i];
    mean = sum(mean) * kShare;
#pragma unroll
    for (int i = 0; i < kRowVector; ++i) x[i] -= mean, variance += x[i] * x[i];
    const float scale = rsqrtf(sum(variance) * kShare + eps);
#pragma unroll
    for (int i = 0; i < kRowVector; ++i) x[i] *= scale;
    return scale;
  }
  /// The gradient of the row from that of the normalised one, in place.
  __device__ static void differentiate(float (&d)[kRowVector], const float (&normed)[kRowVector],
                                       float scale) {
    constexpr float kShare = 1.0f / kChannels;
    float mean = 0, along = 0;
#pragma unroll
    for (int i = 0; i < kRowVector; ++i) mean += d[i], along += d[i] * normed[i];
    mean = sum(mean) * kShare, along = sum(along) * kShare;
#pragma unroll
    for (int i = 0; i < kRowVector; ++i) d[i] = scale * (d[i] - mean - normed[i] * along);
  }
};

/// Eight neighbouring values.
template <class X>
__device__ inline void load(const X* from, float (&to)[kRowVector]) {
  constexpr int kOfWord = 4 / static_cast<int>(sizeof(X));
#pragma unroll
  for (int i = 0; i < kRowVector; i += 4 * kOfWord) {
    const Words<4> words = *reinterpret_cast<const Words<4>*>(from + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if constexpr (sizeof(X) == 4) {
        to[i + j] = __uint_as_float(words.word[j]);
      } else {
        unpack<X>(words.word[j], to[i + 2 * j], to[i + 2 * j + 1]);
      }
    }
  }
}
template <class X>
__device__ inline void store(X* to, const float (&from)[kRowVector]) {
  constexpr int kOfWord = 4 / static_cast<int>(sizeof(X));
#pragma unroll
  for (int i = 0; i < kRowVector; i += 4 * kOfWord) {
    Words<4> words;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if constexpr (sizeof(X) == 4) {
        words.word[j] = __float_as_uint(from[i + j]);
      } else {
        words.word[j] = pack<X>(from[i + 2 * j], from[i + 2 * j + 1]);
      }
    }
    store_words(to + i, words);
  }
}

}  // namespace ribo::kernels
