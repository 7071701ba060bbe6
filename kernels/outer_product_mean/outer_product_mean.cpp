#include "outer_product_mean/outer_product_mean.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "common/autocast.h"
#include "common/check.h"
#include "common/lengths.h"
#include "common/parallel.h"
#include "outer_product_mean/outer_product_mean_aten.h"
#include "outer_product_mean/outer_product_mean_cpu.h"
#include "outer_product_mean/outer_product_mean_device.h"

namespace ribo::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::string_view kOp = "outer_product_mean";

// Tasks of the backward pass: enough for every core, and the same whatever their number. Each keeps
// a sum of b's gradient.
constexpr int64_t kTasks = 32;

int64_t padded(int64_t n) {
  return (n + kOuterProductPad - 1) / kOuterProductPad * kOuterProductPad;
}

// The arguments in the type that is computed in, contiguous, without padding.
template <class T>
struct CpuProblem {
  static constexpr at::ScalarType kType = c10::CppTypeToScalarType<T>::value;
  int64_t batch, length, width, channels;
  at::Tensor a, b, weight, lengths;  // weight [C, K, K]
  bool ragged;

  explicit CpuProblem(const OuterProductTensors& in)
      : batch(in.a.size(0)),
        length(in.a.size(1)),
        width(in.a.size(2)),
        channels(in.weight.size(0)),
        a(in.a.to(kType).contiguous()),
        b(in.b.to(kType).contiguous()),
        weight(in.weight.to(kType).contiguous().view({channels, width, width})),
        lengths(in.lengths),
        ragged(lengths.lt(length).any().item<bool>()) {
    if (!ragged) return;
    a = a.masked_fill(inside(lengths, length, at::kCPU).logical_not().unsqueeze(2), 0);
  }

  // [B, L, rows, padded columns]: sum_d weight[r, c, d] a[i, d] for weight [rows, columns, K]
  at::Tensor project(const at::Tensor& weight) const {
    const int64_t rows = weight.size(0), columns = weight.size(1);
    const at::Tensor wide =
        at::constant_pad_nd(weight, {0, 0, 0, padded(columns) - columns}).contiguous();
    return at::mm(a.view({batch * length, width}), wide.view({-1, width}).t())
        .view({batch, length, rows, padded(columns)});
  }

  template <class Args>
  void fill(Args& args, const at::Tensor& projected) const {
    args.batch = batch;
    args.length = length;
    args.width = width;
    args.channels = channels;
    args.lengths = lengths.const_data_ptr<int64_t>();
    args.b = b.const_data_ptr<T>();
    args.projected = projected.const_data_ptr<T>();
  }
};

template <class T>
at::Tensor forward_cpu(const OuterProductTensors& in) {
  const CpuProblem<T> p(in);
  const auto prepared = [&](const at::Tensor& x) {
    return x.defined() ? x.to(p.kType).contiguous() : x;
  };
  const at::Tensor bias = prepared(in.bias), residual = prepared(in.residual);
  const at::Tensor projected = p.project(p.weight.transpose(0, 1));
  const at::Tensor out = at::empty({p.batch, p.length, p.length, p.channels}, p.a.options());
  OuterProductForwardArgs<T> args;
  p.fill(args, projected);
  args.bias = bias.defined() ? bias.template const_data_ptr<T>() : nullptr;
  args.residual = residual.defined() ? residual.template const_data_ptr<T>() : nullptr;
  args.out = out.template data_ptr<T>();
  with_isa(in.bf16, [&](auto isa) { outer_product_forward<isa, T>(args); });
  return out.to((in.residual.defined() ? in.residual : in.a).scalar_type());
}

template <class T>
OuterProductGrads backward_cpu(const OuterProductTensors& in, const at::Tensor& out_grad_given) {
  const CpuProblem<T> p(in);
  const at::Tensor out_grad = out_grad_given.to(p.kType).contiguous();
  const auto options = p.a.options();
  const int64_t slices = std::clamp<int64_t>(kTasks / std::max<int64_t>(1, p.batch), 1,
                                             std::max<int64_t>(1, p.length));
  const at::Tensor projected = p.project(p.weight);
  const at::Tensor projected_grad =
      at::empty({p.batch, p.length, p.width, padded(p.channels)}, options);
  const at::Tensor b_grads = at::zeros({slices, p.batch, p.length, padded(p.width)}, options);
  const at::Tensor bias_grads = at::zeros({slices * p.batch, p.channels}, options);
  const at::Tensor scratch = at::empty({workers() * p.length * padded(p.channels)}, options);
  OuterProductGrads grads;
  grads.residual = p.ragged ? at::empty_like(out_grad) : out_grad;

  OuterProductBackwardArgs<T> args;
  p.fill(args, projected);
  args.out_grad = out_grad.const_data_ptr<T>();
  args.projected_grad = projected_grad.template data_ptr<T>();
  args.residual_grad = p.ragged ? grads.residual.template data_ptr<T>() : nullptr;
  args.slices = slices;
  args.b_grad = b_grads.template data_ptr<T>();
  args.bias_grad = bias_grads.template data_ptr<T>();
  args.scratch = scratch.template data_ptr<T>();
  with_isa(in.bf16, [&](auto isa) { outer_product_backward<isa, T>(args); });

  // In a fixed order, so that the sums are always the same.
  grads.b = b_grads[0];
  for (int64_t s = 1; s < slices; ++s) grads.b.add_(b_grads[s]);
  grads.b = grads.b.narrow(2, 0, p.width);
  grads.bias = at::zeros({p.channels}, options);
  for (int64_t s = 0; s < slices * p.batch; ++s) grads.bias.add_(bias_grads[s]);
  const at::Tensor by_position =
      projected_grad.narrow(3, 0, p.channels).reshape({p.batch * p.length, p.width * p.channels});
  const at::Tensor swapped = p.weight.transpose(0, 1).reshape({p.width * p.channels, p.width});
  grads.a = at::mm(by_position, swapped).view(in.a.sizes());
  grads.weight = at::mm(by_position.t(), p.a.view({p.batch * p.length, p.width}))
                     .view({p.width, p.channels, p.width})
                     .transpose(0, 1)
                     .reshape({p.channels, p.width * p.width});
  return grads;
}

