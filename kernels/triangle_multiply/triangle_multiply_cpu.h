// The CPU side of triangle_multiply: plain pointers, one template for each instruction set.
//
// A sequence's n x n positions in front of its padding are numbered in one row, p = i n + j, and
// worked on in tiles of kTriangleTile, which cost the same wherever rows begin. Between the stages
// values lie channel-major, [B, H, plane]: each channel is the n x n matrix that the product needs.
// They are computed as T and stored as S (common/isa.h).
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/isa.h"

namespace ribo::kernels {

/// Positions that are worked on at once: a tile's operands stay in the second-level cache, and its
/// rows of a channel are long enough for the processor to see them coming.
inline constexpr int64_t kTriangleTile = 128;

struct TriangleSizes {
  int64_t batch, length, channels, hidden;
  bool outgoing;
  const int64_t* lengths;  // [B]

  /// Elements from one channel to the next in left, right and product.
  int64_t plane() const {
    return (length * length + kTriangleTile - 1) / kTriangleTile * kTriangleTile;
  }
  int64_t tiles() const {
    int64_t sum = 0;
    for (int64_t b = 0; b < batch; ++b) sum += tiles_of(b);
    return sum;
  }
  int64_t tiles_of(int64_t b) const {
    return (lengths[b] * lengths[b] + kTriangleTile - 1) / kTriangleTile;
  }
  /// Tiles whose weight gradients are added up in one place, whoever works on them: the sums do not
  /// depend on the number of threads. About 31 slices for one sequence of 177, at most 128.
  int64_t tiles_per_slice() const { return std::max<int64_t>(8, (tiles() + 127) / 128); }
  int64_t slices() const {
    const int64_t n = tiles_per_slice();
    return (tiles() + n - 1) / n;
  }
};

/// x normalised, without the norm's weight and bias: those are folded into in_weight and in_bias.
template <class T>
struct TriangleParameters {
  const T *in_weight, *in_bias;      // [5 H, C], [5 H]: left, its gate, right, its gate, out gate
  const T *norm_weight, *norm_bias;  // [H]
  const T *out_weight, *out_bias;    // [H, C], [C]: y = q out_weight + out_bias
};

/// What becomes of the update: y, or x + keep y, where keep [B, 1 or L, 1 or L, C] are a dropout's
/// factors; null stands for ones.
template <class T>
struct TriangleResidual {
  bool added;
  const T* keep;
  int64_t batch, row, column;  // strides of keep, 0 where there is one for all
};

template <class T, class S>
struct TriangleForward {
  TriangleSizes sizes;
  TriangleResidual<T> residual;
  TriangleParameters<T> weights;
  const T* x;                 // [B, L, L, C]
  S *left, *right, *product;  // [B, H, plane]
  T* y;                       // [B, L, L, C]; written in front of the lengths
  T* shared;                  // triangle_shared() elements
  T* scratch;                 // triangle_scratch() elements a worker
};

template <class T, class S>
struct TriangleBackward {
  TriangleSizes sizes;
  TriangleResidual<T> residual;
  TriangleParameters<T> weights;
  const T* x;
  const S *left, *right, *product;
  const T* d_y;
  T* d_x;                  // written in front of the lengths
  S *d_product, *d_right;  // [B, H, plane]; d_product ends as the gradient of left
  T *d_in_weight, *d_in_bias, *d_norm_weight, *d_norm_bias, *d_out_weight, *d_out_bias;
  T* partial;  // triangle_partial() elements a slice
  T* shared;
  T* scratch;
};

/// Rounds up to what every instruction set's vectors divide.
inline int64_t triangle_pad(int64_t n) { return (n + 31) / 32 * 32; }
/// Weights in the layout of the products.
inline int64_t triangle_shared(const TriangleSizes& s) {
  return triangle_pad(5 * s.hidden) * triangle_pad(s.channels);
}
/// A worker's tile, or its operands of a product.
inline int64_t triangle_scratch(const TriangleSizes& s) {
  const int64_t tile = kTriangleTile * (4 * triangle_pad(s.channels) + 6) +
                       3 * triangle_pad(s.hidden) * (kTriangleTile + 16);
  const int64_t product = 2 * triangle_pad(s.length) * triangle_pad(s.length);
  return std::max(tile, product);
}
/// A slice's sums.
inline int64_t triangle_partial(const TriangleSizes& s) {
  return 6 * s.hidden * triangle_pad(s.channels) + triangle_pad(s.channels) +
         7 * triangle_pad(s.hidden) * 16;
}

template <Isa isa, class T>
void triangle_forward(const TriangleForward<T, Stored<isa, T>>& args);
template <Isa isa, class T>
void triangle_backward(const TriangleBackward<T, Stored<isa, T>>& args);

}  // namespace ribo::kernels
