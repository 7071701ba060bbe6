// A tile of positions goes through the whole operator while it stays in the cache: the hidden layer
// never exists for more than a tile, and the backward pass computes it again.
//
// The norm's weight g and bias b are folded into the first layer: with the normalised row x^,
//   W1 (g x^ + b) + b1 = V x^ + v,   V = W1 diag(g),   v = b1 + W1 b,
// and the gradients of W1, g and b follow from those of V and v after the last tile.
#include "pair_transition/pair_transition_cpu.h"

#include "common/gemm.h"
#include "common/parallel.h"

namespace ribo::kernels {
namespace RIBO_ISA {
namespace {

constexpr int kTile = 16 * kRows;
// Sums of the parameters' gradients over tiles, each by one worker: enough of them for many cores.
constexpr int64_t kSlices = 32;

constexpr int64_t round_up(int64_t n) { return (n + 31) / 32 * 32; }

/// Hands out parts of the scratch memory, or counts them where there is none.
template <class T>
struct Arena {
  T* base;
  int64_t used = 0;
  T* take(int64_t n) {
    T* part = base ? base + used : nullptr;
    used += round_up(n);
    return part;
  }
};

/// Positions that count, one after the other, from the i-th.
class Walk {
 public:
  Walk(const Pairs& pairs, int64_t i) : pairs_(pairs), column_(i) {
    if (!pairs.lengths) return;
    while (column_ >= pairs.lengths[batch_] * pairs.lengths[batch_]) {
      column_ -= pairs.lengths[batch_] * pairs.lengths[batch_];
      ++batch_;
    }
    row_ = column_ / pairs.lengths[batch_];
    column_ %= pairs.lengths[batch_];
  }
  int64_t next() {
    if (!pairs_.lengths) return column_++;
    const int64_t here = (batch_ * pairs_.length + row_) * pairs_.length + column_;
    if (++column_ == pairs_.lengths[batch_]) {
      column_ = 0;
      if (++row_ == pairs_.lengths[batch_]) {
        row_ = 0;
        do ++batch_;
        while (batch_ < pairs_.batch && pairs_.lengths[batch_] == 0);
      }
    }
    return here;
  }

