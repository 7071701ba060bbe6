#include "outer_product_mean/outer_product_mean_cpu.h"

#include "common/gemm.h"
#include "common/parallel.h"

namespace ribo::kernels {
namespace RIBO_ISA {
namespace {

template <class T>
void zero(T* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = 0;
}

template <class T>
void copy(T* to, const T* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

int64_t padded(int64_t n) {
  return (n + kOuterProductPad - 1) / kOuterProductPad * kOuterProductPad;
}

template <class T>
void forward(const OuterProductForwardArgs<T>& args) {
  const int64_t row = padded(args.channels), matrix = args.length * args.channels;
  const int channels = static_cast<int>(args.channels), width = static_cast<int>(args.width);
  parallel(args.batch * args.length, [&](int64_t task, int) {
    const int64_t sequence = task / args.length, length = args.lengths[sequence];
    T* out = args.out + task * matrix;
    if (task % args.length >= length) return zero(out, matrix);
    const T* residual = args.residual ? args.residual + task * matrix : nullptr;
    gemm(Rows{args.b + sequence * args.length * args.width, args.width},
         InPlace{args.projected + task * args.width * row, row}, out, args.channels,
         static_cast<int>(length), channels, width, /*accumulate=*/false,
         [&](Vec<T> sum, int j, int z) {
           const int there = channels - z < lanes<T> ? channels - z : lanes<T>;
           if (args.bias) sum += load(args.bias + z, there);
           if (residual) sum += load(residual + j * args.channels + z, there);
           return sum;
         });
    zero(out + length * args.channels, matrix - length * args.channels);
  });
}

// to[z] += sum_j from[j, z]
template <class T>
void add_rows(T* to, const T* from, int64_t rows, int64_t row, int64_t n) {
  for (int64_t j = 0; j < rows; ++j, from += row) {
    for (int64_t z = 0; z < n; ++z) to[z] += from[z];
  }
}

template <class T>
struct Backward {
  const OuterProductBackwardArgs<T>& args;
  const int64_t channels = padded(args.channels);
  const int64_t width = padded(args.width);

  void operator()(int64_t sequence, int64_t i, int64_t slice, T* scratch) const {
    const int64_t length = args.lengths[sequence], matrix = args.length * args.channels;
    const int64_t at = sequence * args.length + i;
    T* projected_grad = args.projected_grad + at * args.width * channels;
    const T* given = args.out_grad + at * matrix;
    if (i >= length) {
      zero(projected_grad, args.width * channels);
      if (args.residual_grad) zero(args.residual_grad + at * matrix, matrix);
      return;
    }
    if (args.residual_grad) {
      copy(args.residual_grad + at * matrix, given, length * args.channels);
      zero(args.residual_grad + at * matrix + length * args.channels,
           matrix - length * args.channels);
    }
    const int rows = static_cast<int>(length);
    gemm(Transposed{args.b + sequence * args.length * args.width, args.width},
         readable(given, length, scratch), projected_grad, channels, static_cast<int>(args.width),
         static_cast<int>(args.channels), rows);
    const int64_t part = slice * args.batch + sequence;
    gemm(Rows{given, args.channels}, InPlace{args.projected + at * args.channels * width, width},
         args.b_grad + part * args.length * width, width, rows, static_cast<int>(args.width),
         static_cast<int>(args.channels), /*accumulate=*/true);
    add_rows(args.bias_grad + part * args.channels, given, length, args.channels, args.channels);
  }

  // out_grad[b, i] as it is, or a copy if its rows do not end with a vector.
  InPlace<T> readable(const T* given, int64_t length, T* scratch) const {
    if (args.channels % kColumns<T> == 0) return InPlace{given, args.channels};
    for (int64_t j = 0; j < length; ++j) {
      copy(scratch + j * channels, given + j * args.channels, args.channels);
      zero(scratch + j * channels + args.channels, channels - args.channels);
    }
    return InPlace{scratch, channels};
  }
};

template <class T>
void backward(const OuterProductBackwardArgs<T>& args) {
  const Backward<T> position{args};
  parallel(args.batch * args.slices, [&](int64_t task, int worker) {
    const int64_t slice = task % args.slices;
    for (int64_t i = slice; i < args.length; i += args.slices) {
      position(task / args.slices, i, slice,
               args.scratch + worker * args.length * position.channels);
    }
  });
}

}  // namespace
}  // namespace RIBO_ISA

template <>
void outer_product_forward<Isa::RIBO_ISA, float>(const OuterProductForwardArgs<float>& args) {
  RIBO_ISA::forward(args);
}
template <>
void outer_product_forward<Isa::RIBO_ISA, double>(const OuterProductForwardArgs<double>& args) {
  RIBO_ISA::forward(args);
}
template <>
void outer_product_backward<Isa::RIBO_ISA, float>(const OuterProductBackwardArgs<float>& args) {
  RIBO_ISA::backward(args);
}
template <>
void outer_product_backward<Isa::RIBO_ISA, double>(const OuterProductBackwardArgs<double>& args) {
  RIBO_ISA::backward(args);
}

}  // namespace ribo::kernels
