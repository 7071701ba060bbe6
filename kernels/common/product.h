// Small matrix products, for kernels that fuse them with what stands before or behind.
#pragma once

#include <algorithm>

#include "common/vec.h"

namespace ribo::kernels {
namespace RIBO_ISA {

/// Columns that a product computes at once; the right factor has a multiple of it in each row.
template <class T>
inline constexpr int64_t kPanel = 2 * lanes<T>;
/// Rows that a product computes at once: with two vectors each, twelve sums, which hide the latency
/// of the multiply-add and leave registers for the factors.
inline constexpr int kTileRows = 6;

inline constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

/// One factor: element (i, j) is data[i * row + j * column].
template <class T>
struct Left {
  const T* data;
  int64_t row, column;
};
/// The other: element (i, j) is data[i * row + j / kPanel * panel + j % kPanel].
template <class T>
struct Right {
  const T* data;
  int64_t row, panel;
};

template <class T, int rows>
using Tile = Vec<T>[rows][2];

/// sums = a b for `rows` rows of a and one panel of b.
template <class T, int rows>
[[gnu::always_inline]] inline void multiply_tile(int64_t inner, const T* a, int64_t a_row,
                                                 int64_t a_column, const T* b, int64_t b_row,
                                                 Tile<T, rows>& sums) {
#pragma GCC unroll 6
  for (int i = 0; i < rows; ++i) sums[i][0] = sums[i][1] = Vec<T>{};
  for (int64_t p = 0; p < inner; ++p, a += a_column, b += b_row) {
    const Vec<T> b0 = load(b), b1 = load(b + lanes<T>);
#pragma GCC unroll 6
    for (int i = 0; i < rows; ++i) {
      const Vec<T> x = broadcast(a[i * a_row]);
      sums[i][0] += x * b0;
      sums[i][1] += x * b1;
    }
  }
}

/// Calls f(std::integral_constant<int, n>{}) for 1 <= n <= kTileRows.
template <class F>
[[gnu::always_inline]] inline void with_rows(int64_t n, F&& f) {
  switch (n) {
    case 1:
      return f(std::integral_constant<int, 1>{});
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 3:
      return f(std::integral_constant<int, 3>{});
    case 4:
      return f(std::integral_constant<int, 4>{});
    case 5:
      return f(std::integral_constant<int, 5>{});
    default:
      return f(std::integral_constant<int, kTileRows>{});
  }
}

/// c = a b, or c += a b: a [rows, inner], b [inner, columns], c [rows, columns] with c_row elements
/// from one row to the next; columns is a multiple of kPanel.
template <class T, bool add = false>
inline void multiply(int64_t rows, int64_t inner, int64_t columns, Left<T> a, Right<T> b, T* c,
                     int64_t c_row) {
  for (int64_t j = 0; j < columns; j += kPanel<T>) {
    const T* panel = b.data + j / kPanel<T> * b.panel;
    for (int64_t i = 0; i < rows; i += kTileRows) {
      with_rows(std::min<int64_t>(kTileRows, rows - i), [&](auto n) {
        Tile<T, n> sums;
        multiply_tile<T, n>(inner, a.data + i * a.row, a.row, a.column, panel, b.row, sums);
        T* at = c + i * c_row + j;
        for (int r = 0; r < n; ++r, at += c_row) {
          if constexpr (add) {
            sums[r][0] += load(at);
            sums[r][1] += load(at + lanes<T>);
          }
          store<T>(at, sums[r][0]);
          store<T>(at + lanes<T>, sums[r][1]);
        }
      });
    }
  }
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
