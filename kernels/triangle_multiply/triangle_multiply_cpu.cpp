#include "triangle_multiply/triangle_multiply_cpu.h"

#include "common/gemm.h"
#include "common/parallel.h"

namespace ribo::kernels {
namespace RIBO_ISA {

constexpr int64_t kTile = kTriangleTile;
// From one channel of a tile to the next: not a power of two, or the rows would compete for the
// same few places of the first-level cache.
constexpr int64_t kRow = kTile + 16;

template <class T>
struct Arena {
  T* next;
  T* take(int64_t n) {
    T* p = next;
    next += triangle_pad(n);
    return p;
  }
};

struct Place {
  int64_t b, n;          // sequence, its length
  int64_t first, count;  // positions
};

inline Place locate(const TriangleSizes& s, int64_t tile) {
  int64_t b = 0;
  while (tile >= s.tiles_of(b)) tile -= s.tiles_of(b++);
  const int64_t n = s.lengths[b], first = tile * kTile;
  return {b, n, first, std::min(kTile, n * n - first)};
}

inline int64_t width_of(const Place& at, int64_t panel) {
  return (at.count + panel - 1) / panel * panel;
}

/// Where a tile's first row begins in [B, L, L, C].
inline int64_t first_row(const TriangleSizes& s, const Place& at) {
  return ((at.b * s.length + at.first / at.n) * s.length + at.first % at.n) * s.channels;
}

/// Calls f(t, offset) for the positions of a tile: offset of its row of [B, L, L, C].
template <class F>
[[gnu::always_inline]] inline void each_row(const TriangleSizes& s, const Place& at, F&& f) {
  int64_t i = at.first / at.n, j = at.first % at.n;
  for (int64_t t = 0; t < at.count; ++t) {
    f(t, ((at.b * s.length + i) * s.length + j) * s.channels);
    if (++j == at.n) {
      j = 0;
      ++i;
    }
  }
}

/// [kTile, C] out of [B, L, L, C], zeros behind the last position.
template <class T>
void gather(const TriangleSizes& s, const Place& at, const T* x, T* rows) {
  const int64_t stride = triangle_pad(s.channels);
  each_row(s, at, [&](int64_t t, int64_t offset) {
    std::memcpy(rows + t * stride, x + offset, sizeof(T) * s.channels);
  });
  for (int64_t t = at.count; t < kTile; ++t) std::memset(rows + t * stride, 0, sizeof(T) * stride);
}

constexpr double kEpsilon = 1e-5;

template <class T>
[[gnu::always_inline]] inline Vec<T> inverse_deviation(Vec<T> variance) {
  for (int i = 0; i < lanes<T>; ++i) {
    variance[i] = T{1} / std::sqrt(variance[i] + static_cast<T>(kEpsilon));
  }
  return variance;
}

/// Normalises `n` channels of two vectors of positions; `stride` elements from channel to channel.
template <class T>
[[gnu::always_inline]] inline void moments(const T* x, int64_t n, int64_t stride, T* mean,
                                           T* scale) {
  const T share = T{1} / static_cast<T>(n);
  Vec<T> a{}, b{};
  for (int64_t c = 0; c < n; ++c) {
    a += load(x + c * stride);
    b += load(x + c * stride + lanes<T>);
  }
  const Vec<T> mean_a = a * share, mean_b = b * share;
  a = b = Vec<T>{};
  for (int64_t c = 0; c < n; ++c) {
    const Vec<T> da = load(x + c * stride) - mean_a;
    const Vec<T> db = load(x + c * stride + lanes<T>) - mean_b;
    a += da * da;
    b += db * db;
  }
  store<T>(mean, mean_a);
  store<T>(mean + lanes<T>, mean_b);
  store<T>(scale, inverse_deviation<T>(a * share));
  store<T>(scale + lanes<T>, inverse_deviation<T>(b * share));
}

/// sigmoid(x) and 1 - sigmoid(x), each to its own relative precision.
template <class T>
struct Gate {
  Vec<T> open, closed;
  [[gnu::always_inline]] explicit Gate(Vec<T> x) {
    const Vec<T> e = exp(-x);
    open = T{1} / (e + T{1});
    closed = e * open;
  }
};

/// A tile of x, normalised.
template <class T>
struct Input {
  T* rows;         // [kTile, C padded]: x as it is
  T* by_position;  // right factor [C, positions]: normalised
  T *mean, *scale;

