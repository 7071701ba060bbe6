// A tile is two vectors of positions. Its rows are turned, so that lanes are positions: norms need
// no sums over lanes, and the products' results are what y and dy have in memory.
//
// The norm's weight g and bias b are folded into the map: with the normalised row n,
//   W (g n + b) = V n + v,   V = W diag(g),   v = W b,
// and the gradients of W, g and b follow from those of V and v after the last tile.
#include "pair_bias/pair_bias_cpu.h"

#include "common/gemm.h"
#include "common/moments.h"
#include "common/parallel.h"

namespace ribo::kernels {
namespace RIBO_ISA {
namespace {

// Sums of the weights' gradients over tiles, each by one worker: enough of them for many cores.
constexpr int64_t kSlices = 32;

template <class T>
class PairBias {
 public:
  explicit PairBias(const PairBiasArgs<T>& a)
      : a_(a),
        C_(a.channels),
        columns_((a.heads + kColumns<T> - 1) / kColumns<T> * kColumns<T>),
        of_sequence_((a.positions + kTile - 1) / kTile) {
    T* next = a.scratch;
    const auto take = [&](int64_t n) {
      T* const part = next;
      if (next) next += n;
      size_ += n;
      return part;
    };
    v_ = take(a.heads * C_);
    v_bias_ = take(columns_);
    sums_ = take(kSlices * sum_size());
    memory_ = take(workers() * tile_size());
  }

  int64_t scratch() const { return size_; }

  void forward() {
    fold();
    parallel((tiles() + kPerTask - 1) / kPerTask, [&](int64_t task, int worker) {
      const int64_t end = task * kPerTask + kPerTask;
      for (int64_t i = task * kPerTask; i < end && i < tiles(); ++i) {
        const Tile t = normalised(i, worker);
        gemm(Rows{v_, C_}, Panels{t.n, a_.channels}, a_.y + t.y, a_.positions, a_.heads, t.count,
             a_.channels, false, [&](Vec<T> v, int h, int) { return v + v_bias_[h]; });
      }
    });
  }

  void backward() {
    fold();
    parallel(kSlices, [&](int64_t slice, int worker) {
      T* const sums = sums_ + slice * sum_size();
      std::memset(sums, 0, sum_size() * sizeof(T));
      const int64_t end = tiles() * (slice + 1) / kSlices;
      for (int64_t i = tiles() * slice / kSlices; i < end; ++i) {
        differentiate(normalised(i, worker), sums);
      }
    });
    for (int64_t slice = 1; slice < kSlices; ++slice) {
      for (int64_t i = 0; i < sum_size(); ++i) sums_[i] += sums_[slice * sum_size() + i];
    }
    unfold();
  }

 private:
  static constexpr int kTile = kColumns<T>;
  static constexpr int64_t kPerTask = 16;

  struct Tile {
    int count;        // positions
    int64_t x, y;     // its first elements in x and in the first head of y
    T *n, *dn;        // [C, kTile]
    T *d, *d_packed;  // dy [heads, kTile], and as a right factor [kTile, heads]
    T *mean, *scale;  // [kTile]
  };

  int64_t tiles() const { return a_.batch * of_sequence_; }
  int64_t sum_size() const { return (C_ + 1) * columns_; }  // dV^T [C, heads], dv
  int64_t tile_size() const { return (2 * C_ + 2 * columns_ + 2) * kTile; }

  void fold() {
    for (int h = 0; h < a_.heads; ++h) {
      v_bias_[h] = 0;
      for (int64_t c = 0; c < C_; ++c) {
        const T w = a_.weight[h * C_ + c];
        v_[h * C_ + c] = w * a_.norm_weight[c];
        if (a_.norm_bias) v_bias_[h] += w * a_.norm_bias[c];
      }
    }
  }

  Tile normalised(int64_t i, int worker) const {
    const int64_t b = i / of_sequence_, first = i % of_sequence_ * kTile;
    const int64_t left = a_.positions - first;
    T* const memory = memory_ + worker * tile_size();
    Tile t;
    t.count = static_cast<int>(left < kTile ? left : kTile);
    t.x = (b * a_.positions + first) * C_;
    t.y = b * a_.heads * a_.positions + first;
    t.n = memory;
    t.dn = t.n + C_ * kTile;
    t.d = t.dn + C_ * kTile;
    t.d_packed = t.d + columns_ * kTile;
    t.mean = t.d_packed + columns_ * kTile;
    t.scale = t.mean + kTile;
    pack<T>(a_.x + t.x, 1, C_, a_.channels, t.count, t.n);
    moments(t.n, C_, kTile, t.mean, t.scale);
    for (int p = 0; p < kTile; p += lanes<T>) {
      const Vec<T> mean = load(t.mean + p), scale = load(t.scale + p);
      for (T* n = t.n + p; n < t.n + C_ * kTile; n += kTile) {
        store<T>(n, (load(n) - mean) * scale);
      }
    }
    return t;
  }

