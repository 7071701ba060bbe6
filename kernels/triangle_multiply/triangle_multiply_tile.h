// What the stages of the triangle update share: tiles of positions and how they are read.
#pragma once

#include "common/gemm.h"
#include "common/moments.h"
#include "common/parallel.h"
#include "triangle_multiply/triangle_multiply_cpu.h"

namespace ribo::kernels {
namespace RIBO_ISA {

inline constexpr int64_t kTile = kTriangleTile;
// From one channel of a tile to the next: not a power of two, or the rows would compete for the
// same few places of the first-level cache.
inline constexpr int64_t kRow = kTile + 16;

/// Hands out scratch memory, also for what is smaller than a T.
template <class T>
struct Arena {
  T* next;
  template <class S = T>
  S* take(int64_t n) {
    T* p = next;
    next += triangle_pad(n);
    return reinterpret_cast<S*>(p);
  }
};

/// A tile: some positions of a sequence, numbered i n + j.
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

/// Calls f(t, offset, i, j) for the positions of a tile: offset of its row of [B, L, L, C].
template <class F>
[[gnu::always_inline]] inline void each_row(const TriangleSizes& s, const Place& at, F&& f) {
  int64_t i = at.first / at.n, j = at.first % at.n;
  for (int64_t t = 0; t < at.count; ++t) {
    f(t, ((at.b * s.length + i) * s.length + j) * s.channels, i, j);
    if (++j == at.n) {
      j = 0;
      ++i;
    }
  }
}

/// The factors of the residual's dropout at (i, j); null: none.
template <class T>
[[gnu::always_inline]] inline const T* keep_row(const TriangleResidual<T>& r, const Place& at,
                                                int64_t i, int64_t j) {
  return r.keep ? r.keep + at.b * r.batch + i * r.row + j * r.column : nullptr;
}

/// [positions, C], `stride` elements from row to row.
template <class T>
struct View {
  const T* data;
  int64_t stride;
};

/// A tile of [B, L, L, C]: where it is, or copied to `rows` with zeros behind the last position.
template <class T>
View<T> view(const TriangleSizes& s, const Place& at, const T* x, T* rows) {
  if (at.n == s.length && at.count == kTile) return {x + first_row(s, at), s.channels};
  const int64_t stride = triangle_pad(s.channels);
  each_row(s, at, [&](int64_t t, int64_t offset, int64_t, int64_t) {
    std::memcpy(rows + t * stride, x + offset, sizeof(T) * s.channels);
  });
  for (int64_t t = at.count; t < kTile; ++t) std::memset(rows + t * stride, 0, sizeof(T) * stride);
  return {rows, stride};
}

/// sigmoid(x) and 1 - sigmoid(x), each to its own relative precision.
template <class T>
struct Gate {
  Vec<T> open, closed;
  [[gnu::always_inline]] explicit Gate(Vec<T> x) {
    const Vec<T> e = exp(min<T>(-x, broadcast(T{80})));  // e and its inverse stay normal numbers
    open = reciprocal<T>(e + T{1});
    closed = e * open;
  }
};

/// A tile of x, normalised.
template <class T>
struct Input {
  T* rows;         // [kTile, C padded], normalised by normalise_rows()
  View<T> source;  // x
  T* by_position;  // right factor [C, positions]: normalised
  T *mean, *scale;

  explicit Input(const TriangleSizes& s, Arena<T>& arena)
      : rows(arena.take(kTile * triangle_pad(s.channels))),
        by_position(arena.take(kTile * s.channels)),
        mean(arena.take(kTile)),
        scale(arena.take(kTile)) {}

  void read(const TriangleSizes& s, const Place& at, const T* x) {
    const int64_t width = width_of(at, kColumns<T>);
    source = view(s, at, x, rows);
    pack<T>(source.data, 1, source.stride, s.channels, width, by_position);
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

  void normalise_rows(const TriangleSizes& s, int64_t count) {
    const int64_t stride = triangle_pad(s.channels);
    for (int64_t t = 0; t < count; ++t) {
      const Vec<T> m = broadcast(mean[t]), r = broadcast(scale[t]);
      for (int64_t c = 0; c < s.channels; c += lanes<T>) {
        const int n = static_cast<int>(std::min<int64_t>(lanes<T>, s.channels - c));
        store<T>(rows + t * stride + c, (load(source.data + t * source.stride + c, n) - m) * r);
      }
    }
  }
};

/// A product's last step that asks for what will be needed soon, element (i, j) of a matrix or of
/// two. A tile's rows in [B, H, plane] are too short for the processor to see them coming, and the
/// product has the time to wait for them.
template <class A, class B = void>
struct Ahead {
  const A* a;
  int64_t a_row;
  const B* b = nullptr;
  int64_t b_row = 0;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, int i, int j) const {
    bring_near(a + i * a_row + j);
    if constexpr (!std::is_void_v<B>) bring_near(b + i * b_row + j);
    return v;
  }
};

/// Whether [B, H, plane] of type S is too large for the caches.
template <class S>
bool streams(const TriangleSizes& s) {
  return too_large_for_caches<S>(s.batch * s.hidden * s.plane());
}

/// From one plane of [B, H, plane] to the one that the same worker will probably get next.
inline int64_t next_plane(const TriangleSizes& s) { return workers() * s.plane(); }

/// y [rows, width] = w [rows, C] x
template <class T, class Y, class Finish>
void project(const TriangleSizes& s, int64_t rows, int64_t width, const T* w, const T* by_position,
             Y* y, int64_t y_row, const Finish& finish) {
  gemm(Rows{w, s.channels}, Panels{by_position, s.channels}, y, y_row, rows, width, s.channels,
       false, finish);
}

/// Zeros where a tile reads behind the last position.
template <class S>
void clear_behind(S* plane, int64_t used) {
  for (int64_t i = used; i % kTile != 0; ++i) plane[i] = S{};
}

/// Moments over the channels of a tile of `product`.
template <class T, class S>
void product_moments(const TriangleSizes& s, const S* product, int64_t width, T* mean, T* scale) {
  for (int64_t t = 0; t < width; t += kColumns<T>) {
    moments(product + t, s.hidden, s.plane(), mean + t, scale + t);
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
    finish_streams();
  });
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