 private:
  const Pairs& pairs_;
  int64_t batch_ = 0, row_ = 0, column_;
};

/// Values of x, y or of their gradients, behind which stands T or bfloat16.
template <class T>
[[gnu::always_inline]] inline Vec<T> read(const void* from, bool bfloat16, int64_t i, int n) {
  if (!bfloat16) return load(static_cast<const T*>(from) + i, n);
  Vec<T> v{};
  for (int j = 0; j < n; ++j) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(from)[i + j]) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    v[j] = static_cast<T>(value);
  }
  return v;
}

/// Rounds to the nearest, of two to the even; NaN stays NaN.
template <class T>
[[gnu::always_inline]] inline void write(void* to, bool bfloat16, int64_t i, Vec<T> v, int n) {
  if (!bfloat16) return store<T>(static_cast<T*>(to) + i, v, n);
  for (int j = 0; j < n; ++j) {
    const float value = static_cast<float>(v[j]);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    static_cast<uint16_t*>(to)[i + j] =
        static_cast<uint16_t>(value == value ? rounded : bits >> 16 | 0x40);
  }
}

/// The first n lanes.
template <class T>
[[gnu::always_inline]] inline Vec<T> first(Vec<T> v, int n) {
  if (n >= lanes<T>) return v;
  T part[lanes<T>];
  store<T>(part, v);
  return load(part, n);
}

/// Rows whose norms are computed together, since one alone waits for its sums.
constexpr int kNorms = 4;

/// Normalises kNorms rows in place, zero behind n, and gives what they were divided by, inverted.
template <class T>
void normalise(T* x, int64_t ld, int n, T eps, T* rstd) {
  constexpr int W = lanes<T>;
  Vec<T> sums[kNorms] = {};
  for (int i = 0; i < n; i += W) {
    for (int r = 0; r < kNorms; ++r) sums[r] += load(x + r * ld + i);
  }
  T mean[kNorms];
  for (int r = 0; r < kNorms; ++r) mean[r] = sum<T>(sums[r]) / n;
  for (int r = 0; r < kNorms; ++r) sums[r] = Vec<T>{};
  each_vector<T>(n, [&](int i, int width) {
    for (int r = 0; r < kNorms; ++r) {
      T* row = x + r * ld + i;
      const Vec<T> v = first<T>(load(row) - mean[r], width);
      sums[r] += v * v;
      store<T>(row, v);
    }
  });
  for (int r = 0; r < kNorms; ++r) rstd[r] = 1 / std::sqrt(sum<T>(sums[r]) / n + eps);
  for (int i = 0; i < n; i += W) {
    for (int r = 0; r < kNorms; ++r) store<T>(x + r * ld + i, load(x + r * ld + i) * rstd[r]);
  }
}

/// The gradients of kNorms rows, in place, from those of the normalised rows x.
template <class T>
void normalise_backward(T* d, const T* x, int64_t ld, int n, const T* rstd) {
  constexpr int W = lanes<T>;
  Vec<T> sums[kNorms] = {}, products[kNorms] = {};
  each_vector<T>(n, [&](int i, int width) {
    for (int r = 0; r < kNorms; ++r) {
      const Vec<T> v = first<T>(load(d + r * ld + i), width);
      sums[r] += v;
      products[r] += v * load(x + r * ld + i);
    }
  });
  T a[kNorms], b[kNorms];
  for (int r = 0; r < kNorms; ++r) {
    a[r] = sum<T>(sums[r]) / n;
    b[r] = sum<T>(products[r]) / n;
  }
  for (int i = 0; i < n; i += W) {
    for (int r = 0; r < kNorms; ++r) {
      T* row = d + r * ld + i;
      store<T>(row, (load(row) - a[r] - load(x + r * ld + i) * b[r]) * rstd[r]);
    }
  }
}

/// to[j] += sum of column j; reads and writes up to `step` columns behind n.
template <class T>
void add_columns(const T* from, int64_t ld, int rows, int n, T* to) {
  constexpr int W = lanes<T>, V = 32 / W > 1 ? 32 / W : 1;
  for (int j = 0; j < n; j += V * W) {
    Vec<T> total[V];
    for (int v = 0; v < V; ++v) total[v] = load(to + j + v * W);
    for (int i = 0; i < rows; ++i) {
      for (int v = 0; v < V; ++v) total[v] += load(from + i * ld + j + v * W);
    }
    for (int v = 0; v < V; ++v) store<T>(to + j + v * W, total[v]);
  }
}

template <class T>
class Transition {
 public:
  Transition(const TransitionArgs<T>& a, bool backward, T* scratch) : a_(a), arena_{scratch} {
    const int64_t C = a.channels, H = a.hidden;
    tiles_ = (a.pairs.count + kTile - 1) / kTile;
    slices_ = tiles_ < 1 ? 1 : tiles_ < kSlices ? tiles_ : kSlices;
    // A power of two between two rows of a tile would map a column to few sets of the cache.
    ld_ = round_up(C) + 16;
    streams_ = !a.bfloat16 && too_large_for_caches<T>(a.pairs.count * C);
    ld_hidden_ = round_up(H) + 16;
    v_ = arena_.take(packed_size<T>(C, H));
    v_bias_ = arena_.take(H);
    if (backward) {
      w2_ = arena_.take(packed_size<T>(C, H));
      v_back_ = arena_.take(packed_size<T>(H, C));
      sum_size_ = 2 * C * ld_hidden_ + ld_hidden_ + ld_;
      sums_ = arena_.take(slices_ * sum_size_);
    } else {
      w2_ = arena_.take(packed_size<T>(H, C));
      b2_ = arena_.take(C);
    }
    tile_size_ = 3 * kTile * ld_ + 2 * kTile * ld_hidden_ + kTile;
    memory_ = arena_.take(workers() * tile_size_);
  }

  int64_t scratch() const { return arena_.used; }

  void forward() {
    const int C = a_.channels, H = a_.hidden;
    fold();
    pack<T>(a_.w2, 1, H, H, C, w2_);
    std::memcpy(b2_, a_.b2, C * sizeof(T));
    parallel(tiles_, [&](int64_t task, int worker) {
      Tile t = tile(worker, task);
      hidden(t);
      gemm(Rows{t.hidden, ld_hidden_}, Panels{w2_, H}, t.dx, ld_, t.rows, C, H, false,
           [&](Vec<T> y, int, int j) { return y + load(b2_ + j); });
      for (int i = 0; i < t.rows; ++i) put(t, i, a_.x, a_.y);
      finish_streams();
    });
  }

  void backward() {
    const int C = a_.channels, H = a_.hidden;
    fold();
    pack<T>(a_.w2, H, 1, C, H, w2_);
    // V, [H, C]: from v_, [C, H], but for the order.
    for (int c = 0; c < C; ++c) {
      for (int h = 0; h < H; ++h) {
        v_back_[(c / kColumns<T> * H + h) * kColumns<T> + c % kColumns<T>] =
            a_.w1[h * C + c] * a_.norm_weight[c];
      }
      for (int h = 0; h < H && c == C - 1; ++h) {
        T* row = v_back_ + (c / kColumns<T> * H + h) * kColumns<T>;
        for (int j = c % kColumns<T> + 1; j < kColumns<T>; ++j) row[j] = T{};
      }
    }
    parallel(slices_, [&](int64_t slice, int worker) {
      const Sums s = sums(slice);
      std::memset(s.dv, 0, sum_size_ * sizeof(T));
      const int64_t end = tiles_ * (slice + 1) / slices_;
      for (int64_t task = tiles_ * slice / slices_; task < end; ++task) {
        backward(task, worker, s);
      }
    });
    add_slices();
    unfold();
  }

