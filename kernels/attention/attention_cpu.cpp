// One task is a head of one group. Whole rows of logits fit in the cache, so that the softmax needs
// no running maximum and the backward pass only the logarithm of each row's sum.
#include "attention/attention_cpu.h"

#include <limits>

#include "common/gemm.h"
#include "common/parallel.h"

namespace ribo::kernels {
namespace RIBO_ISA {
namespace {

/// Queries that are worked on at once: a multiple of the product's rows, so few that their logits
/// stay in the L1 or L2 cache.
constexpr int64_t kQueries = 24;

inline constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

/// Hands out parts of a worker's scratch memory; without memory it only counts.
template <class T>
class Scratch {
 public:
  explicit Scratch(T* memory) : memory_(memory) {}
  T* take(int64_t elements) {
    T* part = memory_ ? memory_ + used_ : nullptr;
    used_ += round_up(elements, 64 / sizeof(T));
    return part;
  }
  int64_t used() const { return used_; }

 private:
  T* memory_;
  int64_t used_ = 0;
};

/// The sizes of one head's matrices, and copies of these that products can take.
template <class T>
struct Shape {
  int64_t length, width;      // of this sequence; as given
  int64_t columns, channels;  // the same, padded to whole vectors

  Shape(int64_t length, int64_t width)
      : length(length),
        width(width),
        columns(round_up(length, kColumns<T>)),
        channels(round_up(width, kColumns<T>)) {}

  // [positions, channels], times factor.
  void rows(T* to, const T* from, int64_t stride, int64_t positions, T factor) const {
    for (int64_t i = 0; i < positions; ++i, to += channels, from += stride) {
      for (int64_t c = 0; c < width; ++c) to[c] = from[c] * factor;
      for (int64_t c = width; c < channels; ++c) to[c] = 0;
    }
  }

  // to [rows, columns] = x [rows, channels] times the transpose of what pack_columns() packed.
  void logits(T* to, const T* x, int64_t rows, const T* packed) const {
    gemm(Rows{x, channels}, Panels{packed, width}, to, columns, static_cast<int>(rows),
         static_cast<int>(columns), static_cast<int>(width));
  }
  void pack_columns(T* to, const T* from, int64_t stride) const {
    pack(from, 1, stride, static_cast<int>(width), static_cast<int>(length), to);
  }
  // to [rows, channels] = (or +=) w [rows, inner] x [inner, channels]
  template <class W>
  void combine(T* to, W w, int64_t rows, int64_t inner, const T* x, bool add = false) const {
    gemm(w, InPlace{x, channels}, to, channels, static_cast<int>(rows), static_cast<int>(channels),
         static_cast<int>(inner), add);
  }
};

template <class T>
const T* at(const T* x, const AttentionStrides& s, int64_t b, int64_t g, int64_t h) {
  return x + b * s.batch + g * s.group + h * s.head;
}
template <class T>
T* at(T* x, const AttentionStrides& s, int64_t b, int64_t g, int64_t h) {
  return x + b * s.batch + g * s.group + h * s.head;
}

template <class T>
void zero(T* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = 0;
}

template <class T>
void write_zeros(T* to, int64_t stride, int64_t begin, int64_t end, int64_t width) {
  for (int64_t i = begin; i < end; ++i) zero(to + i * stride, width);
}

template <class T>
void write_rows(T* to, int64_t stride, const T* from, int64_t row, int64_t rows, int64_t width,
                T factor) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) to[i * stride + c] = from[i * row + c] * factor;
  }
}

/// f(j, n) for the vectors of a row of `length` elements; n < lanes only in the last.
template <class T, class F>
[[gnu::always_inline]] inline void over_row(int64_t length, F&& f) {
  const int64_t whole = length / lanes<T> * lanes<T>;
  for (int64_t j = 0; j < whole; j += lanes<T>) f(j, lanes<T>);
  if (whole < length) f(whole, static_cast<int>(length - whole));
}

/// e^(x - shift), exactly 0 where that leaves the type's normal range; NaN stays.
template <class T>
[[gnu::always_inline]] inline Vec<T> weight(Vec<T> x, T shift) {
  constexpr T kSmallest = std::numeric_limits<T>::min_exponent;
  const Vec<T> power = (x - shift) * static_cast<T>(kLog2E);
  return power < kSmallest ? Vec<T>{} : exp2(power);
}

