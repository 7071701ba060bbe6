// A warp on its own: it takes strips of 32 positions of a padded plane, p = i pitch + j, one after
// the other, from memory to memory. Rows of channels arrive in shared memory that is the warp's
// alone, and go from there to registers as operands (common/rows.cuh has the order of channels), so
// that no warp waits for another.
#pragma once

#include <climits>

#include "common/copy_async.cuh"
#include "triangle_multiply/triangle_multiply_weights.cuh"

namespace ribo::kernels::triangle {

inline constexpr int kStrip = 32;  // positions; a plane has a multiple of that
inline constexpr float kEpsilon = 1e-5f;

/// store_words() of 16 bytes, or nothing: without the branch that a condition would be.
__device__ inline void store_words_if(bool write, void* to, const Words<4>& words) {
#ifdef __CUDACC__
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %5, 0; @p st.global.v4.b32 [%0], {%1, %2, %3, %4}; }" ::"l"(
          to),
      "r"(words.word[0]), "r"(words.word[1]), "r"(words.word[2]), "r"(words.word[3]),
      "r"(static_cast<int>(write))
      : "memory");
#else
  if (write) *static_cast<Words<4>*>(to) = words;
#endif
}

__host__ __device__ inline int pitch(const CudaTriangle& a) { return (a.length + 7) / 8 * 8; }
__host__ __device__ inline int plane(const CudaTriangle& a) { return pitch(a) * pitch(a); }

inline constexpr int kNowhere = INT_MIN;

/// Where position `at` of a plane stands in [B, L, L]: ~row behind the lengths, kNowhere outside of
/// L x L.
__device__ inline int place_of(const CudaTriangle& a, int b, int at) {
  const int i = at / pitch(a), j = at - i * pitch(a);
  if (i >= a.length || j >= a.length) return kNowhere;
  const int row = (b * a.length + i) * a.length + j;
  const int64_t length = a.lengths != nullptr ? a.lengths[b] : a.length;
  return i < length && j < length ? row : ~row;
}

/// A strip: a sequence and the first of its plane's positions.
struct Strip {
  int b, first;

  __device__ bool there() const { return b >= 0; }
  /// The first strip of a block's warp, of which each block has so many; and its next one. Strips
  /// left over at the end go to different blocks. The last sequence comes first: the products
  /// between the passes begin with the first one, so that what either has written last is what the
  /// other reads first, and still in the cache.
  __device__ static Strip start(const CudaTriangle& a, int warp) {
    const Strip first = {a.batch - 1, 0};
    return first.skip(a, static_cast<int>(gridDim.x) * warp + static_cast<int>(blockIdx.x));
  }
  __device__ Strip next(const CudaTriangle& a, int warps) const {
    return skip(a, static_cast<int>(gridDim.x) * warps);
  }
  /// Of [B, H, plane], in channel 0.
  __device__ int64_t element(const CudaTriangle& a) const {
    return int64_t{b * a.hidden} * plane(a) + first;
  }
  /// Where the lane's position stands, as place_of() has it.
  __device__ int place(const CudaTriangle& a) const {
    return there() ? place_of(a, b, first + lane()) : kNowhere;
  }
  __device__ Strip skip(const CudaTriangle& a, int count) const {
    Strip to = {b, first + count * kStrip};
    for (; to.first >= plane(a) && to.there(); --to.b) to.first -= plane(a);
    return to;
  }
};

/// Where kCount rows of kWidth channels wait for a warp.
template <class X, int kWidth, int kCount>
struct alignas(16) Rows {
  static constexpr int kVector = RowOrder<X, kWidth>::kVector;
  static constexpr int kPieces = kWidth / kVector;  // of 16 bytes
  static_assert(kPieces % 8 == 0);
  X data[kCount * kWidth];

  /// Two rows' pieces of the same four lanes are in different banks.
  __device__ static int offset(int p, int piece) {
    return p * kWidth + (piece ^ (p & 1) << 2) * kVector;
  }

