// The weights of a block, which stay in shared memory while its warps take positions.
#pragma once

#include "common/rows.cuh"
#include "triangle_multiply/triangle_multiply_cuda.h"

namespace ribo::kernels::triangle {

inline constexpr int kWarps = 8;
inline constexpr int kThreads = 32 * kWarps;  // that bring the weights

__device__ inline int lane() { return static_cast<int>(threadIdx.x % 32); }
__device__ inline int warp() { return static_cast<int>(threadIdx.x / 32); }

/// [rows, kColumns] of 16-bit values in shared memory. Where a row's pieces of eight values stand
/// depends on the row: the same piece of eight rows lies in different banks, and so do four pieces
/// of two rows.
template <class T, int kColumns>
struct Matrix {
  static_assert(kColumns % 64 == 0);
  T* data;

  __device__ T* at(int row, int column) const {
    return data + row * kColumns + (column ^ turn(row));
  }

  /// The operand A of 16 rows and 16 columns; or of 16 columns and 16 rows, transposed.
  __device__ void load_a(uint32_t (&a)[4], int row, int column) const {
    load_matrix_x4(a, by_columns(row, column));
  }
  __device__ void load_a_transposed(uint32_t (&a)[4], int row, int column) const {
    load_matrix_x4_transposed(a, by_rows(row, column));
  }
  /// Two operands B: 16 rows are their columns, 16 columns their rows; or the other way round.
  __device__ void load_b(uint32_t (&b)[4], int row, int column) const {
    load_matrix_x4(b, by_rows(row, column));
  }
  __device__ void load_b_transposed(uint32_t (&b)[4], int row, int column) const {
    load_matrix_x4_transposed(b, by_columns(row, column));
  }

 private:
  __device__ static int turn(int row) { return (row & 1) << 5 | (row & 6) << 2; }
  // Rows are multiples of eight: a lane has the same turn for all of them, and one address, from
  // which the rows are constants away.
  __device__ const T* by_columns(int row, int column) const {
    const int offset = lane() % 16 * kColumns + ((column | lane() / 16 * 8) ^ turn(lane()));
    return (data + offset) + row * kColumns;
  }
  __device__ const T* by_rows(int row, int column) const {
    const int offset =
        (lane() / 16 * 8 + lane() % 8) * kColumns + ((column | lane() / 8 % 2 * 8) ^ turn(lane()));
    return (data + offset) + row * kColumns;
  }
};

/// Calls f(W{}) for the type that weights are stored in.
template <class T, class F>
__device__ inline void with_weights(const CudaTriangle& a, F&& f) {
  a.wide_weights ? f(float{}) : f(T{});
}
template <class T>
__device__ inline float load_weight(const void* from, int index, const CudaTriangle& a) {
  return a.wide_weights ? static_cast<const float*>(from)[index]
                        : widen(static_cast<const T*>(from)[index]);
}

/// Eight side by side.
template <class W>
__device__ inline void load_eight(const W* from, float (&to)[8]) {
#pragma unroll
  for (int k = 0; k < static_cast<int>(sizeof(W)) / 2; ++k) {
    const auto words = *reinterpret_cast<const Words<4>*>(from + k * 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(W) == 4) {
        to[4 * k + i] = __uint_as_float(words.word[i]);
      } else {
        unpack<W>(words.word[i], to[2 * i], to[2 * i + 1]);
      }
    }
  }
}
template <class T>
__device__ inline void store_eight(T* to, const float (&from)[8]) {
  Words<4> words;
#pragma unroll
  for (int i = 0; i < 4; ++i) words.word[i] = pack<T>(from[2 * i], from[2 * i + 1]);
  *reinterpret_cast<Words<4>*>(to) = words;
}

/// sigmoid(x) of -log2(e) x.
__device__ inline float scaled_sigmoid(float x) { return reciprocal(1 + power_of_2(x)); }

