// Eight rows of time and a vector of channels at a time, straight from where they lie; where they
// touch the ends of the sequence or of the channels, from a copy with zeros for what is missing.
#include "conv1d/conv1d_cpu.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "common/parallel.h"
#include "common/vec.h"

namespace ribo::kernels {
namespace RIBO_ISA {
namespace {

constexpr int kSlice = 512;  // channels that a piece of work has at most: rows are read as they lie
constexpr int kRows = 8;     // rows of time that share a load of a weight

template <class T>
struct alignas(64) Row {
  T at[kSlice];
};

// Channels [first, first + count) of sequence b.
struct Slice {
  int64_t b, length, first;
  int count;
};

// The rows of time that a piece of work writes.
struct Span {
  int64_t begin, end;
};

// f(slice, rows of time, index of the piece [B, pieces]) for every piece of work.
template <class T, class F>
void each_piece(const Conv1dArgs<T>& a, const F& f) {
  const int64_t pieces = conv1d_pieces(a.length);
  int64_t width = kSlice, slices = (a.channels + width - 1) / width;
  // No channel's result depends on the slice that it is in.
  for (; width > 64 && a.batch * pieces * slices < workers(); width /= 2) {
    slices = (a.channels + width / 2 - 1) / (width / 2);
  }
  parallel(a.batch * pieces * slices, [&](int64_t task, int) {
    const int64_t piece = task / slices, b = piece / pieces;
    const int64_t first = task % slices * width, begin = piece % pieces * kConv1dPiece;
    f(Slice{b, a.lengths ? a.lengths[b] : a.length, first,
            static_cast<int>(std::min(width, a.channels - first))},
      Span{begin, std::min(begin + kConv1dPiece, a.length)}, piece);
  });
}

// A vector of channels in some rows: row i is at `first` + i * stride.
template <class T>
struct Column {
  const T* first;
  int64_t stride;

  [[gnu::always_inline]] Vec<T> operator[](int64_t i) const { return load(first + i * stride); }
};

// Channels c onwards of `count` rows of x, from row `from` on; zeros outside the sequence.
template <class T>
[[gnu::always_inline]] inline Column<T> column(const T* x, int64_t stride, int64_t from,
                                               int64_t count, const Slice& slice, int c,
                                               Vec<T>* copy) {
  const int n = std::min(lanes<T>, slice.count - c);
  x += from * stride + c;
  if (from >= 0 && from + count <= slice.length && n == lanes<T>) return {x, stride};
  for (int64_t i = 0; i < count; ++i, x += stride) {
    copy[i] = from + i >= 0 && from + i < slice.length ? load(x, n) : Vec<T>{};
  }
  return {reinterpret_cast<const T*>(copy), lanes<T>};
}

// v is row t onwards, channel c onwards of y; what lies in `span` and in the slice is stored.
template <class T>
[[gnu::always_inline]] inline void store_rows(T* y, int64_t stride, int64_t t, Span span,
                                              const Slice& slice, int c, const Vec<T> (&v)[kRows]) {
  const int n = std::min(lanes<T>, slice.count - c);
  y += t * stride + c;
  if (t >= span.begin && t + kRows <= span.end && n == lanes<T>) {
    for (int i = 0; i < kRows; ++i) store<T>(y + i * stride, v[i]);
  } else {
    for (int i = 0; i < kRows; ++i) {
      if (t + i >= span.begin && t + i < span.end) store<T>(y + i * stride, v[i], n);
    }
  }
}

// Rows of the output that lie behind the sequence.
template <class T>
void clear(T* y, int64_t stride, Span span, const Slice& slice) {
  for (int64_t t = std::max(span.begin, slice.length); t < span.end; ++t) {
    std::memset(y + t * stride, 0, sizeof(T) * slice.count);
  }
}

// A slice of the filter and the bias; zeros in missing channels.
template <int kMost, class T>
struct Taps {
  Row<T> weight[kMost], bias{};