at::Tensor forward_on_device(const OuterProductTensors& in) {
#ifdef RIBO_CUDA_VERSION
  if (outer_product_fits_cuda(in, (in.residual.defined() ? in.residual : in.a).scalar_type())) {
    return outer_product_forward_on_cuda(in);
  }
#endif
  if (!in.a.is_cpu()) return outer_product_forward_aten(in);
  return in.a.scalar_type() == at::kDouble ? forward_cpu<double>(in) : forward_cpu<float>(in);
}

OuterProductGrads backward_on_device(const OuterProductTensors& in, const at::Tensor& out_grad) {
#ifdef RIBO_CUDA_VERSION
  if (outer_product_fits_cuda(in, out_grad.scalar_type())) {
    return outer_product_backward_on_cuda(in, out_grad);
  }
#endif
  if (!in.a.is_cpu()) return outer_product_backward_aten(in, out_grad);
  return in.a.scalar_type() == at::kDouble ? backward_cpu<double>(in, out_grad)
                                           : backward_cpu<float>(in, out_grad);
}

struct OuterProductMean : torch::autograd::Function<OuterProductMean> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& a, const at::Tensor& b,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& residual,
                            const std::optional<at::Tensor>& given, bool bf16) {
    const at::Tensor lengths = given.value_or(at::Tensor());
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    // The residual's values have no part in any gradient.
    ctx->save_for_backward({a, b, weight, lengths});
    ctx->saved_data["bf16"] = bf16;
    if (bias) ctx->saved_data["bias"] = bias->scalar_type();
    if (residual) ctx->saved_data["residual"] = residual->scalar_type();
    const OuterProductTensors in{
        a, b, weight, bias.value_or(at::Tensor()), residual.value_or(at::Tensor()), lengths, bf16};
    return forward_on_device(in);
  }

  static variable_list backward(AutogradContext* ctx, variable_list out_grads) {
    refuse_second_derivative(kOp);
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = ctx->get_saved_variables();
    const OuterProductTensors in{
        saved[0], saved[1], saved[2], {}, {}, saved[3], ctx->saved_data["bf16"].toBool()};
    const OuterProductGrads grads = backward_on_device(in, out_grads[0]);
    const auto optional = [&](const char* name, const at::Tensor& grad) {
      const auto type = ctx->saved_data.find(name);
      return type == ctx->saved_data.end() ? at::Tensor() : grad.to(type->second.toScalarType());
    };
    return {grads.a.to(in.a.scalar_type()),
            grads.b.to(in.b.scalar_type()),
            grads.weight.to(in.weight.scalar_type()),
            optional("bias", grads.bias),
            optional("residual", grads.residual),
            {},
            {}};
  }
};

at::Tensor outer_product_mean_op(const at::Tensor& a, const at::Tensor& b, const at::Tensor& weight,
                                 const std::optional<at::Tensor>& bias,
                                 const std::optional<at::Tensor>& residual,
                                 const std::optional<at::Tensor>& lengths) {
  expect_shape(kOp, "a", a, {-1, -1, -1}, "[B, L, K]");
  const int64_t batch = a.size(0), length = a.size(1), width = a.size(2);
  expect_shape(kOp, "b", b, a.sizes(), "[B, L, K]");
  expect_shape(kOp, "weight", weight, {-1, width * width}, "[C, K K]");
  const int64_t channels = weight.size(0);
  if (bias) expect_shape(kOp, "bias", *bias, {channels}, "[C]");
  if (residual) {
    expect_shape(kOp, "residual", *residual, {batch, length, length, channels}, "[B, L, L, C]");
  }
  const auto check = [&](const char* name, const at::Tensor& x) {
    expect(x.is_floating_point(), kOp, name, x, "a floating type");
    expect_device(kOp, name, x, a);
  };
  check("a", a);
  check("b", b);
  check("weight", weight);
  if (bias) check("bias", *bias);
  if (residual) check("residual", *residual);
  at::Tensor ends = lengths.value_or(at::Tensor());
  if (a.is_cpu()) {
    ends = lengths_on_cpu(kOp, ends, batch, length);
  } else {
    expect_lengths(kOp, ends, batch);
  }
  return OuterProductMean::apply(a, b, weight, bias, residual, optional(ends), rounds_products(a));
}

}  // namespace

at::Tensor outer_product_mean(const at::Tensor& a, const at::Tensor& b, const at::Tensor& weight,
                              const at::Tensor& bias, const at::Tensor& residual,
                              const at::Tensor& lengths) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::outer_product_mean", "")
                             .typed<decltype(outer_product_mean_op)>();
  return op.call(a, b, weight, optional(bias), optional(residual), optional(lengths));
}

void register_outer_product_mean(torch::Library& m) {
  m.def(
      "outer_product_mean(Tensor a, Tensor b, Tensor weight, Tensor? bias=None, "
      "Tensor? residual=None, Tensor? lengths=None) -> Tensor",
      &outer_product_mean_op);
}

}  // namespace ribo::kernels
