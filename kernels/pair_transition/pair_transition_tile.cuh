// What both directions of the pair transition share: which positions are real, and the weights in
// shared memory.
//
// The norm's weight and bias go into the first linear map: with n = (x - mean) / deviation,
//   W1 (n weight + bias) + b1 = (W1 diag(weight)) n + (b1 + W1 bias).
//
// n's channels add up to zero, so that the rows of W1 diag(weight) may lose their means. Without
// them, the gradient that comes back to n adds up to zero as well, as the norm's derivative wants.
#pragma once

#include <cuda_pipeline.h>

#include "common/rows.cuh"

namespace ribo::kernels {

__device__ inline float2 load_pair(const float* from) {
  return *reinterpret_cast<const float2*>(from);
}

/// Which of the positions [B, L, L] lie inside the lengths.
struct Positions {
  unsigned count;          // below 2^31
  int length;              // L
  const int64_t* lengths;  // [B] or null

  __device__ bool real(unsigned position) const {
    if (position >= count) return false;
    if (lengths == nullptr) return true;
    const auto side = static_cast<unsigned>(length);
    const unsigned row = position / side;
    const int64_t end = lengths[row / side];
    return row % side < end && position % side < end;
  }
};

/// Parameters and their gradients, all float32 or all of T.
template <class T>
struct Parameters {
  bool wide;

  __device__ float at(const void* from, int64_t i) const {
    return wide ? static_cast<const float*>(from)[i] : widen(static_cast<const T*>(from)[i]);
  }
  /// Four from i on, a multiple of four.
  __device__ float4 quad(const void* from, int64_t i) const {
    if (wide) return *reinterpret_cast<const float4*>(static_cast<const float*>(from) + i);
    const auto words = *reinterpret_cast<const Words<2>*>(static_cast<const T*>(from) + i);
    float4 value;
    unpack<T>(words.word[0], value.x, value.y);
    unpack<T>(words.word[1], value.z, value.w);
    return value;
  }
  __device__ void set(void* to, int64_t i, float value) const {
    if (wide) {
      static_cast<float*>(to)[i] = value;
    } else {
      static_cast<T*>(to)[i] = narrow<T>(value);
    }
  }
};

template <class T>
struct TransitionWeights : Parameters<T> {
  int hidden;
  float eps;
  const void *norm_weight, *norm_bias, *w1, *b1, *w2, *b2;
};

template <class T>
struct TransitionGradients : Parameters<T> {
  void *norm_weight, *norm_bias, *w1, *b1, *w2, *b2;
};

/// Copies to shared memory by all threads of the block; `bytes` is a multiple of 16. They are there
/// once each thread has waited for its copies, behind a barrier.
__device__ inline void fetch_bytes(void* to, const void* from, int64_t bytes) {
  for (unsigned i = threadIdx.x; i < bytes / 16; i += blockDim.x) {
    __pipeline_memcpy_async(static_cast<Words<4>*>(to) + i, static_cast<const Words<4>*>(from) + i,
                            16);
  }
  __pipeline_commit();
}

/// The weights in shared memory: channels in RowOrder, and zeros for hidden units up to `rows`.
/// fold_transition_weights_kernel leaves them so in global memory.
template <class T, int kChannels>
struct StagedWeights {
  int rows;   // a multiple of 16, at least the hidden units
  T* w1;      // [rows, C], with the norm's weight, less each row's mean
  T* w2;      // [C, rows]
  float* b1;  // [rows], with the norm's bias
  float* b2;  // [C]

  static constexpr int kW1Stride = kChannels + kPadding;
  __device__ int w2_stride() const { return rows + kPadding; }

  __device__ StagedWeights(void* shared, int hidden_rows)
      : rows(hidden_rows),
        w1(static_cast<T*>(shared)),
        w2(w1 + rows * kW1Stride),
        b1(reinterpret_cast<float*>(w2 + kChannels * w2_stride())),
        b2(b1 + rows) {}

  __host__ __device__ static constexpr int64_t bytes(int64_t rows) {
    return 2 * (rows * kW1Stride + kChannels * (rows + kPadding)) + 4 * (rows + kChannels);
  }
  __device__ void fetch(const void* from) const { fetch_bytes(w1, from, bytes(rows)); }

  /// Two columns of a row of W1.
  __device__ void set_w1(int row, int column, float low, float high) const {
    *reinterpret_cast<uint32_t*>(w1 + row * kW1Stride + column) = pack<T>(low, high);
  }
  /// Two rows, units, of a column of W2.
  __device__ void set_w2(int row, int column, float low, float high) const {
    *reinterpret_cast<uint32_t*>(w2 + column * w2_stride() + row) = pack<T>(low, high);
  }
  /// By a warp.
  __device__ void set_b1(int row, float value) const {
    if (threadIdx.x % 32 == 0) b1[row] = value;
  }
  __device__ void set_b2(int column, float value) const {
    if (threadIdx.x % 32 == 0) b2[column] = value;
  }
};

inline constexpr int kFoldThreads = 256;

/// Writes Weights, for rows of Io, to global memory. A warp for each of their `rows` hidden units
/// and C channels.
template <class Io, class T, int kChannels, class Weights>
__global__ void __launch_bounds__(kFoldThreads)
    fold_transition_weights_kernel(TransitionWeights<T> w, int rows, void* __restrict__ to) {
  release_next();
  using Order = RowOrder<Io, kChannels>;
  const Weights staged(to, rows);
  const int thread = static_cast<int>(blockIdx.x) * kFoldThreads + static_cast<int>(threadIdx.x);
  const int lane = thread % 32, row = thread / 32, channel = row - rows;
  if (row < rows) {
    const bool real = row < w.hidden;
    const float b1 = real ? w.at(w.b1, row) : 0.0f;
    const int c = 4 * lane;  // the first C / 4 lanes have four channels each
    float4 value = {0, 0, 0, 0};
    float mean = 0, bias = 0;
    if (c < kChannels) {
      const float4 weight = w.quad(w.norm_weight, c), shift = w.quad(w.norm_bias, c);
      if (real) value = w.quad(w.w1, row * kChannels + c);
      bias = value.x * shift.x + value.y * shift.y + value.z * shift.z + value.w * shift.w;
      value.x *= weight.x, value.y *= weight.y, value.z *= weight.z, value.w *= weight.w;
      mean = (value.x + value.y + value.z + value.w) / kChannels;
    }
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      mean += __shfl_xor_sync(~0u, mean, lanes);
      bias += __shfl_xor_sync(~0u, bias, lanes);
    }
    if (c < kChannels) {
      staged.set_w1(row, Order::column(c), value.x - mean, value.y - mean);
      staged.set_w1(row, Order::column(c) + 8, value.z - mean, value.w - mean);
    }
    staged.set_b1(row, b1 + bias);
  } else if (channel < kChannels) {
    const int column = Order::column(channel);
    staged.set_b2(column, w.at(w.b2, channel));
#pragma unroll 2
    for (int h = 4 * lane; h < rows; h += 128) {
      float4 value = {0, 0, 0, 0};
      if (h < w.hidden) value = w.quad(w.w2, channel * w.hidden + h);
      staged.set_w2(h, column, value.x, value.y);
      staged.set_w2(h + 2, column, value.z, value.w);
    }
  }
}

}  // namespace ribo::kernels