  Taps(const Conv1dArgs<T>& a, const Slice& slice) {
    for (int64_t j = 0; j < a.width; ++j) {
      weight[j] = {};
      std::memcpy(&weight[j], a.weight + j * a.channels + slice.first, sizeof(T) * slice.count);
    }
    if (a.bias) std::memcpy(&bias, a.bias + slice.first, sizeof(T) * slice.count);
  }
};

// sum[i] += sum_j weight(j) rows[i + j]
template <class T, class F>
[[gnu::always_inline]] inline void correlate(Vec<T> (&sum)[kRows], Column<T> rows, int64_t width,
                                             F weight) {
  for (int64_t j = 0; j < width; ++j) {
    const Vec<T> w = weight(j);
    for (int i = 0; i < kRows; ++i) sum[i] += w * rows[i + j];
  }
}

// s = 1 / (1 + exp(-x)) of every x. Beyond +-kFar a sigmoid is 0 or 1 for all purposes, and below
// -kFar so are silu(x) and its derivative: there x becomes -kFar, so that it is finite.
template <class T>
[[gnu::always_inline]] inline void sigmoids(Vec<T> (&x)[kRows], Vec<T> (&s)[kRows]) {
  constexpr T kFar = sizeof(T) == 4 ? 80 : 700;
  for (int i = 0; i < kRows; ++i) {
    x[i] = max<T>(x[i], broadcast(-kFar));
    s[i] = (kExp2Vanishes ? x[i] : min<T>(x[i], broadcast(kFar))) * static_cast<T>(-kLog2E);
  }
  exp2<kRows, /*clamped=*/false>(s);
  for (int i = 0; i < kRows; ++i) s[i] = reciprocal<T>(T{1} + s[i]);
}

// kWidth is the filter's width, or 0: any.
template <int kWidth, class T>
void forward_piece(const Conv1dArgs<T>& a, const Slice& slice, Span span) {
  constexpr int kMost = kWidth ? kWidth : kConv1dWidest;
  const int64_t width = kWidth ? kWidth : a.width;
  const Span sequence{span.begin, std::min(span.end, slice.length)};
  const Taps<kMost, T> taps(a, slice);
  const T* const x = a.x + slice.b * a.x_batch + slice.first;
  T* const y = a.y + slice.b * a.length * a.channels + slice.first;
  Vec<T> copy[kRows + kMost - 1];
  for (int64_t t = sequence.begin; t < sequence.end; t += kRows) {
    for (int c = 0; c < slice.count; c += lanes<T>) {
      Vec<T> sum[kRows];
      for (Vec<T>& s : sum) s = load(&taps.bias.at[c]);
      correlate(sum, column(x, a.x_row, t - a.before, kRows + width - 1, slice, c, copy), width,
                [&](int64_t j) { return load(&taps.weight[j].at[c]); });
      if (a.silu) {
        Vec<T> s[kRows];
        sigmoids<T>(sum, s);
        for (int i = 0; i < kRows; ++i) sum[i] = sum[i] * s[i];
      }
      store_rows(y, a.channels, t, sequence, slice, c, sum);
    }
  }
  clear(y, a.channels, span, slice);
}

// With g = dy act'(the sum before the activation): dw[j] = sum_t g[t] x[t - before + j], and
// dx[s] = sum_j w[j] g[s + before - j] is the correlation of g with the mirrored filter. Rows of g
// are computed one after the other, from the first that a row of dx of this piece sees; the last
// ones are kept until those of dx have seen them.
template <int kWidth, class T>
void backward_piece(const Conv1dArgs<T>& a, const Slice& slice, Span span, T* sums) {
  constexpr int kVectors = kSlice / lanes<T>, kMost = kWidth ? kWidth : kConv1dWidest;
  const int64_t width = kWidth ? kWidth : a.width, halo = width - 1;
  const Span sequence{span.begin, std::min(span.end, slice.length)};
  const Taps<kMost, T> taps(a, slice);
  const T* const x_in = a.x + slice.b * a.x_batch + slice.first;
  const T* const dy_in = a.dy + slice.b * a.dy_batch + slice.first;
  T* const dx = a.dx + slice.b * a.length * a.channels + slice.first;
  Vec<T> kept[kVectors][kMost], dw[kVectors][kMost + 1];
  for (int v = 0; v < kVectors; ++v) {
    for (int64_t i = 0; i < halo; ++i) kept[v][i] = Vec<T>{};
    for (int64_t j = 0; j <= width; ++j) dw[v][j] = Vec<T>{};
  }
  Vec<T> x_copy[kRows + kMost - 1], dy_copy[kRows];
  for (int64_t t = sequence.begin + a.before - halo; t - a.before < sequence.end; t += kRows) {
    for (int c = 0; c < slice.count; c += lanes<T>) {
      const Column<T> x = column(x_in, a.x_row, t - a.before, kRows + halo, slice, c, x_copy),
                      dy = column(dy_in, a.dy_row, t, kRows, slice, c, dy_copy);
      Vec<T> g[kRows];
      for (int i = 0; i < kRows; ++i) g[i] = dy[i];
      if (a.silu) {
        Vec<T> sum[kRows], s[kRows];
        for (Vec<T>& v : sum) v = load(&taps.bias.at[c]);
        correlate(sum, x, width, [&](int64_t j) { return load(&taps.weight[j].at[c]); });
        sigmoids<T>(sum, s);
        for (int i = 0; i < kRows; ++i) {
          g[i] *= s[i] + s[i] * (sum[i] * (T{1} - s[i]));
        }
      }
      Vec<T> window[kMost - 1 + kRows];
      for (int64_t i = 0; i < halo; ++i) window[i] = kept[c / lanes<T>][i];
      for (int i = 0; i < kRows; ++i) window[halo + i] = g[i];

      // Rows that are another piece's count there.
      if (t < sequence.begin || t + kRows > sequence.end) {
        for (int i = 0; i < kRows; ++i) {
          if (t + i < sequence.begin || t + i >= sequence.end) g[i] = Vec<T>{};
        }
      }
      Vec<T>* const sum = dw[c / lanes<T>];
      for (int64_t j = 0; j < width; ++j) {
        for (int i = 0; i < kRows; ++i) sum[j] += g[i] * x[i + j];
      }
      for (int i = 0; i < kRows; ++i) sum[width] += g[i];

      Vec<T> out[kRows]{};
      correlate(out, Column<T>{reinterpret_cast<const T*>(window), lanes<T>}, width,
                [&](int64_t j) { return load(&taps.weight[halo - j].at[c]); });
      store_rows(dx, a.channels, t - a.before, sequence, slice, c, out);
      for (int64_t i = 0; i < halo; ++i) kept[c / lanes<T>][i] = window[kRows + i];
    }
  }
  clear(dx, a.channels, span, slice);
  for (int64_t j = 0; j <= width; ++j) {
    for (int c = 0; c < slice.count; c += lanes<T>) {
      store<T>(sums + j * a.channels + slice.first + c, dw[c / lanes<T>][j],
               std::min(lanes<T>, slice.count - c));
    }
  }
}

// Calls f with the filter's width as a constant if it is that of Mamba or of sepcnn as it comes,
// otherwise with 0.
template <class T, class F>
void with_width(const Conv1dArgs<T>& a, F f) {
  if (a.width == 4) {
    f(std::integral_constant<int, 4>{});
  } else if (a.width == 7) {
    f(std::integral_constant<int, 7>{});
  } else {
    f(std::integral_constant<int, 0>{});
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
  with_width(a, [&](auto width) {
    each_piece(
        a, [&](const Slice& slice, Span span, int64_t) { forward_piece<width()>(a, slice, span); });
  });
}

template <class T>
void backward(const Conv1dArgs<T>& a) {
  with_width(a, [&](auto width) {
    each_piece(a, [&](const Slice& slice, Span span, int64_t piece) {
      backward_piece<width()>(a, slice, span, a.sums + piece * (a.width + 1) * a.channels);
    });
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
