// The operands of gemm(): how matrices lie in memory.
#pragma once

#include "common/vec.h"

namespace ribo::kernels {
namespace RIBO_ISA {

/// Columns of the block in registers, and of a panel of B.
template <class T>
inline constexpr int kColumns = 2 * lanes<T>;

/// A [m, k]: element (i, p) at data[i * row + p * col]. Transposed is {data, 1, ld}.
template <class T>
struct Rows {
  const T* data;
  int64_t row, col;
};

/// B [k, n] in panels of kColumns columns: the panel that begins with column j stands at
/// data + j * panel, its row p at p * row, kColumns values side by side.
template <class T>
struct Panels {
  const T* data;
  int64_t panel, row;
};

/// B [k, n] where it is: element (p, j) at data[p * row + j * col], and row or col is 1.
template <class T>
struct Columns {
  const T* data;
  int64_t row, col;
};

/// What pack() wrote.
template <class T>
[[gnu::always_inline]] inline Panels<T> panels(const T* packed, int k) {
  return {packed, k, kColumns<T>};
}

/// A row-major B [k, n], used where it is. The last row's end must be readable up to a multiple of
/// kColumns; what stands behind n is never used. `ld` had better not be a multiple of 1 KiB.
template <class T>
[[gnu::always_inline]] inline Panels<T> in_place(const T* b, int64_t ld) {
  return {b, 1, ld};
}

/// Elements that pack() writes.
template <class T>
constexpr int64_t packed_size(int64_t k, int64_t n) {
  return (n + kColumns<T> - 1) / kColumns<T> * kColumns<T> * k;
}

/// Copies B [k, n], element (p, j) at b[p * row + j * col], into panels; zeros behind column n.
template <class T>
void pack(const T* b, int64_t row, int64_t col, int k, int n, T* packed) {
  constexpr int W = kColumns<T>;
  for (int j = 0; j < n; j += W, b += W * col) {
    const int width = n - j < W ? n - j : W;
    int p = 0;
    if (row == 1 && width == W) {
      for (; p + lanes<T> <= k; p += lanes<T>, packed += W * lanes<T>) {
        copy_transposed(b + p, col, packed, W);
        copy_transposed(b + p + lanes<T> * col, col, packed + lanes<T>, W);
      }
    }
    for (; p < k; ++p, packed += W) {
      const T* from = b + p * row;
      if (col == 1 && width == W) {
        store<T>(packed, load(from));
        store<T>(packed + lanes<T>, load(from + lanes<T>));
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
  return panels(packed, k);
}
inline Columns<Bf16> right_factor(const Bf16* b, int64_t row, int64_t col, int, int, Bf16*) {
  return {b, row, col};
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