  void differentiate(const Tile& t, T* sums) const {
    for (int h = 0; h < a_.heads; ++h) {
      T* const d = t.d + h * kTile;
      std::memcpy(d, a_.dy + t.y + h * a_.positions, t.count * sizeof(T));
      for (int p = t.count; p < kTile; ++p) d[p] = 0;
      sums[C_ * columns_ + h] += sum<T>(load(d) + load(d + lanes<T>));
    }
    pack<T>(t.d, 1, kTile, kTile, a_.heads, t.d_packed);
    // Whole vectors of heads: those that are not there are zeros.
    const int heads = (a_.heads + lanes<T> - 1) / lanes<T> * lanes<T>;
    gemm(Rows{t.n, kTile}, Panels{t.d_packed, kTile}, sums, columns_, a_.channels, heads, kTile,
         true);
    gemm(Transposed{v_, C_}, InPlace{t.d, kTile}, t.dn, kTile, a_.channels, kTile, a_.heads);
    const T share = T{1} / static_cast<T>(C_);
    for (int p = 0; p < kTile; p += lanes<T>) {
      Vec<T> mean{}, along{};
      for (int64_t c = 0; c < C_; ++c) {
        const Vec<T> d = load(t.dn + c * kTile + p);
        mean += d;
        along += d * load(t.n + c * kTile + p);
      }
      mean *= share, along *= share;
      const Vec<T> scale = load(t.scale + p);
      for (int64_t c = 0; c < C_; ++c) {
        T* const d = t.dn + c * kTile + p;
        store<T>(d, (load(d) - mean - load(t.n + c * kTile + p) * along) * scale);
      }
    }
    // The rows' turn back; n is not needed any more where they have to be cut off.
    T* const to = t.count == kTile ? a_.dx + t.x : t.n;
    for (int p = 0; p < kTile; p += lanes<T>) {
      for (int64_t c = 0; c < C_; c += lanes<T>) {
        copy_transposed(t.dn + c * kTile + p, kTile, to + p * C_ + c, C_);
      }
    }
    if (to == t.n) std::memcpy(a_.dx + t.x, t.n, t.count * C_ * sizeof(T));
  }

  void unfold() const {
    const T* const dv = sums_ + C_ * columns_;
    for (int64_t c = 0; c < C_; ++c) {
      const T gain = a_.norm_weight[c], shift = a_.norm_bias ? a_.norm_bias[c] : T{};
      T d_gain{}, d_shift{};
      for (int h = 0; h < a_.heads; ++h) {
        const T w = a_.weight[h * C_ + c], d = sums_[c * columns_ + h];
        a_.d_weight[h * C_ + c] = d * gain + dv[h] * shift;
        d_gain += d * w;
        d_shift += dv[h] * w;
      }
      a_.d_norm_weight[c] = d_gain;
      if (a_.d_norm_bias) a_.d_norm_bias[c] = d_shift;
    }
  }

  const PairBiasArgs<T> a_;
  const int64_t C_, columns_, of_sequence_;  // columns_: heads, padded
  int64_t size_ = 0;
  T *v_, *v_bias_, *sums_, *memory_;
};

}  // namespace
}  // namespace RIBO_ISA

template <Isa isa, class T>
int64_t pair_bias_scratch(const PairBiasArgs<T>& args) {
  PairBiasArgs<T> without = args;
  without.scratch = nullptr;
  return RIBO_ISA::PairBias<T>(without).scratch();
}
template <Isa isa, class T>
void pair_bias_forward(const PairBiasArgs<T>& args) {
  RIBO_ISA::PairBias<T>(args).forward();
}
template <Isa isa, class T>
void pair_bias_backward(const PairBiasArgs<T>& args) {
  RIBO_ISA::PairBias<T>(args).backward();
}

template int64_t pair_bias_scratch<Isa::RIBO_ISA>(const PairBiasArgs<float>&);
template int64_t pair_bias_scratch<Isa::RIBO_ISA>(const PairBiasArgs<double>&);
template void pair_bias_forward<Isa::RIBO_ISA>(const PairBiasArgs<float>&);
template void pair_bias_forward<Isa::RIBO_ISA>(const PairBiasArgs<double>&);
template void pair_bias_backward<Isa::RIBO_ISA>(const PairBiasArgs<float>&);
template void pair_bias_backward<Isa::RIBO_ISA>(const PairBiasArgs<double>&);

}  // namespace ribo::kernels
