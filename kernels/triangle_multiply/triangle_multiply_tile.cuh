// What the passes of the triangle update share. A block takes tiles of 64 positions of a padded
// plane, p = i pitch + j, one after the other; weights stay in shared memory, and the next tile
// arrives there while this one is computed. Products have hidden units for rows and positions for
// columns, as channel-major tensors have them.
#pragma once

#include <cuda_pipeline.h>

#include <climits>

#include "common/rows.cuh"
#include "triangle_multiply/triangle_multiply_cuda.h"

namespace ribo::kernels::triangle {

inline constexpr int kWarps = 8;
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kForwardBlocks = 3, kBackwardBlocks = 2;  // of a multiprocessor
inline constexpr int kTile = 64;  // positions; a plane has a multiple of that
inline constexpr float kEpsilon = 1e-5f;

__device__ inline int thread() { return static_cast<int>(threadIdx.x % kThreads); }
__device__ inline int lane() { return static_cast<int>(threadIdx.x % 32); }
__device__ inline int warp() { return static_cast<int>(threadIdx.x % kThreads / 32); }

/// Copies 16 bytes to shared memory, or zeros, by the next __pipeline_wait_prior.
__device__ inline void copy_async(void* to, const void* from, bool there = true) {
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(there ? 16 : 0)
               : "memory");
#else
  __pipeline_memcpy_async(to, from, 16, there ? 0 : 16);
#endif
}

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

/// Which position a column of a product stands for is free. With `slots`, column 2 t + e of the
/// v-th of four D is position 8 t + 2 v + e of 32: lane t then has eight positions side by side, 16
/// bytes of a channel-major tensor, and reads and writes them in place. This is the column of
/// position p.
__device__ inline int slot(int p) {
  return (p & 32) | (p >> 1 & 3) << 3 | (p >> 3 & 3) << 1 | (p & 1);
}

__host__ __device__ inline int pitch(const CudaTriangle& a) { return (a.length + 7) / 8 * 8; }
__host__ __device__ inline int plane(const CudaTriangle& a) { return pitch(a) * pitch(a); }
__host__ __device__ inline int tiles(const CudaTriangle& a) { return a.batch * (plane(a) / kTile); }

/// A tile: a sequence and the first of its plane's positions.
struct Tile {
  int b, first;

  __device__ bool there(const CudaTriangle& a) const { return b < a.batch; }
  /// This block's first tile, and its next one.
  __device__ static Tile start(const CudaTriangle& a) {
    return Tile{0, 0}.skip(a, static_cast<int>(blockIdx.x));
  }
  __device__ Tile next(const CudaTriangle& a) const { return skip(a, static_cast<int>(gridDim.x)); }
  /// Of [B, H, plane], in channel 0.
  __device__ int64_t element(const CudaTriangle& a) const {
    return int64_t{b * a.hidden} * plane(a) + first;
  }

 private:
  __device__ Tile skip(const CudaTriangle& a, int count) const {
    Tile to = {b, first + count * kTile};
    for (; to.first >= plane(a) && to.there(a); ++to.b) to.first -= plane(a);
    return to;
  }
};

inline constexpr int kNowhere = INT_MIN;

/// A tile, and where its positions stand in [B, L, L].
struct alignas(16) Places {
  int row[kTile];                     // ~row behind the lengths, kNowhere outside of L x L
  alignas(16) uint8_t inside[kTile];  // 1 in front of the lengths, else 0
  Tile tile;
  int none;  // 1 where no position is in front of the lengths

  /// By the block's first threads.
  __device__ void find(const CudaTriangle& a, const Tile& found) {
    const int p = thread();
    if (p >= kTile) return;
    const int b = found.b, at = found.first + p, i = at / pitch(a), j = at - i * pitch(a);
    const bool real = b < a.batch && i < a.length && j < a.length;
    const int64_t length =
        b < a.batch && a.lengths != nullptr ? min(a.lengths[b], int64_t{a.length}) : a.length;
    const bool within = real && i < length && j < length;
    const int index = (b * a.length + i) * a.length + j;
    row[p] = within ? index : real ? ~index : kNowhere;
    inside[p] = within;
    if (p > 0) return;
    tile = found;
    // Its first row of the plane is behind, or it has no other and begins behind.
    none = i >= length || (j >= length && at + kTile <= (i + 1) * pitch(a));
  }
};