template <class T>
T lane_max(Vec<T> v) {
  T most = v[0];
  for (int i = 1; i < lanes<T>; ++i) most = v[i] > most ? v[i] : most;
  return most;
}

/// Logits, without their bias, become weights e^(logit - maximum); returns the row's sum and sets
/// its logarithm, sum and maximum taken together. A row whose logits are all minus infinity has the
/// weights 0 and the sum 1.
template <class T>
T soften(T* x, const T* bias, int64_t length, T& log_sum) {
  Vec<T> most = broadcast(-std::numeric_limits<T>::infinity());
  over_row<T>(length, [&](int64_t j, int n) {
    const Vec<T> logit = load(x + j) + load(bias + j, n);
    store<T>(x + j, logit);
    if (n == lanes<T>) {
      most = max<T>(most, logit);
    } else {
      for (int i = 0; i < n; ++i) most[i] = logit[i] > most[i] ? logit[i] : most[i];
    }
  });
  const T shift = lane_max<T>(most);
  if (shift == -std::numeric_limits<T>::infinity()) {
    // Nothing to see, unless a logit is not a number.
    T total = 0;
    for (int64_t j = 0; j < length; ++j) total += x[j] != x[j] ? x[j] : T{0};
    zero(x, length);
    log_sum = std::numeric_limits<T>::infinity();
    return T{1} + total;
  }
  Vec<T> sums{};
  over_row<T>(length, [&](int64_t j, int n) {
    const Vec<T> w = weight<T>(load(x + j), shift);
    store<T>(x + j, w, n);
    sums += load(x + j, n);
  });
  const T total = sum<T>(sums);
  log_sum = shift + std::log(total);
  return total;
}

template <class T>
void drop(T* x, const bool* keep, int64_t length) {
  for (int64_t j = 0; j < length; ++j) x[j] = keep[j] ? x[j] : T{0};
}

template <class T>
struct Forward {
  const AttentionForwardArgs<T>& args;

  void operator()(int64_t b, int64_t h, int64_t g, T* memory) const {
    const int64_t length = args.lengths[b];
    T* out = at(args.out, args.out_strides, b, g, h);
    if (g >= length) {
      write_zeros(out, args.out_strides.position, 0, args.length, args.width);
      return;
    }
    const Shape<T> shape(length, args.width);
    Scratch<T> scratch(memory);
    const Parts part(scratch, shape);
    shape.pack_columns(part.keys, at(args.k, args.k_strides, b, g, h), args.k_strides.position);
    shape.rows(part.values, at(args.v, args.v_strides, b, g, h), args.v_strides.position, length,
               1);
    const T* q = at(args.q, args.q_strides, b, g, h);
    const int64_t head = b * args.heads + h;
    T* log_sum = args.log_sum + (head * args.groups + g) * args.length;
    for (int64_t i = 0; i < length; i += kQueries) {
      const int64_t rows = length - i < kQueries ? length - i : kQueries;
      shape.rows(part.queries, q + i * args.q_strides.position, args.q_strides.position, rows,
                 args.scale);
      shape.logits(part.weights, part.queries, rows, part.keys);
      T factor[kQueries];
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = (head * args.length + i + r) * args.length;
        T* x = part.weights + r * shape.columns;
        factor[r] = 1 / soften(x, args.bias + row, length, log_sum[i + r]);
        if (args.keep) {
          drop(x, args.keep + row, length);
          factor[r] *= args.kept;
        }
      }
      shape.combine(part.sums, Rows{part.weights, shape.columns}, rows, length, part.values);
      for (int64_t r = 0; r < rows; ++r) {
        write_rows(out + (i + r) * args.out_strides.position, 0, part.sums + r * shape.channels, 0,
                   1, args.width, factor[r]);
      }
    }
    write_zeros(out, args.out_strides.position, length, args.length, args.width);
  }

  struct Parts {
    T *keys, *values, *queries, *weights, *sums;
    Parts(Scratch<T>& s, const Shape<T>& shape)
        : keys(s.take(shape.columns * shape.width)),
          values(s.take(shape.length * shape.channels)),
          queries(s.take(kQueries * shape.channels)),
          weights(s.take(kQueries * shape.columns)),
          sums(s.take(kQueries * shape.channels)) {}
  };
};