 private:
  struct Tile {
    int rows;
    T *x, *dy, *dx, *hidden, *d_hidden, *rstd;
    int64_t position[kTile];
  };
  struct Sums {
    T *dv, *dw2;  // [C, H], rows of ld_hidden_
    T *db1, *db2;
  };

  Sums sums(int64_t slice) const {
    const int64_t C = a_.channels, row = ld_hidden_;
    T* at = sums_ + slice * sum_size_;
    return {at, at + C * row, at + 2 * C * row, at + 2 * C * row + row};
  }

  /// v_, v_bias_
  void fold() {
    const int C = a_.channels, H = a_.hidden;
    pack<T>(a_.w1, 1, C, C, H, v_);
    T* v = v_;
    for (int j = 0; j < H; j += kColumns<T>) {
      for (int c = 0; c < C; ++c) {
        for (int i = 0; i < kColumns<T>; ++i) *v++ *= a_.norm_weight[c];
      }
    }
    for (int h = 0; h < H; ++h) {
      v_bias_[h] = a_.b1[h];
      for (int c = 0; c < C; ++c) v_bias_[h] += a_.w1[h * C + c] * a_.norm_bias[c];
    }
  }

  /// The positions of one task and their normalised rows.
  Tile tile(int worker, int64_t task) const {
    Tile t;
    t.x = memory_ + worker * tile_size_;
    t.dy = t.x + kTile * ld_;
    t.dx = t.dy + kTile * ld_;
    t.hidden = t.dx + kTile * ld_;
    t.d_hidden = t.hidden + kTile * ld_hidden_;
    t.rstd = t.d_hidden + kTile * ld_hidden_;
    const int64_t first = task * kTile, left = a_.pairs.count - first;
    t.rows = static_cast<int>(left < kTile ? left : kTile);
    Walk walk(a_.pairs, first);
    for (int i = 0; i < t.rows; ++i) {
      t.position[i] = walk.next();
      get(a_.x, t.position[i], t.x + i * ld_);
      if (a_.dy) expect(a_.dy, t.position[i]);
      for (const void* p : {a_.y, a_.dx}) {
        if (p && !streams_) expect(p, t.position[i]);
      }
    }
    const int rows = (t.rows + kNorms - 1) / kNorms * kNorms;
    for (int i = t.rows; i < rows; ++i) std::memset(t.x + i * ld_, 0, ld_ * sizeof(T));
    for (int i = 0; i < rows; i += kNorms) {
      normalise(t.x + i * ld_, ld_, a_.channels, static_cast<T>(a_.eps), t.rstd + i);
    }
    return t;
  }

  /// A row of x or dy, zero up to the next whole vector.
  void get(const void* from, int64_t position, T* to) const {
    const int64_t at = position * a_.channels;
    each_vector<T>(a_.channels,
                   [&](int c, int n) { store<T>(to + c, read<T>(from, a_.bfloat16, at + c, n)); });
  }

  /// Row i of the tile's update, with the residual, to y or dx.
  void put(const Tile& t, int i, const void* residual, void* to) const {
    const int64_t at = t.position[i] * a_.channels;
    each_vector<T>(a_.channels, [&](int c, int n) {
      const Vec<T> v = load(t.dx + i * ld_ + c) + read<T>(residual, a_.bfloat16, at + c, n);
      if (streams_ && n == lanes<T>) return stream<T>(static_cast<T*>(to) + at + c, v);
      write<T>(to, a_.bfloat16, at + c, v, n);
    });
  }

  /// Has a row of x, y or a gradient brought to the cache.
  void expect(const void* p, int64_t position) const {
    const int64_t bytes = a_.channels * (a_.bfloat16 ? 2 : sizeof(T));
    const char* row = static_cast<const char*>(p) + position * bytes;
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i, 1);
  }

  void hidden(const Tile& t) const {
    gemm(Rows{t.x, ld_}, Panels{v_, a_.channels}, t.hidden, ld_hidden_, t.rows, a_.hidden,
         a_.channels, false,
         [&](Vec<T> x, int, int j) { return max<T>(x + load(v_bias_ + j), Vec<T>{}); });
  }