/// Rows [positions, C] to `to` [kTile, kColumns], zeros for what is not inside and behind C. Of
/// rows of floats the even pieces of 16 bytes come first, then the odd ones, as lanes will read
/// them.
template <int kColumns, class X>
__device__ inline void stage_rows(X* to, const void* from, const Places& places, int channels) {
  constexpr int kValues = 16 / sizeof(X), kPieces = kColumns / kValues;
  const int piece = thread() % kPieces, column = piece * kValues;
  const int place = sizeof(X) == 4 ? piece % 2 * (kPieces / 2) + piece / 2 : piece;
#pragma unroll
  for (int p = thread() / kPieces, k = 0; k < kTile * kPieces / kThreads; ++k) {
    const int row = places.row[p];
    const bool there = row >= 0 && column < channels;
    const uint64_t offset =
        static_cast<uint64_t>(static_cast<unsigned>(row)) * static_cast<unsigned>(channels) +
        static_cast<unsigned>(column);
    copy_async(to + p * kColumns + place * kValues,
               static_cast<const X*>(from) + (there ? offset : 0), there);
    p += kThreads / kPieces;
  }
}

/// Zeros, which stay where no hidden unit is.
template <int kCount, class T>
__device__ inline void clear(T (&values)[kCount]) {
  for (int i = thread(); i < kCount / 8; i += kThreads) {
    *reinterpret_cast<Words<4>*>(values + 8 * i) = {};
  }
}

/// Calls f(h, p, offset) for the pieces of eight positions p of channels h < hidden <= kWidth of a
/// tile; `offset` is the piece's in a channel-major tensor, from the tile's element.
template <int kWidth, class F>
__device__ inline void each_piece(const CudaTriangle& a, F&& f) {
  const int p = thread() % (kTile / 8) * 8;
#pragma unroll
  for (int h = thread() / (kTile / 8), k = 0; k < kWidth * kTile / 8 / kThreads; ++k) {
    if (h < a.hidden) f(h, p, int64_t{h} * plane(a) + p);
    h += kThreads / (kTile / 8);
  }
}

/// A tile of a channel-major tensor, [H, kTile].
template <int kWidth, class T>
__device__ inline void stage_channels(const Matrix<T, kTile>& to, const void* from,
                                      const CudaTriangle& a, Tile tile) {
  if (!tile.there(a)) return;
  const T* const first = static_cast<const T*>(from) + tile.element(a);
  each_piece<kWidth>(
      a, [&](int h, int p, int64_t offset) { copy_async(to.at(h, p), first + offset); });
}

/// Has the second-level cache fetch a tile of a channel-major tensor. Thread h asks for channel h.
template <class T>
__device__ inline void prefetch_channels(const void* from, const CudaTriangle& a, Tile tile,
                                         int h) {
  if (h < 0 || h >= a.hidden || !tile.there(a)) return;
  prefetch(static_cast<const T*>(from) + tile.element(a) + int64_t{h} * plane(a));
}

/// Writes a tile of a channel-major tensor.
template <int kWidth, class T>
__device__ inline void write_channels(void* to, const Matrix<T, kTile>& from, const CudaTriangle& a,
                                      Tile tile) {
  T* const first = static_cast<T*>(to) + tile.element(a);
  each_piece<kWidth>(a, [&](int h, int p, int64_t offset) {
    *reinterpret_cast<Words<4>*>(first + offset) =
        *reinterpret_cast<const Words<4>*>(from.at(h, p));
  });
}

