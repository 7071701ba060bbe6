// Rows of channels in a warp's fragments (common/mma.cuh): read, normalised, written.
//
// The columns of a product may stand for channels in any order that both operands share. In the
// order here each of the four lanes that have a row together has whole vectors of it: rows go from
// memory to fragments and back in accesses of 16 bytes, with no shared memory between.
#pragma once

#include "common/mma.cuh"

namespace ribo::kernels {

/// kWords registers at once.
template <int kWords>
struct alignas(4 * kWords) Words {
  uint32_t word[kWords];
};

/// The order for rows of kChannels of Io. Lane t of a row's four has kChannels / 4 values. Its v-th
/// is column 16 (v / 4) + 8 (v / 2 % 2) + 2 t + v % 2, and is channel (v / kVector) 4 kVector +
/// t kVector + v % kVector.
template <class Io, int kChannels>
struct RowOrder {
  static_assert(kChannels % 16 == 0);
  static constexpr int kValues = kChannels / 4;
  static constexpr int kVector = kChannels % 32 == 0 ? 16 / sizeof(Io) : 4;

  /// The column of a channel; four channels from a multiple of four have the columns column() + 0,
  /// 1, 8 and 9.
  __device__ static int column(int channel) {
    const int t = channel / kVector % 4, v = channel / (4 * kVector) * kVector + channel % kVector;
    return 16 * (v / 4) + 8 * (v / 2 % 2) + 2 * t + v % 2;
  }
  __device__ static int channel(int column) {
    const int t = column % 8 / 2, v = column / 16 * 4 + column / 8 % 2 * 2 + column % 2;
    return v / kVector * 4 * kVector + t * kVector + v % kVector;
  }
};

/// The row of that index, of kChannels.
template <int kChannels, class Io>
__device__ inline Io* row_at(Io* rows, unsigned index) {
  return rows + int64_t{index} * kChannels;
}

/// set(v, value) for the values of lane t of a row; zeros, and nothing is read, unless `real`.
template <int kChannels, class Io, class F>
__device__ inline void load_row(const Io* rows, unsigned index, int t, bool real, F&& set) {
  const Io* const row = row_at<kChannels>(rows, index);
  using Order = RowOrder<Io, kChannels>;
  constexpr int kVector = Order::kVector;
  constexpr int kWords = kVector * static_cast<int>(sizeof(Io)) / 4;
#pragma unroll
  for (int first = 0; first < Order::kValues; first += kVector) {
    Words<kWords> words{};
    if (real) words = *reinterpret_cast<const Words<kWords>*>(row + 4 * first + t * kVector);
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(Io) == 4) {
        set(first + i, __uint_as_float(words.word[i]));
      } else {
        float low, high;
        unpack<Io>(words.word[i], low, high);
        set(first + 2 * i, low);
        set(first + 2 * i + 1, high);
      }
    }
  }
}

/// Writes get(v) for the values of lane t of a row.
template <int kChannels, class Io, class F>
__device__ inline void store_row(Io* rows, unsigned index, int t, F&& get) {
  Io* const row = row_at<kChannels>(rows, index);
  using Order = RowOrder<Io, kChannels>;
  constexpr int kVector = Order::kVector;
  constexpr int kWords = kVector * static_cast<int>(sizeof(Io)) / 4;
#pragma unroll
  for (int first = 0; first < Order::kValues; first += kVector) {
    Words<kWords> words;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(Io) == 4) {
        words.word[i] = __float_as_uint(get(first + i));
      } else {
        words.word[i] = pack<Io>(get(first + 2 * i), get(first + 2 * i + 1));
      }
    }
    *reinterpret_cast<Words<kWords>*>(row + 4 * first + t * kVector) = words;
  }
}

/// Has the second-level cache fetch a row.
template <int kChannels, class Io>
__device__ inline void prefetch_row(const Io* rows, unsigned index) {
#pragma unroll
  for (int i = 0; i < kChannels; i += 128 / static_cast<int>(sizeof(Io))) {
    prefetch(row_at<kChannels>(rows, index) + i);
  }
}

/// kTiles fragments D (common/mma.cuh) that lie side by side: 16 rows of 8 kTiles columns, of which
/// a lane has rows g and g + 8, halves 0 and 1 here.
template <int kTiles>
using Fragments = float[kTiles][4];