  void backward(int64_t task, int worker, const Sums& s) const {
    const int C = a_.channels, H = a_.hidden;
    const int64_t row = ld_hidden_;
    Tile t = tile(worker, task);
    for (int i = 0; i < t.rows; ++i) get(a_.dy, t.position[i], t.dy + i * ld_);
    hidden(t);
    gemm(Transposed{t.dy, ld_}, InPlace{t.hidden, ld_hidden_}, s.dw2, row, C, H, t.rows, true);
    add_columns(t.dy, ld_, t.rows, C, s.db2);
    gemm(Rows{t.dy, ld_}, Panels{w2_, C}, t.d_hidden, ld_hidden_, t.rows, H, C, false,
         [&](Vec<T> d, int i, int j) {
           return load(t.hidden + i * ld_hidden_ + j) <= T{} ? Vec<T>{} : d;
         });
    gemm(Transposed{t.x, ld_}, InPlace{t.d_hidden, ld_hidden_}, s.dv, row, C, H, t.rows, true);
    add_columns(t.d_hidden, ld_hidden_, t.rows, H, s.db1);
    gemm(Rows{t.d_hidden, ld_hidden_}, Panels{v_back_, H}, t.dx, ld_, t.rows, C, H);
    for (int i = 0; i < t.rows; i += kNorms) {
      normalise_backward(t.dx + i * ld_, t.x + i * ld_, ld_, C, t.rstd + i);
    }
    for (int i = 0; i < t.rows; ++i) put(t, i, a_.dy, a_.dx);
    finish_streams();
  }

  /// The sums of all slices into that of the first, in their order.
  void add_slices() const {
    constexpr int64_t piece = 4096;
    parallel((sum_size_ + piece - 1) / piece, [&](int64_t task, int) {
      const int64_t end = sum_size_ < (task + 1) * piece ? sum_size_ : (task + 1) * piece;
      for (int64_t slice = 1; slice < slices_; ++slice) {
        const T* from = sums_ + slice * sum_size_;
        for (int64_t i = task * piece; i < end; ++i) sums_[i] += from[i];
      }
    });
  }

  /// The parameters' gradients from the sums.
  void unfold() const {
    const int C = a_.channels, H = a_.hidden;
    const int64_t row = ld_hidden_;
    const Sums s = sums(0);
    std::memcpy(a_.db1, s.db1, H * sizeof(T));
    std::memcpy(a_.db2, s.db2, C * sizeof(T));
    for (int c = 0; c < C; ++c) {
      const T *dv = s.dv + c * row, g = a_.norm_weight[c], b = a_.norm_bias[c];
      std::memcpy(a_.dw2 + c * H, s.dw2 + c * row, H * sizeof(T));
      T dg{}, db{};
      for (int h = 0; h < H; ++h) {
        const T w = a_.w1[h * C + c];
        a_.dw1[h * C + c] = dv[h] * g + s.db1[h] * b;
        dg += dv[h] * w;
        db += s.db1[h] * w;
      }
      a_.d_norm_weight[c] = dg;
      a_.d_norm_bias[c] = db;
    }
  }

  const TransitionArgs<T>& a_;
  Arena<T> arena_;
  int64_t tiles_, slices_, ld_, ld_hidden_, sum_size_ = 0, tile_size_;
  bool streams_;  // y and dx are too large for the caches
  T *v_, *v_bias_, *w2_, *b2_ = nullptr, *v_back_ = nullptr;  // V^T, v; W2^T or W2; V
  T *sums_ = nullptr, *memory_;
};

}  // namespace
}  // namespace RIBO_ISA

template <Isa isa, class T>
int64_t transition_scratch(const TransitionArgs<T>& a, bool backward) {
  return RIBO_ISA::Transition<T>(a, backward, nullptr).scratch();
}
template <Isa isa, class T>
void transition_forward(const TransitionArgs<T>& a) {
  RIBO_ISA::Transition<T>(a, false, a.scratch).forward();
}
template <Isa isa, class T>
void transition_backward(const TransitionArgs<T>& a) {
  RIBO_ISA::Transition<T>(a, true, a.scratch).backward();
}

template int64_t transition_scratch<Isa::RIBO_ISA>(const TransitionArgs<float>&, bool);
template int64_t transition_scratch<Isa::RIBO_ISA>(const TransitionArgs<double>&, bool);
template void transition_forward<Isa::RIBO_ISA>(const TransitionArgs<float>&);
template void transition_forward<Isa::RIBO_ISA>(const TransitionArgs<double>&);
template void transition_backward<Isa::RIBO_ISA>(const TransitionArgs<float>&);
template void transition_backward<Isa::RIBO_ISA>(const TransitionArgs<double>&);

}  // namespace ribo::kernels
