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

/// Writes them to global memory at once. Of an assignment the compiler may make a store a word.
template <int kWords>
__device__ inline void store_words(void* to, const Words<kWords>& words) {
#ifdef __CUDACC__
  if constexpr (kWords == 4) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(words.word[0]),
                 "r"(words.word[1]), "r"(words.word[2]), "r"(words.word[3])
                 : "memory");
    return;
  } else if constexpr (kWords == 2) {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(words.word[0]),
                 "r"(words.word[1])
                 : "memory");
    return;
  }
#endif
  *static_cast<Words<kWords>*>(to) = words;
}

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

/// What a lane reads of a row at once: its values k kVector to (k + 1) kVector - 1.
template <class Io, int kChannels>
using RowWords = Words<RowOrder<Io, kChannels>::kVector* static_cast<int>(sizeof(Io)) / 4>;
template <class Io, int kChannels>
inline constexpr int kRowWords =
    RowOrder<Io, kChannels>::kValues / RowOrder<Io, kChannels>::kVector;

/// Where lane t reads its k-th words of a row.
template <int kChannels, class Io>
__device__ inline const RowWords<Io, kChannels>* words_at(const Io* rows, unsigned index, int t,
                                                          int k) {
  constexpr int kVector = RowOrder<Io, kChannels>::kVector;
  return reinterpret_cast<const RowWords<Io, kChannels>*>(row_at<kChannels>(rows, index) +
                                                          (4 * k + t) * kVector);
}

/// set(v, value) for the values of a lane whose k-th words are get(k).
template <class Io, int kChannels, class Get, class F>
__device__ inline void unpack_row(Get&& get, F&& set) {
  constexpr int kVector = RowOrder<Io, kChannels>::kVector;
#pragma unroll
  for (int k = 0; k < kRowWords<Io, kChannels>; ++k) {
    const RowWords<Io, kChannels> words = get(k);
    constexpr int kWords = sizeof(words) / 4;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(Io) == 4) {
        set(k * kVector + i, __uint_as_float(words.word[i]));
      } else {
        float low, high;
        unpack<Io>(words.word[i], low, high);
        set(k * kVector + 2 * i, low);
        set(k * kVector + 2 * i + 1, high);
      }
    }
  }
}

/// set(v, value) for the values of lane t of a row; zeros, and nothing is read, unless `real`.
template <int kChannels, class Io, class F>
__device__ inline void load_row(const Io* rows, unsigned index, int t, bool real, F&& set) {
  unpack_row<Io, kChannels>(
      [&](int k) {
        RowWords<Io, kChannels> words{};
        if (real) words = *words_at<kChannels>(rows, index, t, k);
        return words;
      },
      set);
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
    store_words(row + 4 * first + t * kVector, words);
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

/// Each of the sums over the four lanes of its row. Together, as they wait for one another.
template <int kCount>
__device__ inline void add_lanes(float (&sum)[kCount]) {
#pragma unroll
  for (int lanes = 1; lanes < 4; lanes *= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] += __shfl_xor_sync(~0u, sum[i], lanes);
  }
}

/// (x - mean) / sqrt(variance + eps) of a row.
struct Norm {
  float mean, scale;
  __device__ float operator()(float x) const { return (x - mean) * scale; }
};

/// Of rows of 8 kTiles channels, where x(row, v) is the v-th value.
template <int kTiles, int kRows, class F>
__device__ inline void row_norms(Norm (&norms)[kRows], float eps, F&& x) {
  constexpr float kPart = 1.0f / (8 * kTiles);
  float mean[kRows] = {}, variance[kRows] = {};
#pragma unroll
  for (int v = 0; v < 2 * kTiles; ++v) {
#pragma unroll
    for (int row = 0; row < kRows; ++row) mean[row] += x(row, v) * kPart;
  }
  add_lanes(mean);
#pragma unroll
  for (int v = 0; v < 2 * kTiles; ++v) {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const float d = x(row, v) - mean[row];
      variance[row] += d * d;
    }
  }
  add_lanes(variance);
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    norms[row] = {mean[row], rsqrtf(variance[row] * kPart + eps)};
  }
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

/// kParts times 16 rows of fragments, each row normalised, as operands A of 16 columns each. Norm
/// 2 i + j is that of part i's half j.
template <class T, int kTiles, int kParts>
__device__ inline void normalise(uint32_t (&a)[kParts][kTiles / 2][4], Norm (&norms)[2 * kParts],
                                 Fragments<kTiles> (&x)[kParts], float eps) {
  row_norms<kTiles>(norms, eps,
                    [&](int row, int v) { return value_at<kTiles>(x[row / 2], row % 2, v); });
#pragma unroll
  for (int i = 0; i < kParts * kTiles / 2; ++i) {
    const int part = i / (kTiles / 2), step = i % (kTiles / 2);
    float normed[2][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const Norm& norm = norms[2 * part + j / 2];
      normed[0][j] = norm(x[part][2 * step][j]);
      normed[1][j] = norm(x[part][2 * step + 1][j]);
    }
    to_operand<T>(a[part][step], normed[0], normed[1]);
  }
}

/// Where a lane writes its first values of an operand A, from the corner of the 16 x 16.
__device__ inline int by_pairs(int lane, int stride) {
  return (lane >> 2) * stride + 2 * (lane & 3);
}
/// Writes operand A to a matrix in shared memory, from by_pairs().
template <class T>
__device__ inline void store_operand(T* to, int stride, const uint32_t (&a)[4]) {
  *reinterpret_cast<uint32_t*>(to) = a[0];
  *reinterpret_cast<uint32_t*>(to + 8 * stride) = a[1];
  *reinterpret_cast<uint32_t*>(to + 8) = a[2];
  *reinterpret_cast<uint32_t*>(to + 8 * stride + 8) = a[3];
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