// With P the weights, D = keep * kept their dropout and G the gradient of the logits:
//   dv = (P D)^T dout,  dP = dout v^T * D,  G = P * (dP - sum_j P dP),
//   dq = scale G k,  dk = scale G^T q,  dbias = G summed over the groups.
template <class T>
struct Backward {
  const AttentionBackwardArgs<T>& args;

  void operator()(int64_t b, int64_t h, int64_t g, T* bias_grad, T* memory) const {
    const int64_t length = args.lengths[b];
    T* q_grad = at(args.q_grad, args.q_grad_strides, b, g, h);
    T* k_grad = at(args.k_grad, args.k_grad_strides, b, g, h);
    T* v_grad = at(args.v_grad, args.v_grad_strides, b, g, h);
    const int64_t first_zero = g < length ? length : 0;
    write_zeros(q_grad, args.q_grad_strides.position, first_zero, args.length, args.width);
    write_zeros(k_grad, args.k_grad_strides.position, first_zero, args.length, args.width);
    write_zeros(v_grad, args.v_grad_strides.position, first_zero, args.length, args.width);
    if (g >= length) return;

    const Shape<T> shape(length, args.width);
    Scratch<T> scratch(memory);
    const Parts part(scratch, shape);
    const T* k = at(args.k, args.k_strides, b, g, h);
    shape.pack_columns(part.keys, k, args.k_strides.position);
    shape.rows(part.key_rows, k, args.k_strides.position, length, args.scale);
    shape.pack_columns(part.values, at(args.v, args.v_strides, b, g, h), args.v_strides.position);
    zero(part.keys_grad, length * shape.channels);
    zero(part.values_grad, length * shape.channels);
    const T* q = at(args.q, args.q_strides, b, g, h);
    const T* out_grad = at(args.out_grad, args.out_grad_strides, b, g, h);
    const int64_t head = b * args.heads + h;
    for (int64_t i = 0; i < length; i += kQueries) {
      const int64_t rows = length - i < kQueries ? length - i : kQueries;
      shape.rows(part.queries, q + i * args.q_strides.position, args.q_strides.position, rows,
                 args.scale);
      shape.rows(part.outs_grad, out_grad + i * args.out_grad_strides.position,
                 args.out_grad_strides.position, rows, 1);
      shape.logits(part.weights, part.queries, rows, part.keys);
      shape.logits(part.logits_grad, part.outs_grad, rows, part.values);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = (i + r) * args.length, of_head = head * args.length * args.length + row;
        differentiate(part.weights + r * shape.columns, part.logits_grad + r * shape.columns,
                      args.bias + of_head, args.keep ? args.keep + of_head : nullptr,
                      bias_grad + row, length,
                      args.log_sum[(head * args.groups + g) * args.length + i + r]);
      }
      shape.combine(part.queries_grad, Rows{part.logits_grad, shape.columns}, rows, length,
                    part.key_rows);
      write_rows(q_grad + i * args.q_grad_strides.position, args.q_grad_strides.position,
                 part.queries_grad, shape.channels, rows, args.width, T{1});
      shape.combine(part.keys_grad, Transposed{part.logits_grad, shape.columns}, length, rows,
                    part.queries, true);
      shape.combine(part.values_grad, Transposed{part.weights, shape.columns}, length, rows,
                    part.outs_grad, true);
    }
    write_rows(k_grad, args.k_grad_strides.position, part.keys_grad, shape.channels, length,
               args.width, T{1});
    write_rows(v_grad, args.v_grad_strides.position, part.values_grad, shape.channels, length,
               args.width, T{1});
  }

  // x: logits without their bias, becomes P D. y: dP / D, becomes G.
  void differentiate(T* x, T* y, const T* bias, const bool* keep, T* bias_grad, int64_t length,
                     T log_sum) const {
    if (keep) {
      for (int64_t j = 0; j < length; ++j) y[j] = keep[j] ? y[j] * args.kept : T{0};
    }
    Vec<T> sums{};
    over_row<T>(length, [&](int64_t j, int n) {
      const Vec<T> w = weight<T>(load(x + j) + load(bias + j, n), log_sum);
      store<T>(x + j, w, n);
      sums += load(x + j, n) * load(y + j, n);
    });
    const T total = sum<T>(sums);
    over_row<T>(length, [&](int64_t j, int n) {
      const Vec<T> g = load(x + j) * (load(y + j) - total);
      store<T>(y + j, g);
      store<T>(bias_grad + j, load(bias_grad + j, n) + g, n);
    });
    if (keep) {
      for (int64_t j = 0; j < length; ++j) x[j] = keep[j] ? x[j] * args.kept : T{0};
    }
  }

  struct Parts {
    T *keys, *key_rows, *values, *keys_grad, *values_grad;
    T *queries, *outs_grad, *queries_grad, *weights, *logits_grad;
    Parts(Scratch<T>& s, const Shape<T>& shape)
        : keys(s.take(shape.columns * shape.width)),
          key_rows(s.take(shape.length * shape.channels)),
          values(s.take(shape.columns * shape.width)),
          keys_grad(s.take(shape.length * shape.channels)),
          values_grad(s.take(shape.length * shape.channels)),
          queries(s.take(kQueries * shape.channels)),
          outs_grad(s.take(kQueries * shape.channels)),
          queries_grad(s.take(kQueries * shape.channels)),
          weights(s.take(kQueries * shape.columns)),
          logits_grad(s.take(kQueries * shape.columns)) {}
  };
};

