// gemm() of the instruction set bf16: operands rounded to bfloat16 on the way, sums in float32.
//
// Both operands are copied into tiles of 1 KiB, 16 rows of 32 values along k, the size of a register
// of AMX. A tile of B holds its columns' values in pairs of neighbours along k, as AMX and
// AVX512-BF16 multiply them. These take denormals for zeros and add in orders of their own, so their
// results differ in the last bits.
#pragma once

#include <immintrin.h>

#include "common/isa.h"
#include "common/panels.h"

namespace ribo::kernels {
namespace RIBO_ISA {

inline constexpr int kTileRows = 16, kTileDepth = 32, kTileSize = kTileRows * kTileDepth;

/// (low[i], high[i]) side by side.
[[gnu::always_inline]] inline __m512i paired(Vec<float> low, Vec<float> high) {
  alignas(64) static constexpr uint16_t kOrder[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const auto both = reinterpret_cast<__m512i>(
      _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(high), reinterpret_cast<__m512>(low)));
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), both);
}

/// Rows 0..m-1 of A [m, k], m <= 16, into ceil(k / 32) tiles with zeros behind both ends. A's rows or
/// its columns lie side by side.
inline void convert_left(Rows<float> a, int m, int k, uint16_t* to) {
  for (int p = 0; p < k; p += kTileDepth, to += kTileSize) {
    if (a.col == 1) {
      for (int i = 0; i < kTileRows; ++i) {
        const float* row = a.data + i * a.row + p;
        const int n = i < m ? k - p : 0;
        const auto values = [&](int first) {
          const int left = n - first;
          return left <= 0 ? Vec<float>{} : load(row + first, left < kTileRows ? left : kTileRows);
        };
        const __m512bh v = _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(values(kTileRows)),
                                               reinterpret_cast<__m512>(values(0)));
        _mm512_storeu_si512(to + i * kTileDepth, reinterpret_cast<__m512i>(v));
      }
      continue;
    }
    const auto column = [&](int q) { return q < k ? load(a.data + q * a.col, m) : Vec<float>{}; };
    Vec<float> pairs[kTileRows];
#pragma GCC unroll 16
    for (int q = 0; q < kTileRows; ++q) {
      pairs[q] = reinterpret_cast<Vec<float>>(paired(column(p + 2 * q), column(p + 2 * q + 1)));
    }
    transpose<float>(pairs);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      std::memcpy(to + i * kTileDepth, &pairs[i], sizeof pairs[i]);
    }
  }
}

/// Sixteen columns of B [k, .] into ceil(k / 32) tiles with zeros behind k.
inline void convert_right(const float* b, int64_t row, int k, uint16_t* to) {
  const int end = (k + kTileDepth - 1) / kTileDepth * kTileDepth;
  for (int p = 0; p < end; p += 2, b += 2 * row, to += kTileDepth) {
    const Vec<float> low = p < k ? load(b) : Vec<float>{};
    const Vec<float> high = p + 1 < k ? load(b + row) : Vec<float>{};
    _mm512_storeu_si512(to, paired(low, high));
  }
}

/// Sums of a block of C, at most two tiles in either direction: 32 rows of 32.
inline constexpr int kSums = 2 * kTileRows;