  explicit Input(const TriangleSizes& s, Arena<T>& arena)
      : rows(arena.take(kTile * triangle_pad(s.channels))),
        by_position(arena.take(kTile * s.channels)),
        mean(arena.take(kTile)),
        scale(arena.take(kTile)) {}

  void read(const TriangleSizes& s, const Place& at, const T* x) {
    const int64_t width = width_of(at, kColumns<T>);
    gather(s, at, x, rows);
    pack<T>(rows, 1, triangle_pad(s.channels), s.channels, width, by_position);
    for (int64_t t = 0; t < width; t += kColumns<T>) {
      T* panel = by_position + t * s.channels;
      moments(panel, s.channels, kColumns<T>, mean + t, scale + t);
      for (int half = 0; half < 2; ++half, panel += lanes<T>) {
        const Vec<T> m = load(mean + t + half * lanes<T>), r = load(scale + t + half * lanes<T>);
        for (int64_t c = 0; c < s.channels; ++c) {
          store<T>(panel + c * kColumns<T>, (load(panel + c * kColumns<T>) - m) * r);
        }
      }
    }
  }

  /// Normalises `rows` too.
  void normalise_rows(const TriangleSizes& s, int64_t count) {
    const int64_t stride = triangle_pad(s.channels);
    for (int64_t t = 0; t < count; ++t) {
      T* row = rows + t * stride;
      const Vec<T> m = broadcast(mean[t]), r = broadcast(scale[t]);
      for (int64_t c = 0; c < s.channels; c += lanes<T>) {
        store<T>(row + c, (load(row + c) - m) * r);
      }
    }
  }
};

/// Rows of a matrix that will be needed soon. A tile's rows in [B, H, plane] are too short for the
/// processor to see them coming; a product's last step that asks for them has the time to wait.
template <class T>
struct Ahead {
  const T* data;
  int64_t row;
  [[gnu::always_inline]] void operator()(int i, int j) const {
    __builtin_prefetch(data + i * row + j);
  }
};

/// y [rows, width] = w [rows, C] x
template <class T, class Finish>
void project(const TriangleSizes& s, int64_t rows, int64_t width, const T* w, const T* by_position,
             T* y, int64_t y_row, const Finish& finish) {
  gemm<T>({w, s.channels, 1}, panels(by_position, s.channels), y, y_row, rows, width, s.channels,
          false, finish);
}

template <class T>
void project_tile(const TriangleForward<T>& a, const Place& at, const Place& next, Arena<T> arena) {
  const TriangleSizes& s = a.sizes;
  const int64_t width = width_of(at, kColumns<T>), plane = s.plane();
  Input<T> in(s, arena);
  T* gates = arena.take(s.hidden * kRow);
  in.read(s, at, a.x);
  const Ahead<T> x_ahead{a.x + first_row(s, next), kTile * s.channels / s.hidden};
  for (int side = 0; side < 2; ++side) {
    const int64_t row = side * 2 * s.hidden;
    const T* weight = a.weights.in_weight + row * s.channels;
    const T* bias = a.weights.in_bias + row;
    project(s, s.hidden, width, weight + s.hidden * s.channels, in.by_position, gates, kRow,
            [&](Vec<T> v, int i, int j) {
              if (side == 0) x_ahead(i, j);
              return v;
            });
    for (int64_t h = 0; h < s.hidden; ++h) {
      const T gate_bias = bias[s.hidden + h];
      for (T* gate = gates + h * kRow; gate < gates + h * kRow + width; gate += lanes<T>) {
        store<T>(gate, sigmoid<T>(load(gate) + gate_bias));
      }
    }
    project(s, s.hidden, width, weight, in.by_position,
            (side == 0 ? a.left : a.right) + at.b * s.hidden * plane + at.first, plane,
            [&](Vec<T> v, int i, int j) { return (v + bias[i]) * load(gates + i * kRow + j); });
  }
}

template <class T>
void clear_behind(T* plane, int64_t used) {
  for (int64_t i = used; i % kTile != 0; ++i) plane[i] = T{0};
}

/// out[i, j] = sum_k left[i, k] right[j, k], or sum_k left[k, j] right[k, i].
template <class T>
void product(const TriangleForward<T>& a, int64_t b, int64_t h, Arena<T> arena) {
  const int64_t n = a.sizes.lengths[b], offset = (b * a.sizes.hidden + h) * a.sizes.plane();
  const T *left = a.left + offset, *right = a.right + offset;
  T* out = a.product + offset;
  T* packed = arena.take(n * triangle_pad(n));
  const Ahead<T> left_ahead{left + a.sizes.plane(), n}, right_ahead{right + a.sizes.plane(), n};
  const auto ask = [&](Vec<T> v, int i, int j) {
    left_ahead(i, j);
    right_ahead(i, j);
    return v;
  };
  if (a.sizes.outgoing) {
    pack<T>(right, 1, n, n, n, packed);
    gemm<T>({left, n, 1}, panels(packed, n), out, n, n, n, n, false, ask);
  } else {
    pack<T>(left, n, 1, n, n, packed);
    gemm<T>({right, 1, n}, panels(packed, n), out, n, n, n, n, false, ask);
  }
  clear_behind(out, n * n);
}

/// Moments over the channels of a tile of `product`.
template <class T>
void product_moments(const TriangleSizes& s, const T* product, int64_t width, T* mean, T* scale) {
  for (int64_t t = 0; t < width; t += kColumns<T>) {
    moments(product + t, s.hidden, s.plane(), mean + t, scale + t);
  }
}

template <class T>
void output_tile(const TriangleForward<T>& a, const Place& at, const Place& next,
                 const T* out_packed, Arena<T> arena) {
  const TriangleSizes& s = a.sizes;
  const TriangleParameters<T>& w = a.weights;
  const int64_t width = width_of(at, kColumns<T>), stride = triangle_pad(s.channels);
  Input<T> in(s, arena);
  T *mean = arena.take(kTile), *scale = arena.take(kTile);
  T* q = arena.take(s.hidden * kRow);
  in.read(s, at, a.x);
  const T* z = a.product + at.b * s.hidden * s.plane() + at.first;
  const Ahead<T> z_ahead{z, s.plane()}, x_ahead{a.x + first_row(s, next), s.channels};
  project(s, s.hidden, width, w.in_weight + 4 * s.hidden * s.channels, in.by_position, q, kRow,
          [&](Vec<T> v, int i, int j) {
            z_ahead(i, j);
            return v;
          });
  product_moments(s, z, width, mean, scale);
  for (int64_t h = 0; h < s.hidden; ++h, z += s.plane()) {
    T* row = q + h * kRow;
    const T bias = w.in_bias[4 * s.hidden + h], gain = w.norm_weight[h], shift = w.norm_bias[h];
    for (int64_t t = 0; t < width; t += lanes<T>) {
      const Vec<T> normal = (load(z + t) - load(mean + t)) * load(scale + t);
      store<T>(row + t, (normal * gain + shift) * sigmoid<T>(load(row + t) + bias));
    }
  }
  gemm<T>({q, 1, kRow}, panels(out_packed, s.hidden), in.rows, stride, at.count, s.channels,
          s.hidden, false, [&](Vec<T> v, int i, int j) {
            x_ahead(i, j);
            return v;
          });
  each_row(s, at, [&](int64_t t, int64_t offset) {
    for (int64_t c = 0; c < s.channels; c += lanes<T>) {
      const int n = static_cast<int>(std::min<int64_t>(lanes<T>, s.channels - c));
      store<T>(a.y + offset + c, load(in.rows + t * stride + c) + load(w.out_bias + c, n), n);
    }
  });
}

/// Sums over the positions of a slice of tiles.
template <class T>
struct Sums {
  T *in_weight, *out_weight;                        // [5 H, C padded], [H, C padded]
  T *in_bias, *norm_weight, *norm_bias, *out_bias;  // [5 H, lanes], [H, lanes] twice, [C padded]

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
template <class T>
void output_tile_backward(const TriangleBackward<T>& a, const Place& at, const Place& next,
                          const T* gate_packed, Sums<T> sums, Arena<T> arena) {
  const TriangleSizes& s = a.sizes;
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
  gather(s, at, a.d_y, d_y);
  pack<T>(d_y, 1, stride, s.channels, width, packed);
  const T* z = a.product + at.b * hidden * plane + at.first;
  T* d_z = a.d_product + at.b * hidden * plane + at.first;
  const Ahead<T> z_ahead{z, plane}, d_z_ahead{d_z, plane};
  project(s, hidden, width, w.out_weight, packed, d_q, kRow, [&](Vec<T> v, int i, int j) {
    z_ahead(i, j);
    return v;
  });
  project(s, hidden, width, w.in_weight + 4 * hidden * s.channels, in.by_position, d_gate, kRow,
          [&](Vec<T> v, int i, int j) {
            d_z_ahead(i, j);
            return v;
          });
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
               (load(d_q + h * kRow + t) - load(mean_d + t) - normal * load(mean_dz + t)) * r);
    }
  }

