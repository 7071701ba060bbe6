// A tile of time and a slice of channels at a time: the rows that it sees are gathered into a
// buffer in the L1 cache, with zeros for what lies outside the sequence, so that nothing behind
// that knows of ends, strides or odd channel counts.
#include "conv1d/conv1d_cpu.h"

#include <algorithm>
#include <cstring>

#include "common/parallel.h"
#include "common/vec.h"

namespace ribo::kernels {
namespace RIBO_ISA {
namespace {

constexpr int kSlice = 64;  // channels
constexpr int kTile = 64;   // rows of output; divides kConv1dPiece
constexpr int kRows = 8;    // rows of output that share a load of a weight; divides kTile
constexpr int kHalo = kConv1dWidest - 1;

template <class T>
struct alignas(64) Row {
  T at[kSlice];
};

// Channels [first, first + count) of sequence b.
struct Slice {
  int64_t b, length, first;
  int count;
};

// The first and last `rows` of time that a piece of work writes.
struct Span {
  int64_t begin, end;
};

template <class T>
int64_t length_of(const Conv1dArgs<T>& a, int64_t b) {
  return a.lengths ? a.lengths[b] : a.length;
}

// f(slice, rows of time, index of the piece [B, pieces]) for every piece of work.
template <class T, class F>
void each_piece(const Conv1dArgs<T>& a, const F& f) {
  const int64_t pieces = conv1d_pieces(a.length), slices = (a.channels + kSlice - 1) / kSlice;
  parallel(a.batch * pieces * slices, [&](int64_t task, int) {
    const int64_t piece = task / slices, b = piece / pieces;
    const int64_t first = task % slices * kSlice, begin = piece % pieces * kConv1dPiece;
    f(Slice{b, length_of(a, b), first,
            static_cast<int>(std::min<int64_t>(kSlice, a.channels - first))},
      Span{begin, std::min(begin + kConv1dPiece, a.length)}, piece);
  });
}

// Vector by vector, here and in gather(): g++ would take slow string instructions or 16-byte moves.
template <class T>
void clear(Row<T>& row) {
  for (int c = 0; c < kSlice; c += lanes<T>) store<T>(&row.at[c], Vec<T>{});
}

template <class T>
void gather(Row<T>* rows, const T* x, int64_t stride, int64_t from, int64_t count,
            const Slice& slice) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t t = from + i;
    if (t < 0 || t >= slice.length) {
      clear(rows[i]);
    } else if (slice.count == kSlice) {
      const T* row = x + t * stride;
      for (int c = 0; c < kSlice; c += lanes<T>) store<T>(&rows[i].at[c], load(row + c));
    } else {
      clear(rows[i]);
      std::memcpy(&rows[i], x + t * stride, sizeof(T) * slice.count);
    }
  }
}

// Rows of the output that lie behind the sequence.
template <class T>
void clear(T* y, int64_t stride, Span span, int count) {
  for (int64_t t = span.begin; t < span.end; ++t) std::memset(y + t * stride, 0, sizeof(T) * count);
}

template <class T>
void gather_weights(Row<T>* weights, const Conv1dArgs<T>& a, const Slice& slice) {
  gather(weights, a.weight + slice.first, a.channels, 0, a.width, {0, a.width, 0, slice.count});
}

// sum[i] += sum_j weights[j] rows[i + j], in the lanes from c on.
template <class T>
[[gnu::always_inline]] inline void correlate(Vec<T> (&sum)[kRows], const Row<T>* rows,
                                             const Row<T>* weights, int64_t width, int c) {
  for (int64_t j = 0; j < width; ++j) {
    const Vec<T> w = load(&weights[j].at[c]);
    for (int i = 0; i < kRows; ++i) sum[i] += w * load(&rows[i + j].at[c]);
  }
}

// As many of the rows and lanes as there are.
template <class T>
[[gnu::always_inline]] inline void store_rows(T* y, int64_t stride, const Vec<T> (&sum)[kRows],
                                              int64_t rows, int channels) {
  if (rows >= kRows && channels >= lanes<T>) {
    for (int i = 0; i < kRows; ++i) store<T>(y + i * stride, sum[i]);
  } else {
    const int n = std::min(channels, lanes<T>);
    for (int i = 0; i < kRows; ++i) {
      if (i < rows) store<T>(y + i * stride, sum[i], n);
    }
  }
}

// Between these exp(-x) is far from zero and infinity. Beyond them the sigmoid is 0 or 1 for all
// purposes, and below the first so are silu(x) and its derivative.
template <class T>
constexpr T kFar = sizeof(T) == 4 ? 80 : 700;

// 1 / (1 + exp(-x)) of every x.
template <class T>
[[gnu::always_inline]] inline void sigmoids(const Vec<T> (&x)[kRows], Vec<T> (&s)[kRows]) {
  for (int i = 0; i < kRows; ++i) {
    s[i] = min<T>(max<T>(x[i], broadcast(-kFar<T>)), broadcast(kFar<T>)) * static_cast<T>(-kLog2E);
  }
  exp2<kRows, /*clamped=*/false>(s);
  for (int i = 0; i < kRows; ++i) s[i] = reciprocal<T>(T{1} + s[i]);
}

// The larger of x and -kFar: what is multiplied with a sigmoid.
template <class T>
[[gnu::always_inline]] inline Vec<T> above(Vec<T> x) {
  return max<T>(x, broadcast(-kFar<T>));
}

template <class T>
void forward_piece(const Conv1dArgs<T>& a, const Slice& slice, Span span) {
  Row<T> weights[kConv1dWidest], rows[kTile + kHalo], bias{};
  gather_weights(weights, a, slice);
  if (a.bias) std::memcpy(&bias, a.bias + slice.first, sizeof(T) * slice.count);
  const T* x = a.x + slice.b * a.x_batch + slice.first;
  T* y = a.y + slice.b * a.length * a.channels + slice.first;
  const int64_t end = std::min(span.end, slice.length);
  for (int64_t tile = span.begin; tile < end; tile += kTile) {
    const int64_t count = std::min<int64_t>(kTile, end - tile);
    const int64_t padded = (count + kRows - 1) / kRows * kRows;
    gather(rows, x, a.x_row, tile - a.before, padded + a.width - 1, slice);
    for (int64_t t = 0; t < count; t += kRows) {
      for (int c = 0; c < slice.count; c += lanes<T>) {
        Vec<T> sum[kRows];
        for (Vec<T>& s : sum) s = load(&bias.at[c]);
        correlate(sum, rows + t, weights, a.width, c);
        if (a.silu) {
          Vec<T> s[kRows];
          sigmoids<T>(sum, s);
          for (int i = 0; i < kRows; ++i) sum[i] = above<T>(sum[i]) * s[i];
        }
        store_rows(y + (tile + t) * a.channels + c, a.channels, sum, count - t, slice.count - c);
      }
    }
  }
  clear(y, a.channels, {std::max(span.begin, slice.length), span.end}, slice.count);
}

// dw[k] += sum_t g[t] x[t + k] for kTaps taps, two vectors of channels at once: one vector's sums
// would wait for each other.
template <int kTaps, class T>
[[gnu::always_inline]] inline void add_taps(Row<T>* dw, const Row<T>* g, const Row<T>* x,
                                            int64_t count) {
  constexpr int kVectors = lanes<T> < kSlice ? 2 : 1;
  for (int c = 0; c < kSlice; c += kVectors * lanes<T>) {
    Vec<T> sum[kTaps][kVectors];
    for (int k = 0; k < kTaps; ++k) {
      for (int v = 0; v < kVectors; ++v) sum[k][v] = load(&dw[k].at[c + v * lanes<T>]);
    }
    for (int64_t t = 0; t < count; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        const Vec<T> grad = load(&g[t].at[c + v * lanes<T>]);
        for (int k = 0; k < kTaps; ++k) {
          sum[k][v] += grad * load(&x[t + k].at[c + v * lanes<T>]);
        }
      }
    }
    for (int k = 0; k < kTaps; ++k) {
      for (int v = 0; v < kVectors; ++v) store<T>(&dw[k].at[c + v * lanes<T>], sum[k][v]);
    }
  }
}

