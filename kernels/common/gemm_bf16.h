// gemm() of the instruction set bf16: operands are bfloat16 or rounded on the way, sums float32.
//
// Both operands are copied into tiles of 1 KiB, 16 rows of 32 values along k, the size of a
// register of AMX. A tile of B holds its columns' values in pairs of neighbours along k, as AMX and
// AVX512-BF16 multiply them. These take denormals for zeros and add in orders of their own, so
// their results differ in the last bits.
#pragma once

#include <immintrin.h>

#include "common/isa.h"
#include "common/panels.h"

namespace ribo::kernels {
namespace RIBO_ISA {

inline constexpr int kTileRows = 16, kTileDepth = 32, kTileSize = kTileRows * kTileDepth;

/// The order of 32 values of which i and i + 16 become neighbours.
alignas(64) inline constexpr uint16_t kInPairs[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                      21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

/// 32 values that lie side by side along k, of which n are there; zeros behind them.
[[gnu::always_inline]] inline __m512i along(const float* p, int n) {
  const auto half = [&](int first) {
    const int left = n - first;
    return reinterpret_cast<__m512>(
        left <= 0 ? Vec<float>{} : load(p + first, left < kTileRows ? left : kTileRows));
  };
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(half(kTileRows), half(0)));
}
[[gnu::always_inline]] inline __m512i along(const Bf16* p, int n) {
  return n >= kTileDepth ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16((1u << n) - 1, p);
}

/// (p[i], p[i + next]) for i < n <= 16, side by side: two neighbours along k, of which `rows` are
/// there; zeros for the others.
[[gnu::always_inline]] inline __m512i across(const float* p, int64_t next, int rows, int n) {
  const auto row = [&](int q) {
    return reinterpret_cast<__m512>(q < rows ? load(p + q * next, n) : Vec<float>{});
  };
  const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(row(1), row(0)));
  return _mm512_permutexvar_epi16(_mm512_load_si512(kInPairs), both);
}
[[gnu::always_inline]] inline __m512i across(const Bf16* p, int64_t next, int rows, int n) {
  const auto row = [&](int q) {
    if (q >= rows) return _mm256_setzero_si256();
    return _mm256_maskz_loadu_epi16(first_lanes(n), p + q * next);
  };
  // maskz: without it g++ 12 warns of its own header.
  const __m512i both = _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(row(0)), row(1), 1);
  return _mm512_permutexvar_epi16(_mm512_load_si512(kInPairs), both);
}

/// Element (i, p) at data[i * row + p * col], and row or col is 1.
template <class S>
struct Strided {
  const S* data;
  int64_t row, col;
};

/// m <= 16 rows of A [m, k], or columns of B [k, m] as rows, into ceil(k / 32) tiles with zeros
/// behind both ends. Either the values of a row or those of a column lie side by side.
template <bool right, class S>
[[gnu::always_inline]] inline void convert(Strided<S> x, int m, int k, uint16_t* to) {
  for (int p = 0; p < k; p += kTileDepth, to += kTileSize) {
    __m512i lines[kTileRows];
    const bool in_rows = x.col == 1;
    if (in_rows) {
#pragma GCC unroll 16
      for (int i = 0; i < kTileRows; ++i) {
        lines[i] = i < m ? along(x.data + i * x.row + p, k - p) : _mm512_setzero_si512();
      }
    } else {
#pragma GCC unroll 16
      for (int q = 0; q < kTileRows; ++q) {
        const int first = p + 2 * q;
        lines[q] = across(x.data + first * x.col, x.col, k - first, m);
      }
    }
    if (in_rows == right) {
      Vec<float> v[kTileRows];
      std::memcpy(v, lines, sizeof v);
      transpose<float>(v);
      std::memcpy(lines, v, sizeof v);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) _mm512_storeu_si512(to + i * kTileDepth, lines[i]);
  }
}

template <class S>
[[gnu::noinline]] void convert_left(Strided<S> a, int m, int k, uint16_t* to) {
  convert<false>(a, m, k, to);
}
template <class S>
[[gnu::noinline]] void convert_right(Strided<S> columns, int m, int k, uint16_t* to) {
  convert<true>(columns, m, k, to);
}

/// The columns of B as rows, from column j and row p of B on.
inline Strided<float> columns(Panels<float> b, int p, int j) {
  const int in_panel = j % kColumns<float>;
  return {b.from(p, j - in_panel).data + in_panel, 1, b.row};
}
inline Strided<float> columns(InPlace<float> b, int p, int j) {
  return {b.from(p, j).data, 1, b.row};
}
inline Strided<Bf16> columns(Columns<Bf16> b, int p, int j) {
  return {b.data + p * b.row + j * b.col, b.col, b.row};
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
template <class A, class B, class C, class Finish>
void gemm_bf16(A a, B b, C* c, int64_t ldc, int m, int n, int k, bool accumulate,
               const Finish& finish) {
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
        convert_left<typename A::Value>({a.from(i, p).data, a.row, a.col},
                                        end - i < W ? end - i : W, inner,
                                        left + (i - first) / W * steps * kTileSize);
      }
      for (int j = 0; j < n; j += 2 * W) {
        const bool two_columns = n - j > W;
        for (int v = 0; v <= two_columns; ++v) {
          const int column = j + v * W;
          convert_right(columns(b, p, column), n - column < W ? n - column : W, inner,
                        right + v * steps * kTileSize);
        }
        for (int i = first; i < end; i += 2 * W) {
          const uint16_t* at = left + (i - first) / W * steps * kTileSize;
          multiply[end - i > W][two_columns](at, right, steps, sums);
          for (int r = 0; r < 2 * W && i + r < end; ++r) {
            for (int v = 0; v <= two_columns; ++v) {
              const int column = j + v * W, width = n - column < W ? n - column : W;
              C* out = c + (i + r) * ldc + column;
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