/// Eight values side by side; of floats, the last four may be `apart` from the first.
template <class X>
__device__ inline void load_eight(const X* from, float (&to)[8], int apart = 4) {
#pragma unroll
  for (int k = 0; k < 8 / (16 / static_cast<int>(sizeof(X))); ++k) {
    const Words<4> words = *reinterpret_cast<const Words<4>*>(from + k * apart);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(X) == 4) {
        to[4 * k + i] = __uint_as_float(words.word[i]);
      } else {
        unpack<X>(words.word[i], to[2 * i], to[2 * i + 1]);
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

/// Eight weights, or one.
template <class T>
__device__ inline void load_weights(const void* from, int index, const CudaTriangle& a,
                                    float (&to)[8]) {
  if (a.wide_weights) {
    load_eight(static_cast<const float*>(from) + index, to);
  } else {
    load_eight(static_cast<const T*>(from) + index, to);
  }
}
template <class T>
__device__ inline float load_weight(const void* from, int index, const CudaTriangle& a) {
  return a.wide_weights ? static_cast<const float*>(from)[index]
                        : widen(static_cast<const T*>(from)[index]);
}

/// kMaps of the maps of x normalised, from kFirst on, to kMaps x kWidth rows and biases, with zeros
/// behind H and C. The norm's weight and bias go into them:
///   w (n gain + shift) + b = (w gain) n + (w shift + b).
template <int kFirst, int kMaps, class T, int kWidth>
__device__ inline void stage_maps(const Matrix<T, kWidth>& to, float* biases,
                                  const CudaTriangle& a) {
  constexpr int kLanes = kWidth / 8, kRows = kThreads / kLanes;
  const int first = thread() / kLanes, c = thread() % kLanes * 8;
  float gain[8] = {}, shift[8] = {};
  if (c < a.channels) {
    load_weights<T>(a.weights.norm_weight, c, a, gain);
    load_weights<T>(a.weights.norm_bias, c, a, shift);
  }
#pragma unroll
  for (int k = 0; k < kMaps * kWidth / kRows; ++k) {
    const int map = k / (kWidth / kRows), h = k % (kWidth / kRows) * kRows + first;
    float values[8] = {}, sum = 0;
    if (h < a.hidden && c < a.channels) {
      load_weights<T>(a.weights.map_weight[kFirst + map], h * a.channels + c, a, values);
      if (c == 0) sum = load_weight<T>(a.weights.map_bias[kFirst + map], h, a);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum += values[i] * shift[i];
      values[i] *= gain[i];
    }
    store_eight(to.at(map * kWidth + h, c), values);
#pragma unroll
    for (int lanes = 1; lanes < kLanes; lanes *= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
    if (c == 0) biases[map * kWidth + h] = sum;
  }
}

/// The output's map [C, H] with zeros behind C and H.
template <class T, int kWidth>
__device__ inline void stage_out_weight(const Matrix<T, kWidth>& to, const CudaTriangle& a) {
  constexpr int kLanes = kWidth / 8, kRows = kThreads / kLanes;
  const int h = thread() % kLanes * 8;
#pragma unroll
  for (int k = 0; k < kWidth / kRows; ++k) {
    const int c = k * kRows + thread() / kLanes;
    float values[8] = {};
    if (h < a.hidden && c < a.channels) {
      load_weights<T>(a.weights.out_weight, c * a.hidden + h, a, values);
    }
    store_eight(to.at(c, h), values);
  }
}

/// A vector of `count` weights, with zeros behind.
template <int kWidth, class T>
__device__ inline void stage_vector(float* to, const void* from, int count, const CudaTriangle& a) {
  if (const int i = thread(); i < kWidth) to[i] = i < count ? load_weight<T>(from, i, a) : 0.0f;
}

/// Calls f(p, column, values) for eight values of each row that stage_rows has staged; the kColumns
/// / 8 lanes that have a row are neighbours.
template <int kColumns, class X, class F>
__device__ inline void each_row(const X* raw, F&& f) {
  constexpr int kLanes = kColumns / 8, kRows = 32 / kLanes;
  const int column = lane() % kLanes * 8;
#pragma unroll
  for (int p = warp() * kRows + lane() / kLanes, k = 0; k < kTile / (kWarps * kRows); ++k) {
    float values[8];
    load_eight(raw + p * kColumns + (sizeof(X) == 4 ? column / 2 : column), values, kColumns / 2);
    f(p, column, values);
    p += kWarps * kRows;
  }
}

/// x normalised, by positions or slots. `scale`: 1 / deviation by positions, or null.
template <bool kSlots, class T, int kColumns, class X>
__device__ inline void normalise_rows(const X* raw, const Matrix<T, kColumns>& to, int channels,
                                      float* scale = nullptr) {
  const auto row_sum = [](float x) {
#pragma unroll
    for (int lanes = 1; lanes < kColumns / 8; lanes *= 2) x += __shfl_xor_sync(~0u, x, lanes);
    return x;
  };
  const float share = reciprocal(static_cast<float>(channels));
  each_row<kColumns>(raw, [&](int p, int column, float(&x)[8]) {
    float sum = 0, squares = 0;
#pragma unroll
    for (const float v : x) sum += v;
    const float mean = row_sum(sum) * share;
#pragma unroll
    for (float& v : x) {
      v = column < channels ? v - mean : 0.0f;
      squares += v * v;
    }
    const float inverse = rsqrtf(row_sum(squares) * share + kEpsilon);
#pragma unroll
    for (float& v : x) v *= inverse;
    store_eight(to.at(kSlots ? slot(p) : p, column), x);
    if (scale != nullptr && column == 0) scale[p] = inverse;
  });
}

/// d[m] = bias[m] + weights u^T for the 16 rows of weights from row + m step and 8 kParts columns
/// from `first`; bias of rows g and g + 8.
template <int kMaps, int kParts, class T, int kWidth>
__device__ inline void project(float (&d)[kMaps][kParts][4], const float (&bias)[kMaps][2],
                               const Matrix<T, kWidth>& weights, int row, int step,
                               const Matrix<T, kWidth>& u, int first) {
#pragma unroll
  for (int k = 0; k < kWidth; k += 16) {
    uint32_t a[kMaps][4];
#pragma unroll
    for (int m = 0; m < kMaps; ++m) weights.load_a(a[m], row + m * step, k);
#pragma unroll
    for (int n = 0; n < kParts; n += 2) {
      uint32_t b[4];
      u.load_b(b, first + 8 * n, k);
#pragma unroll
      for (int m = 0; m < kMaps; ++m) {
        if (k > 0) {
          multiply<T>(d[m][n], d[m][n + 1], a[m], b);
        } else {
          const float begin[4] = {bias[m][0], bias[m][0], bias[m][1], bias[m][1]};
          mma_16x8x16<T>(d[m][n], a[m], {b[0], b[1]}, begin);
          mma_16x8x16<T>(d[m][n + 1], a[m], {b[2], b[3]}, begin);
        }
      }
    }
  }
}

/// All kWidth rows of weights, or of weights^T, for eight columns: d[m] = bias + weights u^T for
/// rows 16 m + g, + 8. `bias` [kWidth] or null, for zero.
template <bool kTransposed, class T, int kWidth>
__device__ inline void project_all(float (&d)[kWidth / 16][4], const float* bias,
                                   const Matrix<T, kWidth>& weights, const Matrix<T, kWidth>& u,
                                   int first) {
  const int g = lane() / 4;
  const auto load = [&](uint32_t(&a)[4], int m, int k) {
    if constexpr (kTransposed) {
      weights.load_a_transposed(a, k, 16 * m);
    } else {
      weights.load_a(a, 16 * m, k);
    }
  };
#pragma unroll
  for (int k = 0; k < kWidth; k += 32) {
    uint32_t b[4];
    load_matrix_x4(b, u.at(first + lane() % 8, k + lane() / 8 * 8));
#pragma unroll
    for (int m = 0; m < kWidth / 16; ++m) {
      uint32_t a[4];
      load(a, m, k);
      if (k > 0) {
        mma_16x8x16<T>(d[m], a, {b[0], b[1]});
      } else {
        const float upper = bias ? bias[16 * m + g] : 0, lower = bias ? bias[16 * m + g + 8] : 0;
        mma_16x8x16<T>(d[m], a, {b[0], b[1]}, {upper, upper, lower, lower});
      }
      load(a, m, k + 16);
      mma_16x8x16<T>(d[m], a, {b[2], b[3]});
    }
  }
}

/// A tile of hidden units by positions, normalised over the units, of which there are `hidden`.
/// Lane (g, t) has two neighbouring positions, values m of units 8 m + g.
template <int kValues>
struct NormedColumns {
  float x[kValues][2], scale[2];

  /// Of the positions p, p + 1.
  template <class T>
  __device__ void read(const Matrix<T, kTile>& z, int p, int hidden) {
    const int g = lane() / 4;
    const float share = 1.0f / static_cast<float>(hidden);
#pragma unroll
    for (int m = 0; m < kValues; ++m) {
      unpack<T>(*reinterpret_cast<const uint32_t*>(z.at(8 * m + g, p)), x[m][0], x[m][1]);
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float mean = 0, squares = 0;
#pragma unroll
      for (int m = 0; m < kValues; ++m) mean += x[m][e];
      mean = add_column(mean) * share;
#pragma unroll
      for (int m = 0; m < kValues; ++m) {
        x[m][e] = 8 * m < hidden ? x[m][e] - mean : 0;
        squares += x[m][e] * x[m][e];
      }
      scale[e] = rsqrtf(add_column(squares) * share + kEpsilon);
#pragma unroll
      for (int m = 0; m < kValues; ++m) x[m][e] *= scale[e];
    }
  }

  /// A sum over the eight lanes that share t.
  __device__ static float add_column(float value) {
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) value += __shfl_xor_sync(~0u, value, lanes);
    return value;
  }
};

/// Writes a row of two neighbouring fragments, 16 columns from `to` on, 8 or 16 bytes a lane.
template <class X>
__device__ inline void store_columns(X* to, float a0, float a1, float b0, float b1, bool write) {
  const int t = lane() % 4;
  if constexpr (sizeof(X) == 4) {
    if (!write) return;
    *reinterpret_cast<float2*>(to + 2 * t) = {a0, a1};
    *reinterpret_cast<float2*>(to + 8 + 2 * t) = {b0, b1};
  } else {
    // Even lanes get the first fragment's part of their neighbour, odd ones the second's.
    const uint32_t a = pack<X>(a0, a1), b = pack<X>(b0, b1);
    const uint32_t other = __shfl_xor_sync(~0u, t % 2 == 0 ? b : a, 1);
    const Words<2> words = {{t % 2 == 0 ? a : other, t % 2 == 0 ? other : b}};
    if (write) *reinterpret_cast<Words<2>*>(to + (t % 2 == 0 ? 2 * t : 6 + 2 * t)) = words;
  }
}

}  // namespace ribo::kernels::triangle