/// sums = A B over `steps` tiles along k; the second tile of A's rows or B's columns comes `steps`
/// tiles behind the first.
template <int R, int C>
[[gnu::noinline]] void multiply_amx(const uint16_t* a, const uint16_t* b, int steps, float* sums) {
  asm volatile("" ::: "memory");  // g++ does not see what the instructions read
  const int64_t other = static_cast<int64_t>(steps) * kTileSize;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int s = 0; s < steps; ++s, a += kTileSize, b += kTileSize) {
    _tile_loadd(4, a, 2 * kTileDepth);
    _tile_loadd(6, b, 2 * kTileDepth);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (C > 1) {
      _tile_loadd(7, b + other, 2 * kTileDepth);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, a + other, 2 * kTileDepth);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (C > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  constexpr int64_t row = kSums * sizeof(float);
  _tile_stored(0, sums, row);
  if constexpr (C > 1) _tile_stored(1, sums + kTileRows, row);
  if constexpr (R > 1) _tile_stored(2, sums + kTileRows * kSums, row);
  if constexpr (R > 1 && C > 1) _tile_stored(3, sums + kTileRows * kSums + kTileRows, row);
  asm volatile("" ::: "memory");
}

/// The same by AVX512-BF16, eight rows at a time.
template <int R, int C>
[[gnu::noinline]] void multiply_avx512(const uint16_t* a, const uint16_t* b, int steps,
                                       float* sums) {
  constexpr int rows = 8;
  const int64_t other = static_cast<int64_t>(steps) * kTileSize;
  for (int i = 0; i < R * kTileRows; i += rows) {
    const uint16_t* left = a + i / kTileRows * other + i % kTileRows * kTileDepth;
    const uint16_t* right = b;
    __m512 sum[rows][C] = {};
    for (int s = 0; s < steps; ++s, left += kTileSize) {
      for (int q = 0; q < kTileRows; ++q, right += kTileDepth) {
        __m512bh column[C];
#pragma GCC unroll 2
        for (int v = 0; v < C; ++v) {
          column[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(right + v * other));
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
          int32_t two;
          std::memcpy(&two, left + r * kTileDepth + 2 * q, sizeof two);
          const auto row = reinterpret_cast<__m512bh>(_mm512_set1_epi32(two));
#pragma GCC unroll 2
          for (int v = 0; v < C; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], row, column[v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < C; ++v) {
        _mm512_storeu_ps(sums + (i + r) * kSums + v * kTileRows, sum[r][v]);
      }
    }
  }
}

/// AMX's registers, all of them whole tiles, while it lives.
class AmxTiles {
 public:
  explicit AmxTiles(bool used) : used_(used) {
    if (!used) return;
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < 8; ++i) {
      config.bytes[i] = 2 * kTileDepth;
      config.rows[i] = kTileRows;
    }
    asm volatile("" ::"m"(config));
    _tile_loadconfig(&config);
  }
  ~AmxTiles() {
    if (used_) _tile_release();
  }
  AmxTiles(const AmxTiles&) = delete;

 private:
  const bool used_;
};

/// gemm() with rounded operands.
template <class Finish>
void gemm_bf16(Rows<float> a, Panels<float> b, float* c, int64_t ldc, int m, int n, int k,
               bool accumulate, const Finish& finish) {
  constexpr int W = kTileRows, depth = 8 * kTileDepth, rows = 12 * kTileRows;
  alignas(64) uint16_t left[rows * depth], right[2 * W * depth];
  alignas(64) float sums[kSums * kSums];
  using Multiply = void (*)(const uint16_t*, const uint16_t*, int, float*);
  static constexpr Multiply kMultiply[2][2][2] = {
      {{multiply_avx512<1, 1>, multiply_avx512<1, 2>},
       {multiply_avx512<2, 1>, multiply_avx512<2, 2>}},
      {{multiply_amx<1, 1>, multiply_amx<1, 2>}, {multiply_amx<2, 1>, multiply_amx<2, 2>}}};
  const bool amx = isa() == Isa::amx;
  const auto& multiply = kMultiply[amx];
  const AmxTiles tiles(amx);
  for (int p = 0; p < k || p == 0; p += depth) {
    const int inner = k - p < depth ? k - p : depth;
    const int steps = (inner + kTileDepth - 1) / kTileDepth;
    const bool add = accumulate || p > 0, last = p + depth >= k;
    for (int first = 0; first < m; first += rows) {
      const int end = m - first < rows ? m : first + rows;
      for (int i = first; i < end; i += W) {
        convert_left({a.data + i * a.row + p * a.col, a.row, a.col}, end - i < W ? end - i : W,
                     inner, left + (i - first) / W * steps * kTileSize);
      }
      for (int j = 0; j < n; j += 2 * W) {
        const bool two_columns = n - j > W;
        for (int v = 0; v <= two_columns; ++v) {
          convert_right(b.data + j * b.panel + p * b.row + v * W, b.row, inner,
                        right + v * steps * kTileSize);
        }
        for (int i = first; i < end; i += 2 * W) {
          const uint16_t* at = left + (i - first) / W * steps * kTileSize;
          multiply[end - i > W][two_columns](at, right, steps, sums);
          for (int r = 0; r < 2 * W && i + r < end; ++r) {
            for (int v = 0; v <= two_columns; ++v) {
              const int column = j + v * W, width = n - column < W ? n - column : W;
              float* out = c + (i + r) * ldc + column;
              Vec<float> x = load(sums + r * kSums + v * W);
              if (add) x += load(out, width);
              store<float>(out, last ? finish(x, i + r, column) : x, width);
            }
          }
        }
      }
    }
  }
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
