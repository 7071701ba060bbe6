// What the passes of the attention share. Products have 16 positions of one side for rows and 32 of
// the other, a chunk, for columns.
#pragma once

#include "attention/attention_cuda.h"
#include "common/copy_async.cuh"
#include "common/rows.cuh"

namespace ribo::kernels::attention {

inline constexpr int kChunk = 32;
inline constexpr int kMaxWarps = 6;
inline constexpr int kThreads = 32 * kMaxWarps;
inline constexpr float kInfinity = __builtin_huge_valf();

/// 16 rows and a chunk of columns. Of an 8 x 8 a lane has two columns of a row, which it reads and
/// writes together.
using Logits = Fragments<kChunk / 8>;

__device__ inline int lane() { return static_cast<int>(threadIdx.x % 32); }
__device__ inline int warp() { return static_cast<int>(threadIdx.x / 32); }
__device__ inline int warps() { return static_cast<int>(blockDim.x / 32); }

/// Of a row of the sums of dbias.
__host__ __device__ inline int pitch_of(int length) { return (length + 63) / 64 * 64; }

/// What makes a power of two of a logit that is not scaled yet.
__device__ inline float to_power(const CudaAttention& a) {
  return a.scale * static_cast<float>(kLog2E);
}

/// A head of a group, and which of its positions a block has. Neighbouring blocks are of different
/// groups, which read the same bias.
struct Head {
  int b, g, h, tile;

  __device__ Head(const CudaAttention& a, int tiles) {
    int64_t index = blockIdx.x;
    g = static_cast<int>(index % a.groups), index /= a.groups;
    tile = static_cast<int>(index % tiles), index /= tiles;
    h = static_cast<int>(index % a.heads), b = static_cast<int>(index / a.heads);
  }
  /// Positions of this group that are no padding.
  __device__ int end(const CudaAttention& a) const {
    const auto n = static_cast<int>(length_of(a.lengths, b, a.length));
    return g < n ? n : 0;
  }
};

template <class T>
__device__ inline T* head_of(const CudaAttentionTensor& x, int b, int g, int h) {
  return static_cast<T*>(x.data) + b * x.batch + g * x.group + h * x.head;
}
/// The first element of a row of [batch, heads, rows, columns].
__device__ inline int64_t row_of(const CudaAttention& a, int b, int h, int rows, int row,
                                 int columns) {
  return ((int64_t{b} * a.heads + h) * rows + row) * columns;
}

/// Minus infinity in the columns of the chunk `first` that lie at `end` or behind.
__device__ inline void hide(Logits& x, int first, int end) {
#pragma unroll
  for (int tile = 0; tile < kChunk / 8; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (first + 8 * tile + lane() % 4 * 2 + i % 2 >= end) x[tile][i] = -kInfinity;
    }
  }
}

/// How a bias is arranged for several groups: 16 rows and a chunk of columns after the other, all
/// columns of 16 rows first, a multiple of 64; and of these 512 values, 16 bytes of each lane after
/// the other.
template <class X>
struct Arrangement {
  static constexpr int kPiece = 16 / sizeof(X);  // values
  static constexpr int kPieces = 16 / kPiece;    // of a lane
  int row_tiles, chunks;

  __host__ __device__ explicit Arrangement(int length)
      : row_tiles((length + 15) / 16), chunks(pitch_of(length) / kChunk) {}
  /// Values of a head.
  __host__ __device__ int64_t size() const { return int64_t{512} * row_tiles * chunks; }
  __device__ int64_t at(int i, int j) const {
    const int lane = i % 8 * 4 + j % 8 / 2, value = j % kChunk / 8 * 4 + i / 8 % 2 * 2 + j % 2;
    return (int64_t{i / 16} * chunks + j / kChunk) * 512 + value / kPiece * (32 * kPiece) +
           lane * kPiece + value % kPiece;
  }
};