template <class T>
void add_weight_gradients(Row<T>* dw, int64_t width, const Row<T>* g, const Row<T>* x,
                          int64_t count) {
  for (; width >= 4; width -= 4, dw += 4, x += 4) add_taps<4>(dw, g, x, count);
  if (width == 3) add_taps<3>(dw, g, x, count);
  if (width == 2) add_taps<2>(dw, g, x, count);
  if (width == 1) add_taps<1>(dw, g, x, count);
}

template <class T>
void add_bias_gradient(Row<T>& db, const Row<T>* g, int64_t count) {
  for (int c = 0; c < kSlice; c += lanes<T>) {
    Vec<T> sum = load(&db.at[c]);
    for (int64_t t = 0; t < count; ++t) sum += load(&g[t].at[c]);
    store<T>(&db.at[c], sum);
  }
}

// With g = dy act'(the sum before the activation): dx[s] = sum_j w[j] g[s + before - j] is the
// correlation of g with the mirrored filter, dw[j] = sum_t g[t] x[t - before + j].
template <class T>
void backward_piece(const Conv1dArgs<T>& a, const Slice& slice, Span span, T* sums) {
  Row<T> weights[kConv1dWidest], mirrored[kConv1dWidest], dw[kConv1dWidest], bias{}, db{};
  Row<T> x[kTile + 2 * kHalo + kRows], g[kTile + kHalo + kRows];
  gather_weights(weights, a, slice);
  for (int64_t j = 0; j < a.width; ++j) {
    mirrored[j] = weights[a.width - 1 - j];
    clear(dw[j]);
  }
  if (a.bias) std::memcpy(&bias, a.bias + slice.first, sizeof(T) * slice.count);
  const T* x_in = a.x + slice.b * a.x_batch + slice.first;
  const T* dy = a.dy + slice.b * a.dy_batch + slice.first;
  T* dx = a.dx + slice.b * a.length * a.channels + slice.first;
  const int64_t end = std::min(span.end, slice.length);
  for (int64_t tile = span.begin; tile < end; tile += kTile) {
    const int64_t count = std::min<int64_t>(kTile, end - tile);
    const int64_t padded = (count + kRows - 1) / kRows * kRows;
    // g's rows that dx[tile ..] sees, and x's rows that those see.
    const int64_t from = tile + a.before - (a.width - 1);
    const int64_t g_count = padded + a.width - 1, g_padded = (g_count + kRows - 1) / kRows * kRows;
    gather(g, dy, a.dy_row, from, g_padded, slice);
    gather(x, x_in, a.x_row, from - a.before, g_padded + a.width - 1, slice);
    if (a.silu) {
      const int64_t g_end = std::min(g_count, slice.length - from);
      for (int64_t t = 0; t < g_end; t += kRows) {
        for (int c = 0; c < slice.count; c += lanes<T>) {
          Vec<T> sum[kRows];
          for (Vec<T>& s : sum) s = load(&bias.at[c]);
          correlate(sum, x + t, weights, a.width, c);
          Vec<T> s[kRows];
          sigmoids<T>(sum, s);
          for (int i = 0; i < kRows; ++i) {
            T* at = &g[t + i].at[c];
            store<T>(at, load(at) * (s[i] + s[i] * (above<T>(sum[i]) * (T{1} - s[i]))));
          }
        }
      }
    }
    for (int64_t t = 0; t < count; t += kRows) {
      for (int c = 0; c < slice.count; c += lanes<T>) {
        Vec<T> sum[kRows];
        for (Vec<T>& s : sum) s = Vec<T>{};
        correlate(sum, g + t, mirrored, a.width, c);
        store_rows(dx + (tile + t) * a.channels + c, a.channels, sum, count - t, slice.count - c);
      }
    }
    const Row<T>* own = g + (tile - from);
    add_weight_gradients(dw, a.width, own, x + (tile - from), count);
    add_bias_gradient(db, own, count);
  }
  clear(dx, a.channels, {std::max(span.begin, slice.length), span.end}, slice.count);
  for (int64_t j = 0; j <= a.width; ++j) {
    const Row<T>& row = j < a.width ? dw[j] : db;
    std::memcpy(sums + j * a.channels + slice.first, &row, sizeof(T) * slice.count);
  }
}