template <class T, template <class> class Pass>
int64_t scratch_of(int64_t length, int64_t width) {
  Scratch<T> scratch(nullptr);
  typename Pass<T>::Parts(scratch, Shape<T>(length, width));
  return scratch.used();
}

// The heads of a position are neighbours in memory: one task takes all heads of a group, or a
// single head where there is but one group to share out.
template <class T>
int64_t heads_of_task(const AttentionArgs<T>& args) {
  return args.groups > 1 ? args.heads : 1;
}

template <class T>
void forward(const AttentionForwardArgs<T>& args) {
  const int64_t size = scratch_of<T, Forward>(args.length, args.width);
  const int64_t heads = heads_of_task(args), parts = args.heads / heads;
  parallel(args.batch * args.groups * parts, [&](int64_t task, int worker) {
    const int64_t group = task / parts, first = task % parts * heads;
    for (int64_t h = first; h < first + heads; ++h) {
      Forward<T>{args}(group / args.groups, h, group % args.groups, args.scratch + worker * size);
    }
  });
}

template <class T>
void backward(const AttentionBackwardArgs<T>& args) {
  const int64_t size = scratch_of<T, Backward>(args.length, args.width);
  const int64_t heads = heads_of_task(args), parts = args.heads / heads;
  parallel(args.batch * args.slices * parts, [&](int64_t task, int worker) {
    const int64_t slice = task / parts % args.slices, b = task / parts / args.slices;
    const int64_t first = task % parts * heads;
    for (int64_t g = slice; g < args.groups; g += args.slices) {
      for (int64_t h = first; h < first + heads; ++h) {
        const int64_t matrix = (slice * args.batch + b) * args.heads + h;
        Backward<T>{args}(b, h, g, args.bias_grad + matrix * args.length * args.length,
                          args.scratch + worker * size);
      }
    }
  });
}

}  // namespace
}  // namespace RIBO_ISA

template <>
int64_t attention_forward_scratch<Isa::RIBO_ISA, float>(int64_t length, int64_t width) {
  return RIBO_ISA::scratch_of<float, RIBO_ISA::Forward>(length, width);
}
template <>
int64_t attention_forward_scratch<Isa::RIBO_ISA, double>(int64_t length, int64_t width) {
  return RIBO_ISA::scratch_of<double, RIBO_ISA::Forward>(length, width);
}
template <>
int64_t attention_backward_scratch<Isa::RIBO_ISA, float>(int64_t length, int64_t width) {
  return RIBO_ISA::scratch_of<float, RIBO_ISA::Backward>(length, width);
}
template <>
int64_t attention_backward_scratch<Isa::RIBO_ISA, double>(int64_t length, int64_t width) {
  return RIBO_ISA::scratch_of<double, RIBO_ISA::Backward>(length, width);
}
template <>
void attention_forward<Isa::RIBO_ISA, float>(const AttentionForwardArgs<float>& args) {
  RIBO_ISA::forward(args);
}
template <>
void attention_forward<Isa::RIBO_ISA, double>(const AttentionForwardArgs<double>& args) {
  RIBO_ISA::forward(args);
}
template <>
void attention_backward<Isa::RIBO_ISA, float>(const AttentionBackwardArgs<float>& args) {
  RIBO_ISA::backward(args);
}
template <>
void attention_backward<Isa::RIBO_ISA, double>(const AttentionBackwardArgs<double>& args) {
  RIBO_ISA::backward(args);
}

}  // namespace ribo::kernels
