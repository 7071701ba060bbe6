// The triangle update: tiles of x into left and right, a product a channel, tiles of that into y.
#pragma once

#include "triangle_multiply/triangle_multiply_tile.h"

namespace ribo::kernels {
namespace RIBO_ISA {

/// The last step of left's and right's product: bias and gate.
template <class T>
struct Gated {
  const T *bias, *gates;
  bool streams;
  [[gnu::always_inline]] Vec<T> operator()(Vec<T> v, int i, int j) const {
    return (v + bias[i]) * load(gates + i * kRow + j);
  }
};

template <class T, class S>
void project_tile(const TriangleForward<T, S>& a, const Place& at, const Place& next,
                  Arena<T> arena) {
  const TriangleSizes& s = a.sizes;
  const int64_t width = width_of(at, kColumns<T>), plane = s.plane();
  Input<T> in(s, arena);
  T* gates = arena.take(s.hidden * kRow);
  in.read(s, at, a.x);
  const T* x = a.x + first_row(s, next);
  const int64_t x_row = kTile * s.channels / s.hidden;
  for (int side = 0; side < 2; ++side) {
    const int64_t row = side * 2 * s.hidden;
    const T* weight = a.weights.in_weight + row * s.channels;
    const T* bias = a.weights.in_bias + row;
    project(s, s.hidden, width, weight + s.hidden * s.channels, in.by_position, gates, kRow,
            Ahead{x, x_row});
    for (int64_t h = 0; h < s.hidden; ++h) {
      const T gate_bias = bias[s.hidden + h];
      for (T* gate = gates + h * kRow; gate < gates + h * kRow + width; gate += lanes<T>) {
        store<T>(gate, sigmoid<T>(load(gate) + gate_bias));
      }
    }
    project(s, s.hidden, width, weight, in.by_position,
            (side == 0 ? a.left : a.right) + at.b * s.hidden * plane + at.first, plane,
            Gated<T>{bias, gates, streams<S>(s)});
  }
}

/// out[i, j] = sum_k left[i, k] right[j, k], or sum_k left[k, j] right[k, i].
template <class T, class S>
void product(const TriangleForward<T, S>& a, int64_t b, int64_t h, Arena<T> arena) {
  const int64_t n = a.sizes.lengths[b], offset = (b * a.sizes.hidden + h) * a.sizes.plane();
  const S *left = a.left + offset, *right = a.right + offset;
  S* out = a.product + offset;
  S* packed = arena.template take<S>(n * triangle_pad(n));
  const int64_t step = next_plane(a.sizes);
  const Ahead next{left + step, n, right + step, n};
  if (a.sizes.outgoing) {
    gemm(Rows{left, n}, right_factor(right, 1, n, n, n, packed), out, n, n, n, n, false, next);
  } else {
    gemm(Transposed{right, n}, right_factor(left, n, 1, n, n, packed), out, n, n, n, n, false,
         next);
  }
  clear_behind(out, n * n);
}

template <class T, class S>
void output_tile(const TriangleForward<T, S>& a, const Place& at, const Place& next,
                 const T* out_packed, Arena<T> arena) {
  const TriangleSizes& s = a.sizes;
  const int channels = static_cast<int>(s.channels);
  const TriangleParameters<T>& w = a.weights;
  const int64_t width = width_of(at, kColumns<T>), stride = triangle_pad(s.channels);
  Input<T> in(s, arena);
  T *mean = arena.take(kTile), *scale = arena.take(kTile);
  T* q = arena.take(s.hidden * kRow);
  in.read(s, at, a.x);
  const S* z = a.product + at.b * s.hidden * s.plane() + at.first;
  const T* x = a.x + first_row(s, next);
  project(s, s.hidden, width, w.in_weight + 4 * s.hidden * s.channels, in.by_position, q, kRow,
          Ahead{z, s.plane()});
  product_moments(s, z, width, mean, scale);
  for (int64_t h = 0; h < s.hidden; ++h, z += s.plane()) {
    T* row = q + h * kRow;
    const T bias = w.in_bias[4 * s.hidden + h], gain = w.norm_weight[h], shift = w.norm_bias[h];
    for (int64_t t = 0; t < width; t += lanes<T>) {
      const Vec<T> normal = (load(z + t) - load(mean + t)) * load(scale + t);
      store<T>(row + t, (normal * gain + shift) * sigmoid<T>(load(row + t) + bias));
    }
  }
  gemm(Transposed{q, kRow}, Panels{out_packed, s.hidden}, in.rows, stride, at.count, s.channels,
       s.hidden, false, Ahead{x, s.channels});
  const bool streamed = streams<T>(s);
  each_row(s, at, [&](int64_t t, int64_t offset, int64_t i, int64_t j) {
    const T* const keep = keep_row(a.residual, at, i, j);
    each_vector<T>(channels, [&](int c, int n) {
      Vec<T> v = load(in.rows + t * stride + c) + load(w.out_bias + c, n);
      if (keep) v *= load(keep + c, n);
      if (a.residual.added) v += load(a.x + offset + c, n);
      store<T>(a.y + offset + c, v, n, streamed);
    });
  });
}

template <class T, class S>
void forward(const TriangleForward<T, S>& a) {
  const TriangleSizes& s = a.sizes;
  const auto arena = [&](int worker) { return Arena<T>{a.scratch + worker * triangle_scratch(s)}; };
  pack<T>(a.weights.out_weight, s.channels, 1, s.hidden, s.channels, a.shared);
  each_tile(s, 4, [&](const Place& at, const Place& next, int64_t, int worker) {
    project_tile(a, at, next, arena(worker));
  });
  parallel(s.batch * s.hidden,
           [&](int64_t i, int worker) { product(a, i / s.hidden, i % s.hidden, arena(worker)); });
  each_tile(s, 4, [&](const Place& at, const Place& next, int64_t, int worker) {
    output_tile(a, at, next, a.shared, arena(worker));
  });
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
