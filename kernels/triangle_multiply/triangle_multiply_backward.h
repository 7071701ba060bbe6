// Its gradients, the three stages in reverse; gates and norms are computed again.
#pragma once

#include "triangle_multiply/triangle_multiply_tile.h"

namespace ribo::kernels {
namespace RIBO_ISA {

/// Sums over the positions of a slice of tiles.
template <class T>
struct Sums {
  T *in_weight, *out_weight;             // [5 H, C padded], [H, C padded]
  T *in_bias, *norm_weight, *norm_bias;  // [5 H, lanes], [H, lanes], [H, lanes]
  T* out_bias;                           // [C padded]

  Sums(const TriangleSizes& s, T* partial) {
    Arena<T> arena{partial};
    in_weight = arena.take(5 * s.hidden * triangle_pad(s.channels));
    out_weight = arena.take(s.hidden * triangle_pad(s.channels));
    in_bias = arena.take(5 * s.hidden * lanes<T>);
    norm_weight = arena.take(s.hidden * lanes<T>);
    norm_bias = arena.take(s.hidden * lanes<T>);
    out_bias = arena.take(s.channels);
  }
};

template <class T>
[[gnu::always_inline]] inline void add_to(T* at, Vec<T> x) {
  store<T>(at, load(at) + x);
}

/// From d_y: the gradients of the output's weights, of the product, and the out gate's share of the
/// gradient of the normalised x, which waits in d_x.
template <class T, class S>
void output_tile_backward(const TriangleBackward<T, S>& a, const Place& at, const Place& next,
                          const T* gate_packed, Sums<T> sums, Arena<T> arena) {
  const TriangleSizes& s = a.sizes;
  const int channels = static_cast<int>(s.channels);
  const TriangleParameters<T>& w = a.weights;
  const int64_t width = width_of(at, kColumns<T>), stride = triangle_pad(s.channels);
  const int64_t hidden = s.hidden, plane = s.plane();
  Input<T> in(s, arena);
  T *mean = arena.take(kTile), *scale = arena.take(kTile);
  T *mean_d = arena.take(kTile), *mean_dz = arena.take(kTile);
  T *d_y = arena.take(kTile * stride), *packed = arena.take(kTile * stride);
  T *d_q = arena.take(hidden * kRow), *d_gate = arena.take(hidden * kRow);
  T* q = arena.take(hidden * kRow);
  in.read(s, at, a.x);
  View<T> given = view(s, at, a.d_y, d_y);
  if (a.residual.keep) {
    each_row(s, at, [&](int64_t t, int64_t, int64_t i, int64_t j) {
      const T *from = given.data + t * given.stride, *keep = keep_row(a.residual, at, i, j);
      each_vector<T>(channels, [&](int c, int n) {
        store<T>(d_y + t * stride + c, load(from + c, n) * load(keep + c, n));
      });
    });
    given = {d_y, stride};
  }
  pack<T>(given.data, 1, given.stride, s.channels, width, packed);
  const S* z = a.product + at.b * hidden * plane + at.first;
  S* d_z = a.d_product + at.b * hidden * plane + at.first;
  const bool streamed = streams<S>(s);
  project(s, hidden, width, w.out_weight, packed, d_q, kRow, Ahead{z, plane});
  project(s, hidden, width, w.in_weight + 4 * hidden * s.channels, in.by_position, d_gate, kRow,
          AsItIs{});
  product_moments(s, z, width, mean, scale);
  std::memset(mean_d, 0, sizeof(T) * kTile);
  std::memset(mean_dz, 0, sizeof(T) * kTile);
  const T share = T{1} / static_cast<T>(hidden);
  for (int64_t h = 0; h < hidden; ++h) {
    const T bias = w.in_bias[4 * hidden + h], gain = w.norm_weight[h], shift = w.norm_bias[h];
    Vec<T> sum_gain{}, sum_shift{}, sum_gate{};
    for (int64_t t = 0; t < width; t += lanes<T>) {
      const Gate<T> gate(load(d_gate + h * kRow + t) + bias);
      const Vec<T> normal = (load(z + h * plane + t) - load(mean + t)) * load(scale + t);
      const Vec<T> value = (normal * gain + shift) * gate.open, d = load(d_q + h * kRow + t);
      const Vec<T> d_value = d * gate.open, d_pre = d * value * gate.closed;
      const Vec<T> d_normal = d_value * gain;
      store<T>(q + h * kRow + t, value);
      store<T>(d_gate + h * kRow + t, d_pre);
      store<T>(d_q + h * kRow + t, d_normal);
      sum_gain += d_value * normal;
      sum_shift += d_value;
      sum_gate += d_pre;
      add_to<T>(mean_d + t, d_normal * share);
      add_to<T>(mean_dz + t, d_normal * normal * share);
    }
    add_to<T>(sums.norm_weight + h * lanes<T>, sum_gain);
    add_to<T>(sums.norm_bias + h * lanes<T>, sum_shift);
    add_to<T>(sums.in_bias + (4 * hidden + h) * lanes<T>, sum_gate);
  }
  for (int64_t h = 0; h < hidden; ++h) {
    for (int64_t t = 0; t < width; t += lanes<T>) {
      const Vec<T> r = load(scale + t);
      const Vec<T> normal = (load(z + h * plane + t) - load(mean + t)) * r;
      store<T>(d_z + h * plane + t,
               (load(d_q + h * kRow + t) - load(mean_d + t) - normal * load(mean_dz + t)) * r,
               lanes<T>, streamed);
    }
  }

  each_vector<T>(channels, [&](int c, int n) {
    Vec<T> sum = load(sums.out_bias + c);
    for (int64_t t = 0; t < at.count; ++t) sum += load(given.data + t * given.stride + c, n);
    store<T>(sums.out_bias + c, sum);
  });
  pack<T>(given.data, given.stride, 1, at.count, s.channels, packed);
  gemm(Rows{q, kRow}, Panels{packed, at.count}, sums.out_weight, stride, hidden, s.channels,
       at.count, true);
  in.normalise_rows(s, at.count);
  pack<T>(in.rows, stride, 1, at.count, s.channels, packed);
  gemm(Rows{d_gate, kRow}, Panels{packed, at.count}, sums.in_weight + 4 * hidden * stride, stride,
       hidden, s.channels, at.count, true);
  gemm(Transposed{d_gate, kRow}, Panels{gate_packed, hidden}, d_y, stride, at.count, s.channels,
       hidden, false,
       Ahead{a.x + first_row(s, next), s.channels, a.d_y + first_row(s, next), s.channels});
  each_row(s, at, [&](int64_t t, int64_t offset, int64_t, int64_t) {
    each_vector<T>(channels, [&](int c, int n) {
      store<T>(a.d_x + offset + c, load(d_y + t * stride + c), n, streamed);
    });
  });
}

template <class T, class S>
void product_backward(const TriangleBackward<T, S>& a, int64_t b, int64_t h, Arena<T> arena) {
  const int64_t n = a.sizes.lengths[b], offset = (b * a.sizes.hidden + h) * a.sizes.plane();
  const S *left = a.left + offset, *right = a.right + offset;
  S *d = a.d_product + offset, *d_right = a.d_right + offset;
  S* packed = arena.template take<S>(n * triangle_pad(n));
  const int64_t step = next_plane(a.sizes);
  const Ahead next_left{left + step, n, d + step, n}, next{right + step, n, d + step, n};
  const S* given = d;  // whose place the gradient of left takes: packed or copied before
  if (a.sizes.outgoing || !std::is_same_v<S, T>) {
    S* copy = arena.template take<S>(n * n);
    std::memcpy(copy, d, sizeof(S) * n * n);
    given = copy;
  }
  if (a.sizes.outgoing) {
    gemm(Rows{given, n}, right_factor(right, n, 1, n, n, packed), d, n, n, n, n, false, next_left);
    gemm(Transposed{given, n}, right_factor(left, n, 1, n, n, packed), d_right, n, n, n, n, false,
         next);
  } else {
    gemm(Rows{left, n}, right_factor(given, 1, n, n, n, packed), d_right, n, n, n, n, false,
         next_left);
    gemm(Rows{right, n}, right_factor(given, n, 1, n, n, packed), d, n, n, n, n, false, next);
  }
  clear_behind(d_right, n * n);
}

/// From the gradients of left and right: those of the projections and of x.
template <class T, class S>
void project_tile_backward(const TriangleBackward<T, S>& a, const Place& at, const Place& next,
                           const T* const* in_packed, Sums<T> sums, Arena<T> arena) {
  const TriangleSizes& s = a.sizes;
  const int channels = static_cast<int>(s.channels);
  const int64_t width = width_of(at, kColumns<T>), stride = triangle_pad(s.channels);
  const int64_t hidden = s.hidden, plane = s.plane();
  Input<T> in(s, arena);
  T *packed = arena.take(kTile * stride), *d_x = arena.take(kTile * stride);
  T *gates = arena.take(hidden * kRow), *d = arena.take(2 * hidden * kRow);
  in.read(s, at, a.x);
  in.normalise_rows(s, at.count);
  pack<T>(in.rows, stride, 1, at.count, s.channels, packed);
  each_row(s, at, [&](int64_t t, int64_t offset, int64_t, int64_t) {
    std::memcpy(d_x + t * stride, a.d_x + offset, sizeof(T) * s.channels);
  });
  for (int side = 0; side < 2; ++side) {
    const int64_t row = side * 2 * hidden, offset = at.b * hidden * plane + at.first;
    const S* value = (side == 0 ? a.left : a.right) + offset;
    const S* d_value = (side == 0 ? a.d_product : a.d_right) + offset;
    project(s, hidden, width, a.weights.in_weight + (row + hidden) * s.channels, in.by_position,
            gates, kRow, Ahead{value, plane, d_value, plane});
    for (int64_t h = 0; h < hidden; ++h) {
      const T bias = a.weights.in_bias[row + hidden + h];
      T *d_linear = d + h * kRow, *d_gate = d_linear + hidden * kRow;
      Vec<T> sum_linear{}, sum_gate{};
      for (int64_t t = 0; t < width; t += lanes<T>) {
        const Gate<T> gate(load(gates + h * kRow + t) + bias);
        const Vec<T> g = load(d_value + h * plane + t);
        const Vec<T> linear = g * gate.open;
        const Vec<T> pre = g * load(value + h * plane + t) * gate.closed;
        store<T>(d_linear + t, linear);
        store<T>(d_gate + t, pre);
        sum_linear += linear;
        sum_gate += pre;
      }
      add_to<T>(sums.in_bias + (row + h) * lanes<T>, sum_linear);
      add_to<T>(sums.in_bias + (row + hidden + h) * lanes<T>, sum_gate);
    }
    gemm(Rows{d, kRow}, Panels{packed, at.count}, sums.in_weight + row * stride, stride, 2 * hidden,
         s.channels, at.count, true);
    const int64_t after = first_row(s, next);
    const T* const ahead = side == 0 ? a.x : a.residual.added ? a.d_y : a.d_x;
    gemm(Transposed{d, kRow}, Panels{in_packed[side], 2 * hidden}, d_x, stride, at.count,
         s.channels, 2 * hidden, true, Ahead{ahead + after, s.channels, a.d_x + after, s.channels});
  }
  const T share = T{1} / static_cast<T>(s.channels);
  each_row(s, at, [&](int64_t t, int64_t offset, int64_t, int64_t) {
    const T *g = d_x + t * stride, *normal = in.rows + t * stride;
    Vec<T> sum_d{}, sum_dx{};
    each_vector<T>(channels, [&](int c, int n) {
      const Vec<T> v = load(g + c, n);
      sum_d += v;
      sum_dx += v * load(normal + c, n);
    });
    const Vec<T> mean_d = broadcast(sum<T>(sum_d) * share);
    const Vec<T> mean_dx = broadcast(sum<T>(sum_dx) * share), r = broadcast(in.scale[t]);
    each_vector<T>(channels, [&](int c, int n) {
      Vec<T> v = (load(g + c) - mean_d - load(normal + c) * mean_dx) * r;
      if (a.residual.added) v += load(a.d_y + offset + c, n);
      store<T>(a.d_x + offset + c, v, n);
    });
  });
}

/// The lanes of all slices, added.
template <class T>
T sum_lanes(const T* x, int64_t slices, int64_t stride) {
  Vec<T> total{};
  for (int64_t i = 0; i < slices; ++i) total += load(x + i * stride);
  return sum<T>(total);
}

template <class T, class S>
void add_slices(const TriangleBackward<T, S>& a, int64_t row) {
  const TriangleSizes& s = a.sizes;
  const int64_t slices = s.slices(), stride = triangle_partial(s);
  const int64_t hidden = s.hidden, padded = triangle_pad(s.channels);
  const Sums<T> first(s, a.partial);
  const auto add = [&](const T* from, T* to) {
    for (int64_t c = 0; c < s.channels; c += lanes<T>) {
      const int n = static_cast<int>(std::min<int64_t>(lanes<T>, s.channels - c));
      Vec<T> total{};
      for (int64_t i = 0; i < slices; ++i) total += load(from + i * stride + c);
      store<T>(to + c, total, n);
    }
  };
  if (row < 5 * hidden) {
    add(first.in_weight + row * padded, a.d_in_weight + row * s.channels);
    a.d_in_bias[row] = sum_lanes(first.in_bias + row * lanes<T>, slices, stride);
  } else if (const int64_t h = row - 5 * hidden; h < hidden) {
    add(first.out_weight + h * padded, a.d_out_weight + h * s.channels);
    a.d_norm_weight[h] = sum_lanes(first.norm_weight + h * lanes<T>, slices, stride);
    a.d_norm_bias[h] = sum_lanes(first.norm_bias + h * lanes<T>, slices, stride);
  } else {
    add(first.out_bias, a.d_out_bias);
  }
}

template <class T, class S>
void backward(const TriangleBackward<T, S>& a) {
  const TriangleSizes& s = a.sizes;
  const auto arena = [&](int worker) { return Arena<T>{a.scratch + worker * triangle_scratch(s)}; };
  const auto sums = [&](int64_t slice) {
    return Sums<T>(s, a.partial + slice * triangle_partial(s));
  };
  Arena<T> shared{a.shared};
  T* in_packed[3];
  for (int part = 0; part < 3; ++part) {
    const int64_t rows = part == 2 ? s.hidden : 2 * s.hidden;
    in_packed[part] = shared.take(rows * triangle_pad(s.channels));
    pack<T>(a.weights.in_weight + part * 2 * s.hidden * s.channels, s.channels, 1, rows, s.channels,
            in_packed[part]);
  }
  parallel(s.slices(), [&](int64_t slice, int) {
    std::memset(a.partial + slice * triangle_partial(s), 0, sizeof(T) * triangle_partial(s));
  });
  const int64_t per_slice = s.tiles_per_slice();
  each_tile(s, per_slice, [&](const Place& at, const Place& next, int64_t slice, int worker) {
    output_tile_backward(a, at, next, in_packed[2], sums(slice), arena(worker));
  });
  parallel(s.batch * s.hidden, [&](int64_t i, int worker) {
    product_backward(a, i / s.hidden, i % s.hidden, arena(worker));
  });
  each_tile(s, per_slice, [&](const Place& at, const Place& next, int64_t slice, int worker) {
    project_tile_backward(a, at, next, in_packed, sums(slice), arena(worker));
  });
  parallel(6 * s.hidden + 1, [&](int64_t row, int) { add_slices(a, row); });
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