/// The rows `first` and first + 8 of an arranged bias, or of its transpose. Where there are no such
/// rows they are others, whose results nobody wants.
template <class X, bool kTransposed = false>
struct ArrangedBias {
  static constexpr bool kAlone = false;  // of one group
  using Transposed = ArrangedBias<X, true>;
  using Arranged = Arrangement<X>;
  const X* lane_of_tile;

  ArrangedBias() = default;
  __device__ ArrangedBias(const CudaAttention& a, const void* bias, int b, int h, int first) {
    const Arranged arranged(a.length);
    const int tile = min(first / 16, arranged.row_tiles - 1);
    lane_of_tile = static_cast<const X*>(bias) + (int64_t{b} * a.heads + h) * arranged.size() +
                   int64_t{tile} * arranged.chunks * 512 + lane() * Arranged::kPiece;
  }
  /// The chunk from column `first` on, as memory has it: asked for early, set() late.
  struct Raw {
    Words<4> piece[Arranged::kPieces];
  };
  __device__ void fetch(Raw& raw, int first, int /*end*/) const {
#pragma unroll
    for (int i = 0; i < Arranged::kPieces; ++i) {
      raw.piece[i] = *reinterpret_cast<const Words<4>*>(lane_of_tile + first / kChunk * 512 +
                                                        i * 32 * Arranged::kPiece);
    }
  }
  /// Minus infinity from `end` on.
  __device__ void set(Logits& x, const Raw& raw, int first, int end) const {
#pragma unroll
    for (int i = 0; i < kChunk / 4; ++i) {
      float &low = x[i / 2][i % 2 * 2], &high = x[i / 2][i % 2 * 2 + 1];
      if constexpr (sizeof(X) == 4) {
        low = __uint_as_float(raw.piece[i / 2].word[i % 2 * 2]);
        high = __uint_as_float(raw.piece[i / 2].word[i % 2 * 2 + 1]);
      } else {
        unpack<X>(raw.piece[i / 4].word[i % 4], low, high);
      }
    }
    if (first + kChunk > end) hide(x, first, end);
  }
};

/// The same of a bias as it comes, in rows of adjacent values; the last row is any that is not
/// there.
template <class X, bool kTransposed = false>
struct GivenBias {
  static constexpr bool kAlone = true;
  using Transposed = GivenBias<X, true>;
  const X* row[2];
  int64_t step;  // from a column to the next
  float factor;

  GivenBias() = default;
  __device__ GivenBias(const CudaAttention& a, const void* bias, int b, int h, int first)
      : step(kTransposed ? a.bias_steps[2] : 1), factor(1 / a.scale) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      row[half] = static_cast<const X*>(bias) + b * a.bias_steps[0] + h * a.bias_steps[1] +
                  min(first + 8 * half, a.length - 1) * (kTransposed ? 1 : a.bias_steps[2]) +
                  lane() % 4 * 2 * step;
    }
  }
  struct Raw {
    X value[kChunk / 8][4];
  };
  __device__ void fetch(Raw& raw, int first, int end) const {
    if (first + kChunk <= end) {
#pragma unroll
      for (int i = 0; i < kChunk / 2; ++i) {
        raw.value[i / 4][i % 4] = row[i / 2 % 2][(first + i / 4 * 8 + i % 2) * step];
      }
    } else {
      const int last = end - 1 - lane() % 4 * 2;
#pragma unroll
      for (int i = 0; i < kChunk / 2; ++i) {
        raw.value[i / 4][i % 4] = row[i / 2 % 2][min(first + i / 4 * 8 + i % 2, last) * step];
      }
    }
  }
  __device__ void set(Logits& x, const Raw& raw, int first, int end) const {
#pragma unroll
    for (int i = 0; i < kChunk / 2; ++i) {
      x[i / 4][i % 4] = factor * widen(raw.value[i / 4][i % 4]);
    }
    if (first + kChunk > end) hide(x, first, end);
  }
};

/// Rows of up to kWidth channels in shared memory, with zeros behind those that there are.
template <class T, int kWidth>
struct Rows {
  static constexpr int kStride = kWidth + kPadding;
  static constexpr int kSteps = kWidth / 16, kTiles = kWidth / 8;
  using Operand = uint32_t[kSteps][4];
  using Sums = Fragments<kTiles>;