  for (int64_t t = 0; t < at.count; ++t) {
    for (int64_t c = 0; c < s.channels; c += lanes<T>) {
      add_to<T>(sums.out_bias + c, load(d_y + t * stride + c));
    }
  }
  pack<T>(d_y, stride, 1, at.count, s.channels, packed);
  gemm<T>({q, kRow, 1}, panels(packed, at.count), sums.out_weight, stride, hidden, s.channels,
          at.count, true);
  in.normalise_rows(s, at.count);
  pack<T>(in.rows, stride, 1, at.count, s.channels, packed);
  gemm<T>({d_gate, kRow, 1}, panels(packed, at.count), sums.in_weight + 4 * hidden * stride, stride,
          hidden, s.channels, at.count, true);
  const Ahead<T> x_ahead{a.x + first_row(s, next), s.channels};
  const Ahead<T> d_y_ahead{a.d_y + first_row(s, next), s.channels};
  gemm<T>({d_gate, 1, kRow}, panels(gate_packed, hidden), d_y, stride, at.count, s.channels, hidden,
          false, [&](Vec<T> v, int i, int j) {
            x_ahead(i, j);
            d_y_ahead(i, j);
            return v;
          });
  each_row(s, at, [&](int64_t t, int64_t offset) {
    std::memcpy(a.d_x + offset, d_y + t * stride, sizeof(T) * s.channels);
  });
}