template <class T>
void add_pieces(const Conv1dArgs<T>& a) {
  constexpr int64_t kBlock = 2048;
  const int64_t pieces = a.batch * conv1d_pieces(a.length), size = (a.width + 1) * a.channels;
  parallel((size + kBlock - 1) / kBlock, [&](int64_t task, int) {
    const int64_t begin = task * kBlock, end = std::min(begin + kBlock, size);
    for (int64_t piece = 1; piece < pieces; ++piece) {
      for (int64_t i = begin; i < end; ++i) a.sums[i] += a.sums[piece * size + i];
    }
  });
}

template <class T>
void forward(const Conv1dArgs<T>& a) {
  each_piece(a, [&](const Slice& slice, Span span, int64_t) { forward_piece(a, slice, span); });
}

template <class T>
void backward(const Conv1dArgs<T>& a) {
  each_piece(a, [&](const Slice& slice, Span span, int64_t piece) {
    backward_piece(a, slice, span, a.sums + piece * (a.width + 1) * a.channels);
  });
  add_pieces(a);
}

}  // namespace
}  // namespace RIBO_ISA

template <>
void conv1d_forward<Isa::RIBO_ISA>(const Conv1dArgs<float>& args) {
  RIBO_ISA::forward(args);
}
template <>
void conv1d_forward<Isa::RIBO_ISA>(const Conv1dArgs<double>& args) {
  RIBO_ISA::forward(args);
}
template <>
void conv1d_backward<Isa::RIBO_ISA>(const Conv1dArgs<float>& args) {
  RIBO_ISA::backward(args);
}
template <>
void conv1d_backward<Isa::RIBO_ISA>(const Conv1dArgs<double>& args) {
  RIBO_ISA::backward(args);
}

}  // namespace ribo::kernels