  /// Copies `count` positions from `first` on; zeros from `end` on.
  __device__ static void stage(T* to, const T* from, int64_t step, int width, int first, int count,
                               int end) {
    constexpr int kPieces = kWidth / 8, kRows = 32 / kPieces;  // a warp copies so many at once
    const int column = lane() % kPieces * 8, row = lane() / kPieces;
    from += column;
    for (int i = warp() * kRows + row; i < count; i += warps() * kRows) {
      const auto position = static_cast<unsigned>(first + i);
      copy_async(to + i * kStride + column, from + uint64_t{position} * static_cast<unsigned>(step),
                 static_cast<int>(position) < end && column < width);
    }
  }

  /// x = start + A B^T: the columns of x are rows of `rows`. `start` may be x, or one fragment for
  /// all of its columns.
  template <int kCount>
  __device__ static void multiply_rows(Logits& x, const Operand& a, const T* rows,
                                       const float (&start)[kCount][4]) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int tile = 0; tile < kChunk / 8; tile += 2) {
        uint32_t b[4];
        load_matrix_x4(b, rows + 8 * tile * kStride + 16 * step + by_rows(lane(), kStride));
        if (step > 0) {
          multiply<T>(x[tile], x[tile + 1], a[step], b);
          continue;
        }
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        mma_16x8x16<T>(x[tile], a[step], left, start[tile % kCount]);
        mma_16x8x16<T>(x[tile + 1], a[step], right, start[(tile + 1) % kCount]);
      }
    }
  }
  /// sum += X B, whose rows are those that the columns of x stand for; x is rounded.
  __device__ static void add_rows(Sums& sum, const uint32_t (&x)[kChunk / 16][4], const T* rows) {
#pragma unroll
    for (int step = 0; step < kChunk / 16; ++step) {
#pragma unroll
      for (int tile = 0; tile < kTiles; tile += 2) {
        uint32_t b[4];
        load_matrix_x4_transposed(
            b, rows + 16 * step * kStride + 8 * tile + by_columns(lane(), kStride));
        multiply<T>(sum[tile], sum[tile + 1], x[step], b);
      }
    }
  }
  __device__ static void add_rows(Sums& sum, const Logits& x, const T* rows) {
    uint32_t a[kChunk / 16][4];
    round(a, x);
    add_rows(sum, a, rows);
  }
  /// The operands A that x becomes.
  __device__ static void round(uint32_t (&a)[kChunk / 16][4], const Logits& x) {
#pragma unroll
    for (int step = 0; step < kChunk / 16; ++step) {
      to_operand<T>(a[step], x[2 * step], x[2 * step + 1]);
    }
  }

  /// The operand A of the positions first to first + 15, from memory.
  __device__ static void load(Operand& a, const T* from, int64_t step, int width, int first,
                              int end) {
#pragma unroll
    for (int i = 0; i < 4 * kSteps; ++i) {
      const int row = first + lane() / 4 + 8 * (i % 2);
      const int column = 16 * (i / 4) + 8 * (i / 2 % 2) + lane() % 4 * 2;
      a[i / 4][i % 4] = row < end && column < width
                            ? *reinterpret_cast<const uint32_t*>(from + row * step + column)
                            : 0;
    }
  }
  /// Writes `factor`(half) times the sums of those positions below `length`, zeros from `end` on.
  template <class F>
  __device__ static void store(T* to, int64_t step, int width, int first, int end, int length,
                               const Sums& sum, F&& factor) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + lane() / 4 + 8 * half;
      if (row >= length) continue;
      const float times = factor(half);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const int column = 8 * tile + lane() % 4 * 2;
        if (column >= width) continue;
        const float* const x = sum[tile] + 2 * half;
        *reinterpret_cast<uint32_t*>(to + row * step + column) =
            row < end ? pack<T>(x[0] * times, x[1] * times) : 0;
      }
    }
  }
};

}  // namespace ribo::kernels::attention