  /// Copies rows of [.., C], those of the places of the lanes from `first` on; zeros for what is
  /// not in front of the lengths and behind C.
  __device__ void stage(const void* from, int place, int first, int channels) {
    constexpr int kRows = 32 / kPieces;  // at once; even, so that offset() turns them all alike
    const int piece = lane() % kPieces, column = piece * kVector, p = lane() / kPieces;
    const char* const columns = reinterpret_cast<const char*>(static_cast<const X*>(from) + column);
    const int64_t stride = channels * static_cast<int>(sizeof(X));
    X* const to = data + offset(p, piece);
    const bool real = column < channels;
#pragma unroll
    for (int k = 0; k < kCount; k += kRows) {
      const int row = __shfl_sync(~0u, place, first + p + k);
      const bool there = real && row >= 0;
      copy_async(to + k * kWidth, columns + row * stride, there);
    }
  }

  /// The lane's quarter of row p, in RowOrder, two values to a word.
  template <class T>
  __device__ void packed(uint32_t (&x)[kWidth / 8], int p) const {
    if constexpr (sizeof(X) == 2) {
      load_words(x, p);
    } else {
      float values[kWidth / 4];
      load_floats(values, p);
#pragma unroll
      for (int j = 0; j < kWidth / 8; ++j) x[j] = pack<T>(values[2 * j], values[2 * j + 1]);
    }
  }

  /// The lane's quarter of each row p, in RowOrder, normalised, two values to a word. `scale`: the
  /// rows' 1 / deviation.
  template <class T, int kRows>
  __device__ void normalised(uint32_t (&u)[kRows][kWidth / 8], float (&scale)[kRows],
                             const int (&p)[kRows], int channels) const {
    constexpr int kValues = kWidth / 4;
    const int t = lane() % 4;
    float x[kRows][kValues];
    float mean[kRows] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if constexpr (sizeof(X) == 2) {
        // The tensor cores add, without rounding: half of a row's words as the operand's upper
        // rows, half as the lower ones.
        uint32_t words[kWidth / 8];
        load_words(words, p[r]);
        float sum[4] = {};
#pragma unroll
        for (int j = 0; j < kWidth / 8; j += 4) {
          mma_16x8x16<X>(sum, {words[j], words[j + 1], words[j + 2], words[j + 3]},
                         {pack<X>(1, 1), pack<X>(1, 1)});
        }
        mean[r] = sum[0] + sum[2];
#pragma unroll
        for (int j = 0; j < kWidth / 8; ++j) unpack<X>(words[j], x[r][2 * j], x[r][2 * j + 1]);
      } else {
        load_floats(x[r], p[r]);
#pragma unroll
        for (int v = 0; v < kValues; ++v) mean[r] += x[r][v];
      }
    }
    if constexpr (sizeof(X) == 4) add_lanes(mean);
    const float share = reciprocal(static_cast<float>(channels));
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      mean[r] *= share;
      scale[r] = 0;
#pragma unroll
      for (int i = 0; i < kValues / kVector; ++i) {
        const float middle = (4 * i + t) * kVector < channels ? mean[r] : 0;
#pragma unroll
        for (int v = i * kVector; v < (i + 1) * kVector; ++v) {
          x[r][v] -= middle;
          scale[r] += x[r][v] * x[r][v];
        }
      }
    }
    add_lanes(scale);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      scale[r] = rsqrtf(scale[r] * share + kEpsilon);
#pragma unroll
      for (int v = 0; v < kValues; v += 2) {
        u[r][v / 2] = pack<T>(x[r][v] * scale[r], x[r][v + 1] * scale[r]);
      }
    }
  }

 private:
  __device__ void load_words(uint32_t (&x)[kWidth / 8], int p) const {
#pragma unroll
    for (int i = 0; i < kWidth / 32; ++i) {
      const auto words = *reinterpret_cast<const Words<4>*>(data + offset(p, 4 * i + lane() % 4));
#pragma unroll
      for (int k = 0; k < 4; ++k) x[4 * i + k] = words.word[k];
    }
  }
  __device__ void load_floats(float (&x)[kWidth / 4], int p) const {
#pragma unroll
    for (int i = 0; i < kWidth / 16; ++i) {
      const auto words = *reinterpret_cast<const Words<4>*>(data + offset(p, 4 * i + lane() % 4));
#pragma unroll
      for (int k = 0; k < 4; ++k) x[4 * i + k] = __uint_as_float(words.word[k]);
    }
  }
};