/// The v-th value, in RowOrder's count, of half a lane's fragments.
template <int kTiles>
__device__ inline float& value_at(Fragments<kTiles>& x, int half, int v) {
  return x[v / 2][2 * half + v % 2];
}

/// f summed over a row's values v = 0 .. 2 kTiles - 1 of all four lanes.
template <int kTiles, class F>
__device__ inline float row_sum(F&& f) {
  float sum = 0;
#pragma unroll
  for (int v = 0; v < 2 * kTiles; ++v) sum += f(v);
  sum += __shfl_xor_sync(~0u, sum, 1);
  return sum + __shfl_xor_sync(~0u, sum, 2);
}

/// Mean and 1 / sqrt(variance + eps) of a row, whose v-th value is x(v).
struct Norm {
  float mean, scale;
  __device__ float operator()(float x) const { return (x - mean) * scale; }
};
template <int kTiles, class F>
__device__ inline Norm row_norm(F&& x, float eps) {
  constexpr float kPart = 1.0f / (8 * kTiles);
  const float mean = kPart * row_sum<kTiles>(x);
  const float variance = kPart * row_sum<kTiles>([&](int v) {
                           const float d = x(v) - mean;
                           return d * d;
                         });
  return {mean, rsqrtf(variance + eps)};
}

/// The fragments of 16 columns as an operand A; with kRelu, max(0, those), where NaN stays.
template <class T, bool kRelu = false>
__device__ inline void to_operand(uint32_t (&a)[4], const float (&left)[4],
                                  const float (&right)[4]) {
  const auto both = [](float low, float high) {
    return kRelu ? pack_relu<T>(low, high) : pack<T>(low, high);
  };
  a[0] = both(left[0], left[1]);
  a[1] = both(left[2], left[3]);
  a[2] = both(right[0], right[1]);
  a[3] = both(right[2], right[3]);
}

/// Rows of fragments, each normalised, as operands A of 16 columns each.
template <class T, int kTiles>
__device__ inline void normalise(uint32_t (&a)[kTiles / 2][4], Fragments<kTiles>& x, float eps) {
  const auto norm_of = [&](int half) {
    return row_norm<kTiles>([&](int v) { return value_at<kTiles>(x, half, v); }, eps);
  };
  const Norm upper = norm_of(0), lower = norm_of(1);
#pragma unroll
  for (int i = 0; i < kTiles / 2; ++i) {
    float normed[2][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const Norm& norm = j < 2 ? upper : lower;
      normed[0][j] = norm(x[2 * i][j]);
      normed[1][j] = norm(x[2 * i + 1][j]);
    }
    to_operand<T>(a[i], normed[0], normed[1]);
  }
}

/// Writes operand A to a matrix in shared memory; `corner` is its 16 x 16's.
template <class T>
__device__ inline void store_operand(T* corner, int stride, const uint32_t (&a)[4], int lane) {
  T* const upper = corner + (lane >> 2) * stride + 2 * (lane & 3);
  T* const lower = upper + 8 * stride;
  *reinterpret_cast<uint32_t*>(upper) = a[0];
  *reinterpret_cast<uint32_t*>(lower) = a[1];
  *reinterpret_cast<uint32_t*>(upper + 8) = a[2];
  *reinterpret_cast<uint32_t*>(lower + 8) = a[3];
}

/// left += A B and right += A B', for 16 columns of B and B' as load_matrix_x4 finds them.
template <class T>
__device__ inline void multiply(float (&left)[4], float (&right)[4], const uint32_t (&a)[4],
                                const uint32_t (&b)[4]) {
  const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
  mma_16x8x16<T>(left, a, first);
  mma_16x8x16<T>(right, a, second);
}

/// What a row of a matrix of 16-bit values in shared memory has behind its columns, a multiple of
/// 16: so 16 bytes of eight rows lie in different banks.
inline constexpr int kPadding = 8;

/// The element whose address a lane gives to load_matrix_x4 for the 16 x 16 at a matrix's origin.
/// The four 8 x 8 come by columns. Plain they are an A; transposed, rows being k, two B.
__device__ inline int by_columns(int lane, int stride) {
  return (lane & 15) * stride + (lane >> 4) * 8;
}
/// The four come by rows. Plain, rows being n, they are two B; transposed, rows being k, an A.
__device__ inline int by_rows(int lane, int stride) {
  return ((lane >> 4) * 8 + (lane & 7)) * stride + (lane >> 3 & 1) * 8;
}

}  // namespace ribo::kernels