/// kMaps of the maps of x normalised, from kFirst on, to kMaps x kWidth rows and biases, with zeros
/// behind H and C; channels in that order. The norm's weight and bias go into them:
///   w (n gain + shift) + b = (w gain) n + (w shift + b).
/// With kScaledGates gates are for scaled_sigmoid(). All is read before any of it is used.
template <int kFirst, int kMaps, bool kScaledGates, class Order, class T, int kWidth>
__device__ inline void stage_maps(const Matrix<T, kWidth>& to, float* biases,
                                  const CudaTriangle& a) {
  constexpr int kLanes = kWidth / 8, kRows = kThreads / kLanes, kSteps = kMaps * kWidth / kRows;
  const int thread = static_cast<int>(threadIdx.x), first = thread / kLanes;
  const int c = thread % kLanes * 8;
  if (thread >= kThreads) return;
  with_weights<T>(a, [&](auto type) {
    using W = decltype(type);
    const int column = c < a.channels ? c : 0;
    float gain[8], shift[8], values[kSteps][8], sums[kSteps];
    load_eight(static_cast<const W*>(a.weights.norm_weight) + column, gain);
    load_eight(static_cast<const W*>(a.weights.norm_bias) + column, shift);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const int map = kFirst + k / (kWidth / kRows), h = k % (kWidth / kRows) * kRows + first;
      const int row = h < a.hidden ? h : 0;
      const auto* const weights = static_cast<const W*>(a.weights.map_weight[map]);
      load_eight(weights + row * a.channels + column, values[k]);
      sums[k] = widen(static_cast<const W*>(a.weights.map_bias[map])[row]);
    }
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const int map = kFirst + k / (kWidth / kRows), h = k % (kWidth / kRows) * kRows + first;
      const bool gate = map == 1 || map >= 3, real = h < a.hidden && c < a.channels;
      const float factor = kScaledGates && gate ? static_cast<float>(-kLog2E) : 1.0f;
      float sum = real && c == 0 ? sums[k] : 0.0f;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float value = real ? values[k][i] : 0.0f;
        sum += value * shift[i];
        values[k][i] = value * gain[i] * factor;
      }
      const int row = (map - kFirst) * kWidth + h;
#pragma unroll
      for (int i = 0; i < 8; i += 2) {
        *reinterpret_cast<uint32_t*>(to.at(row, Order::column(c + i))) =
            pack<T>(values[k][i], values[k][i + 1]);
      }
#pragma unroll
      for (int lanes = 1; lanes < kLanes; lanes *= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
      if (c == 0) biases[row] = sum * factor;
    }
  });
}

/// The output's map [C, H] with zeros behind C and H; channels in that order.
template <class Order, class T, int kWidth>
__device__ inline void stage_out_weight(const Matrix<T, kWidth>& to, const CudaTriangle& a) {
  constexpr int kLanes = kWidth / 8, kRows = kThreads / kLanes, kSteps = kWidth / kRows;
  const int thread = static_cast<int>(threadIdx.x), h = thread % kLanes * 8;
  if (thread >= kThreads) return;
  with_weights<T>(a, [&](auto type) {
    using W = decltype(type);
    float values[kSteps][8];
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const int c = k * kRows + thread / kLanes;
      const bool real = h < a.hidden && c < a.channels;
      load_eight(static_cast<const W*>(a.weights.out_weight) + (real ? c * a.hidden + h : 0),
                 values[k]);
#pragma unroll
      for (float& value : values[k]) value = real ? value : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      store_eight(to.at(Order::column(k * kRows + thread / kLanes), h), values[k]);
    }
  });
}

/// A vector of `count` weights, with zeros behind; the i-th goes to to[place(i)].
template <int kWidth, class T, class F>
__device__ inline void stage_vector(float* to, const void* from, int count, const CudaTriangle& a,
                                    F&& place) {
  if (const int i = static_cast<int>(threadIdx.x); i < kWidth) {
    to[place(i)] = i < count ? load_weight<T>(from, i, a) : 0.0f;
  }
}
template <int kWidth, class T>
__device__ inline void stage_vector(float* to, const void* from, int count, const CudaTriangle& a) {
  stage_vector<kWidth, T>(to, from, count, a, [](int i) { return i; });
}

}  // namespace ribo::kernels::triangle