/// A channel-major tensor's kCount positions, [kWidth, kCount], where they wait for a warp.
template <class T, int kWidth, int kCount>
struct alignas(16) Columns {
  static constexpr int kPieces = kCount / 8;  // of 16 bytes
  T data[kWidth * kCount];

  /// Copies what stands at `from` in channel 0; zeros behind H.
  __device__ void stage(const T* from, const CudaTriangle& a) {
    constexpr int kRows = 32 / kPieces;  // at once; offset() turns them all alike
    const int piece = lane() % kPieces, h = lane() / kPieces;
    const int64_t stride = int64_t{kRows} * plane(a);
    T* const to = data + offset(h, piece);
    from += int64_t{h} * plane(a) + 8 * piece;
#pragma unroll
    for (int k = 0; k < kWidth; k += kRows) {
      copy_async(to + k * kCount, from, k < a.hidden);
      from += stride;
    }
  }

  /// The operand A of 16 positions and 16 channels.
  __device__ void load_a(uint32_t (&x)[4], int position, int channel) const {
    const int row = lane() / 16 * 8 + lane() % 8;
    load_matrix_x4_transposed(x,
                              data + offset(row, position / 8 | lane() / 8 % 2) + channel * kCount);
  }

 private:
  /// The same piece of eight channels is in different banks.
  __device__ static int offset(int h, int piece) {
    return h * kCount + (piece ^ h / (8 / kPieces) % kPieces) * 8;
  }
};

/// Of rows of an operand A of hidden units, normalised: x scale + offset; of rows g and g + 8.
/// Units behind `hidden` are zero, share = 1 / hidden.
template <class T, int kSteps>
__device__ inline void norm_of(const uint32_t (&x)[kSteps][4], int hidden, float share,
                               float (&scale)[2], float (&offset)[2]) {
  float sum[4] = {}, squares[2] = {};  // the tensor cores add exactly
#pragma unroll
  for (int s = 0; s < kSteps; ++s) mma_16x8x16<T>(sum, x[s], {pack<T>(1, 1), pack<T>(1, 1)});
  const float mean[2] = {sum[0] * share, sum[2] * share};
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float middle = 16 * s < hidden ? mean[i % 2] : 0;
      float low, high;
      unpack<T>(x[s][i], low, high);
      low -= middle, high -= middle;
      squares[i % 2] += low * low;
      squares[i % 2] += high * high;
    }
  }
  add_lanes(squares);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    scale[r] = rsqrtf(squares[r] * share + kEpsilon);
    offset[r] = -mean[r] * scale[r];
  }
}

/// Writes get(v) for the lane's values of a row of `channels`, in RowOrder, to where `place` is in
/// [.., C]: zeros behind the lengths, nothing outside.
template <int kWidth, class X, class F>
__device__ inline void store_values(X* rows, int place, int channels, F&& get) {
  constexpr int kVector = RowOrder<X, kWidth>::kVector;
  const bool real = place >= 0;
  X* const row = rows + int64_t{real ? place : ~place} * channels;
#pragma unroll
  for (int i = 0; i < kWidth / 4 / kVector; ++i) {
    const int channel = (4 * i + lane() % 4) * kVector;
    Words<4> words;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if constexpr (sizeof(X) == 4) {
        words.word[k] = __float_as_uint(get(i * kVector + k));
      } else {
        words.word[k] = pack<X>(get(i * kVector + 2 * k), get(i * kVector + 2 * k + 1));
      }
    }
#pragma unroll
    for (uint32_t& word : words.word) word = real ? word : 0;
    store_words_if(place != kNowhere && channel < channels, row + channel, words);
  }
}

}  // namespace ribo::kernels::triangle
