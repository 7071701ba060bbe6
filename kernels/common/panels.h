// The operands of gemm(): how matrices lie in memory.
#pragma once

#include "common/vec.h"

namespace ribo::kernels {
namespace RIBO_ISA {

/// Columns of the block in registers, and of a panel of B.
template <class T>
inline constexpr int kColumns = 2 * lanes<T>;

/// A [m, k] row by row: element (i, p) at data[i * row + p].
template <class T>
struct Rows {
  using Value = T;
  const T* data;
  int64_t row;
  static constexpr int64_t col = 1;
  [[gnu::always_inline]] Rows from(int64_t i, int64_t p) const { return {data + i * row + p, row}; }
};

/// A [m, k] column by column: element (i, p) at data[i + p * col].
template <class T>
struct Transposed {
  using Value = T;
  const T* data;
  int64_t col;
  static constexpr int64_t row = 1;
  [[gnu::always_inline]] Transposed from(int64_t i, int64_t p) const {
    return {data + i + p * col, col};
  }
};

/// B [k, n] as pack() leaves it, in panels of kColumns columns, one behind the other: the panel
/// that begins with column j stands at data + j * panel, its row p at p * row.
template <class T>
struct Panels {
  const T* data;
  int64_t panel;  // k
  static constexpr int64_t row = kColumns<T>;
  [[gnu::always_inline]] Panels from(int64_t p, int64_t j) const {
    return {data + j * panel + p * row, panel};
  }
};

/// B [k, n] row by row where it is, element (p, j) at data[p * row + j]. The last row's end must be
/// readable up to a multiple of kColumns; what stands behind n is never used. `row` had better not
/// be a multiple of 1 KiB.
template <class T>
struct InPlace {
  const T* data;
  int64_t row;
  [[gnu::always_inline]] InPlace from(int64_t p, int64_t j) const {
    return {data + p * row + j, row};
  }
};

/// B [k, n] of bfloat16 where it is: element (p, j) at data[p * row + j * col], and row or col
/// is 1.
template <class T>
struct Columns {
  const T* data;
  int64_t row, col;
};

/// Elements that pack() writes.
template <class T>
constexpr int64_t packed_size(int64_t k, int64_t n) {
  return (n + kColumns<T> - 1) / kColumns<T> * kColumns<T> * k;
}

/// Copies B [k, n], element (p, j) at b[p * row + j * col], into panels; zeros behind column n.
template <class T>
void pack(const T* b, int64_t row, int64_t col, int k, int n, T* packed) {
  constexpr int W = kColumns<T>, half = lanes<T>;
  for (int j = 0; j < n; j += W, b += W * col) {
    const int width = n - j < W ? n - j : W;
    const int first = width < half ? width : half, second = width - first;
    int p = 0;
    if (row == 1) {
      for (; p + half <= k; p += half, packed += W * half) {
        copy_transposed(b + p, col, packed, W, first);
        copy_transposed(b + p + half * col, col, packed + half, W, second);
      }
    }
    for (; p < k; ++p, packed += W) {
      const T* from = b + p * row;
      if (col == 1) {
        store<T>(packed, load(from, first));
        store<T>(packed + half, load(from + half, second));
        continue;
      }
      for (int i = 0; i < width; ++i) packed[i] = from[i * col];
      for (int i = width; i < W; ++i) packed[i] = T{};
    }
  }
}

/// B [k, n], element (p, j) at b[p * row + j * col], as gemm() wants a factor that it has to bring
/// into order: packed, but bfloat16 where it is.
template <class T>
Panels<T> right_factor(const T* b, int64_t row, int64_t col, int k, int n, T* packed) {
  pack<T>(b, row, col, k, n, packed);
  return {packed, k};
}
inline Columns<Bf16> right_factor(const Bf16* b, int64_t row, int64_t col, int, int, Bf16*) {
  return {b, row, col};
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