template <class T>
void product_backward(const TriangleBackward<T>& a, int64_t b, int64_t h, Arena<T> arena) {
  const int64_t n = a.sizes.lengths[b], offset = (b * a.sizes.hidden + h) * a.sizes.plane();
  const T *left = a.left + offset, *right = a.right + offset;
  T *d = a.d_product + offset, *d_right = a.d_right + offset;
  T* packed = arena.take(n * triangle_pad(n));
  const Ahead<T> left_ahead{left + a.sizes.plane(), n}, right_ahead{right + a.sizes.plane(), n};
  const Ahead<T> d_ahead{d + a.sizes.plane(), n};
  const auto ask_left = [&](Vec<T> v, int i, int j) {
    left_ahead(i, j);
    return v;
  };
  const auto ask = [&](Vec<T> v, int i, int j) {
    right_ahead(i, j);
    d_ahead(i, j);
    return v;
  };
  if (a.sizes.outgoing) {
    T* copy = arena.take(n * n);
    std::memcpy(copy, d, sizeof(T) * n * n);
    pack<T>(right, n, 1, n, n, packed);
    gemm<T>({copy, n, 1}, panels(packed, n), d, n, n, n, n, false, ask_left);
    pack<T>(left, n, 1, n, n, packed);
    gemm<T>({copy, 1, n}, panels(packed, n), d_right, n, n, n, n, false, ask);
  } else {
    pack<T>(d, 1, n, n, n, packed);
    gemm<T>({left, n, 1}, panels(packed, n), d_right, n, n, n, n, false, ask_left);
    pack<T>(d, n, 1, n, n, packed);
    gemm<T>({right, n, 1}, panels(packed, n), d, n, n, n, n, false, ask);
  }
  clear_behind(d_right, n * n);
}

