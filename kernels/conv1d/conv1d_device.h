// What a device does for conv1d.cpp, which has checked the arguments.
#pragma once

#include <ATen/core/Tensor.h>

#include "conv1d/conv1d_args.h"

namespace ribo::kernels {

struct Conv1dInputs {
  at::Tensor x;       // [B, L, C] with channels side by side, in the type that it is read in
  at::Tensor weight;  // [K, C], in the type that is computed in
  at::Tensor bias;    // [C] in that type, or undefined
  at::Tensor lengths;
  int64_t before;
  bool silu;

  int64_t width() const { return weight.size(0); }
};

/// What both passes take; Io and T must be x's and weight's type.
template <class Io, class T>
Conv1dArgs<Io, T> conv1d_args(const Conv1dInputs& in) {
  Conv1dArgs<Io, T> args{};
  args.batch = in.x.size(0);
  args.length = in.x.size(1);
  args.channels = in.x.size(2);
  args.width = in.width();
  args.before = in.before;
  args.silu = in.silu;
  args.lengths = in.lengths.defined() ? in.lengths.const_data_ptr<int64_t>() : nullptr;
  args.weight = in.weight.const_data_ptr<T>();
  args.bias = in.bias.defined() ? in.bias.const_data_ptr<T>() : nullptr;
  args.x = static_cast<const Io*>(in.x.const_data_ptr());
  args.x_batch = in.x.stride(0);
  args.x_row = in.x.stride(1);
  return args;
}

/// dy has channels side by side.
template <class Io, class T>
void set_gradients(Conv1dArgs<Io, T>& args, const at::Tensor& dy, const at::Tensor& dx,
                   const at::Tensor& sums) {
  args.dy = static_cast<const Io*>(dy.const_data_ptr());
  args.dy_batch = dy.stride(0);
  args.dy_row = dy.stride(1);
  args.dx = static_cast<Io*>(dx.mutable_data_ptr());
  args.sums = sums.mutable_data_ptr<T>();
}

#ifdef RIBO_CUDA_VERSION
void conv1d_forward_on_cuda(const Conv1dInputs& in, const at::Tensor& y);
void conv1d_backward_on_cuda(const Conv1dInputs& in, const at::Tensor& dy, const at::Tensor& dx,
                             const at::Tensor& sums);
#endif

}  // namespace ribo::kernels
