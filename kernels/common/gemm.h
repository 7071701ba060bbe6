// Matrix products of the size of a cache: C = A B with A and B in L1 or L2, for kernels that fuse a
// product with what stands before and after it. A block of C, kRows x 2 vectors, stays in registers
// while it runs over k. The loops around it are those of Goto and van de Geijn, Anatomy of
// High-Performance Matrix Multiplication (2008), without packing A.
//
//   pack(w, 1, ldw, k, n, packed);                        // B[p, j] = w[j, p]
//   gemm(Rows{x, ldx}, Panels{packed, k}, y, ldy, m, n, k);
#pragma once

#include <type_traits>

#include "common/panels.h"
#if defined(__AVX512BF16__)
#include "common/gemm_bf16.h"
#endif

namespace ribo::kernels {
namespace RIBO_ISA {

/// Rows of the block in registers; an m that is a multiple of kRows is fastest.
#if defined(__AVX512F__)
inline constexpr int kRows = 12;
#elif defined(__AVX2__)
inline constexpr int kRows = 6;
#else
inline constexpr int kRows = 4;
#endif

/// The same for float64, which serves tests: small, for the compiler's sake.
template <class T>
inline constexpr int block_rows = sizeof(T) == sizeof(float) ? kRows : 1;

/// The default last step of gemm().
struct AsItIs {
  template <class V>
  [[gnu::always_inline]] V operator()(V v, int, int) const {
    return v;
  }
};

/// R x V vectors of C at row i and column j, of which the last has `width` columns.
template <class T, int R, int V, class A, class B, class Finish>
[[gnu::always_inline]] inline void block(A a, B b, int k, T* c, int64_t ldc, int width,
                                         bool accumulate, bool last, int i, int j,
                                         const Finish& finish) {
  constexpr int W = lanes<T>;
  Vec<T> sum[R][V] = {};
  // Where rows lie apart, four share an address, or the addresses of twelve would not fit the
  // registers.
  constexpr int each = std::is_same_v<A, Rows<T>> ? 4 : R, groups = (R + each - 1) / each;
  const T* rows[groups];
#pragma GCC unroll 4
  for (int g = 0; g < groups; ++g) {
    rows[g] = a.data + g * each * a.row;
    asm("" : "+r"(rows[g]));
  }
  if (accumulate) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) __builtin_prefetch(c + r * ldc, 1);
  }
#pragma GCC unroll 4
  for (int p = 0; p < k; ++p, b.data += b.row) {
    Vec<T> right[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) right[v] = load(b.data + v * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> left = broadcast(rows[r / each][r % each * a.row]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[r][v] += left * right[v];
    }
#pragma GCC unroll 4
    for (int g = 0; g < groups; ++g) rows[g] += a.col;
  }
  const auto put = [&](Vec<T> x, int r, int v, int n) {
    T* out = c + r * ldc + v * W;
    if (accumulate) x += load(out, n);
    if (last) x = finish(x, i + r, j + v * W);
    if constexpr (requires { finish.streams; }) {
      store<T>(out, x, n, finish.streams);
    } else {
      store<T>(out, x, n);
    }
  };
  if (width == W) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) put(sum[r][v], r, v, W);
    }
    return;
  }
  // Rare, and in the way of the registers unless it goes through memory.
  T tile[R][V][W];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store<T>(tile[r][v], sum[r][v]);
  }
#pragma GCC unroll 1
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 1
    for (int v = 0; v < V; ++v) put(load(tile[r][v]), r, v, v + 1 < V ? W : width);
  }
}

/// All rows of one panel. Those that full blocks leave over get blocks of 8, 4, 2 and 1 rows: more
/// sizes would be a little faster and take minutes to compile. Not inlined: what the compiler would
/// learn about the arguments costs the loop its registers.
template <class T, int V, int R, class A, class B, class Finish>
[[gnu::noinline]] void panel(A a, B b, int k, T* c, int64_t ldc, int i, int m, int width,
                             bool accumulate, bool last, int j, const Finish& finish) {
  for (; i + R <= m; i += R) {
    block<T, R, V>(a.from(i, 0), b, k, c + i * ldc, ldc, width, accumulate, last, i, j, finish);
  }
  if constexpr (R > 1) {
    constexpr int fewer = R > 8 ? 8 : R > 4 ? 4 : R / 2;
    if (i < m) {
      panel<T, V, fewer>(a, b, k, c, ldc, i, m, width, accumulate, last, j, finish);
    }
  }
}

/// gemm() in registers of T.
template <class A, class B, class T, class Finish>
void gemm_blocks(A a, B b, T* c, int64_t ldc, int m, int n, int k, bool accumulate,
                 const Finish& finish) {
  // A panel of B, depth x kColumns, in L1; A, rows x depth, in L2.
  constexpr int depth = 1024 / sizeof(T), rows = 16 * kRows;
  for (int p = 0; p < k || p == 0; p += depth) {
    const int steps = k - p < depth ? k - p : depth;
    const bool add = accumulate || p > 0, last = p + depth >= k;
    for (int i = 0; i < m; i += rows) {
      const int end = m - i < rows ? m : i + rows;
      for (int j = 0; j < n; j += kColumns<T>) {
        const A left = a.from(0, p);
        const B right = b.from(p, j);
        const int width = n - j < kColumns<T> ? n - j : kColumns<T>;
        if (width > lanes<T>) {
          panel<T, 2, block_rows<T>>(left, right, steps, c + j, ldc, i, end, width - lanes<T>, add,
                                     last, j, finish);
        } else {
          panel<T, 1, block_rows<T>>(left, right, steps, c + j, ldc, i, end, width, add, last, j,
                                     finish);
        }
      }
    }
  }
}

/// C [m, n] = A [m, k] B [k, n], or C += A B, row-major with leading dimension ldc. `finish(v, i,
/// j)` gets the finished vector of row i that begins with column j and returns what is stored
/// (behind column n, at most a vector further, it sees what does not matter). If it has a member
/// `streams` that is true, whole vectors are stored by stream(). A is Rows or Transposed, B Panels
/// or InPlace, C of their type. Compiled for bf16, float operands are rounded to bfloat16; A and B
/// may also be of Bf16, B being Columns<Bf16>, and C may be of Bf16: then it is rounded every 256
/// steps of k.
template <class A, class B, class C, class Finish = AsItIs>
void gemm(A a, B b, C* c, int64_t ldc, int m, int n, int k, bool accumulate = false,
          const Finish& finish = {}) {
#if defined(__AVX512BF16__)
  if constexpr (!std::is_same_v<typename A::Value, double>) {
    gemm_bf16(a, b, c, ldc, m, n, k, accumulate, finish);
  } else
#endif
  {
    gemm_blocks(a, b, c, ldc, m, n, k, accumulate, finish);
  }
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