/// From the gradients of left and right: those of the projections and of x.
template <class T>
void project_tile_backward(const TriangleBackward<T>& a, const Place& at, const Place& next,
                           const T* const* in_packed, Sums<T> sums, Arena<T> arena) {
  const TriangleSizes& s = a.sizes;
  const int64_t width = width_of(at, kColumns<T>), stride = triangle_pad(s.channels);
  const int64_t hidden = s.hidden, plane = s.plane();
  Input<T> in(s, arena);
  T *packed = arena.take(kTile * stride), *d_x = arena.take(kTile * stride);
  T *gates = arena.take(hidden * kRow), *d = arena.take(2 * hidden * kRow);
  in.read(s, at, a.x);
  in.normalise_rows(s, at.count);
  pack<T>(in.rows, stride, 1, at.count, s.channels, packed);
  gather(s, at, a.d_x, d_x);
  for (int side = 0; side < 2; ++side) {
    const int64_t row = side * 2 * hidden, offset = at.b * hidden * plane + at.first;
    const T* value = (side == 0 ? a.left : a.right) + offset;
    const T* d_value = (side == 0 ? a.d_product : a.d_right) + offset;
    const Ahead<T> value_ahead{value, plane}, d_ahead{d_value, plane};
    project(s, hidden, width, a.weights.in_weight + (row + hidden) * s.channels, in.by_position,
            gates, kRow, [&](Vec<T> v, int i, int j) {
              value_ahead(i, j);
              d_ahead(i, j);
              return v;
            });
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
    gemm<T>({d, kRow, 1}, panels(packed, at.count), sums.in_weight + row * stride, stride,
            2 * hidden, s.channels, at.count, true);
    const Ahead<T> ahead{(side == 0 ? a.x : a.d_x) + first_row(s, next), s.channels};
    gemm<T>({d, 1, kRow}, panels(in_packed[side], 2 * hidden), d_x, stride, at.count, s.channels,
            2 * hidden, true, [&](Vec<T> v, int i, int j) {
              ahead(i, j);
              return v;
            });
  }
  const T share = T{1} / static_cast<T>(s.channels);
  each_row(s, at, [&](int64_t t, int64_t offset) {
    const T *g = d_x + t * stride, *normal = in.rows + t * stride;
    Vec<T> sum_d{}, sum_dx{};
    for (int64_t c = 0; c < s.channels; c += lanes<T>) {
      const int n = static_cast<int>(std::min<int64_t>(lanes<T>, s.channels - c));
      const Vec<T> v = load(g + c, n);
      sum_d += v;
      sum_dx += v * load(normal + c, n);
    }
    const Vec<T> mean_d = broadcast(sum<T>(sum_d) * share);
    const Vec<T> mean_dx = broadcast(sum<T>(sum_dx) * share), r = broadcast(in.scale[t]);
    for (int64_t c = 0; c < s.channels; c += lanes<T>) {
      const int n = static_cast<int>(std::min<int64_t>(lanes<T>, s.channels - c));
      store<T>(a.d_x + offset + c, (load(g + c) - mean_d - load(normal + c) * mean_dx) * r, n);
    }
  });
}

/// out[i] = the sums of the lanes of row i, over all slices.
template <class T>
T sum_lanes(const T* x, int64_t slices, int64_t stride) {
  Vec<T> total{};
  for (int64_t i = 0; i < slices; ++i) total += load(x + i * stride);
  return sum<T>(total);
}

template <class T>
void add_slices(const TriangleBackward<T>& a, int64_t row) {
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

/// Calls f(tile, tile after it, slice, worker).
template <class F>
void each_tile(const TriangleSizes& s, int64_t per_slice, F&& f) {
  const int64_t tiles = s.tiles();
  parallel((tiles + per_slice - 1) / per_slice, [&](int64_t slice, int worker) {
    const int64_t end = std::min(tiles, (slice + 1) * per_slice);
    for (int64_t i = slice * per_slice; i < end; ++i) {
      f(locate(s, i), locate(s, std::min(i + 1, tiles - 1)), slice, worker);
    }
  });
}

template <class T>
void forward(const TriangleForward<T>& a) {
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

template <class T>
void backward(const TriangleBackward<T>& a) {
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

template <>
void triangle_forward<Isa::RIBO_ISA>(const TriangleForward<float>& a) {
  RIBO_ISA::forward(a);
}
template <>
void triangle_forward<Isa::RIBO_ISA>(const TriangleForward<double>& a) {
  RIBO_ISA::forward(a);
}
template <>
void triangle_backward<Isa::RIBO_ISA>(const TriangleBackward<float>& a) {
  RIBO_ISA::backward(a);
}
template <>
void triangle_backward<Isa::RIBO_ISA>(const TriangleBackward<double>& a) {
  RIBO_ISA::backward(a);
}

}  // namespace ribo::kernels
