#include "pair_bias/pair_bias.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>

#include "common/autocast.h"
#include "common/check.h"
#include "pair_bias/pair_bias_cpu.h"
#include "pair_bias/pair_bias_device.h"

namespace ribo::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::string_view kOp = "pair_bias";

// The same by LibTorch's operators.
at::Tensor by_aten(const at::Tensor& pair, const at::Tensor& norm_weight,
                   const at::Tensor& norm_bias, const at::Tensor& weight) {
  const at::Tensor x = at::layer_norm(pair.to(norm_weight.scalar_type()), {pair.size(-1)},
                                      norm_weight, norm_bias, kPairBiasEps);
  return at::linear(x, weight).permute({0, 3, 1, 2});
}

variable_list backward_by_aten(const PairBiasTensors& in, const at::Tensor& d_y) {
  const at::AutoGradMode enable(true);
  const auto leaf = [](const at::Tensor& x) {
    return x.defined() ? x.detach().requires_grad_() : x;
  };
  const variable_list leaves = {leaf(in.pair), leaf(in.norm_weight), leaf(in.norm_bias),
                                leaf(in.weight)};
  const at::Tensor y = by_aten(leaves[0], leaves[1], leaves[2], leaves[3]);
  torch::autograd::backward({y}, {d_y.to(y.scalar_type())});
  variable_list out;
  for (const at::Tensor& x : leaves) out.push_back(x.defined() ? x.grad() : at::Tensor());
  return out;
}

bool fits_cpu(const PairBiasTensors& in) {
  return in.pair.is_cpu() && in.weight.size(1) > 0 && in.weight.size(1) % kPairBiasVector == 0;
}

// The arguments in the type that is computed in, contiguous.
template <class T>
struct CpuProblem {
  static constexpr at::ScalarType kType = c10::CppTypeToScalarType<T>::value;
  at::Tensor x, norm_weight, norm_bias, weight, scratch;
  PairBiasArgs<T> args;

  explicit CpuProblem(const PairBiasTensors& in)
      : x(in.pair.to(kType).contiguous()),
        norm_weight(in.norm_weight.to(kType).contiguous()),
        norm_bias(in.norm_bias.defined() ? in.norm_bias.to(kType).contiguous() : in.norm_bias),
        weight(in.weight.to(kType).contiguous()) {
    args.batch = x.size(0);
    args.positions = x.size(1) * x.size(2);
    args.channels = static_cast<int>(weight.size(1));
    args.heads = static_cast<int>(weight.size(0));
    args.x = x.const_data_ptr<T>();
    args.norm_weight = norm_weight.const_data_ptr<T>();
    if (norm_bias.defined()) args.norm_bias = norm_bias.const_data_ptr<T>();
    args.weight = weight.const_data_ptr<T>();
  }

  template <class F>
  void run(F&& f) {
    with_isa([&](auto isa) {
      scratch = at::empty({pair_bias_scratch<isa>(args)}, x.options());
      args.scratch = scratch.mutable_data_ptr<T>();
      f(isa);
    });
  }
};

template <class T>
at::Tensor forward_cpu(const PairBiasTensors& in, at::ScalarType type) {
  CpuProblem<T> p(in);
  const at::Tensor y =
      at::empty({p.x.size(0), p.weight.size(0), p.x.size(1), p.x.size(2)}, p.x.options());
  p.args.y = y.mutable_data_ptr<T>();
  p.run([&](auto isa) { pair_bias_forward<isa>(p.args); });
  return y.to(type);
}

template <class T>
variable_list backward_cpu(const PairBiasTensors& in, const at::Tensor& d_y) {
  CpuProblem<T> p(in);
  const at::Tensor dy = d_y.to(p.kType).contiguous();
  const auto like = [](const at::Tensor& x) { return x.defined() ? at::empty_like(x) : x; };
  variable_list d = {like(p.x), like(p.norm_weight), like(p.norm_bias), like(p.weight)};
  p.args.dy = dy.const_data_ptr<T>();
  p.args.dx = d[0].mutable_data_ptr<T>();
  p.args.d_norm_weight = d[1].mutable_data_ptr<T>();
  if (d[2].defined()) p.args.d_norm_bias = d[2].mutable_data_ptr<T>();
  p.args.d_weight = d[3].mutable_data_ptr<T>();
  p.run([&](auto isa) { pair_bias_backward<isa>(p.args); });
  return d;
}

at::Tensor forward_on_device(const PairBiasTensors& in) {
  const at::ScalarType type = product_type(in.norm_weight);
#ifdef RIBO_CUDA_VERSION
  if (pair_bias_fits_cuda(in, type)) return pair_bias_forward_on_cuda(in, type);
#endif
  if (!fits_cpu(in)) return by_aten(in.pair, in.norm_weight, in.norm_bias, in.weight);
  return type == at::kDouble ? forward_cpu<double>(in, type) : forward_cpu<float>(in, type);
}

variable_list backward_on_device(const PairBiasTensors& in, const at::Tensor& d_y) {
#ifdef RIBO_CUDA_VERSION
  if (pair_bias_fits_cuda(in, d_y.scalar_type())) return pair_bias_backward_on_cuda(in, d_y);
#endif
  if (!fits_cpu(in)) return backward_by_aten(in, d_y);
  return d_y.scalar_type() == at::kDouble ? backward_cpu<double>(in, d_y)
                                          : backward_cpu<float>(in, d_y);
}

struct PairBias : torch::autograd::Function<PairBias> {
  // An undefined tensor may only come as an optional one.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& pair,
                            const at::Tensor& norm_weight,
                            const std::optional<at::Tensor>& norm_bias, const at::Tensor& weight) {
    const PairBiasTensors in{pair, norm_weight, norm_bias.value_or(at::Tensor()), weight};
    ctx->save_for_backward({in.pair, in.norm_weight, in.norm_bias, in.weight});
    return forward_on_device(in);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    refuse_second_derivative(kOp);
    const variable_list saved = ctx->get_saved_variables();
    variable_list d = backward_on_device({saved[0], saved[1], saved[2], saved[3]}, grads[0]);
    for (size_t i = 0; i < d.size(); ++i) {
      if (d[i].defined()) d[i] = d[i].to(saved[i].scalar_type());
    }
    return d;
  }
};

at::Tensor pair_bias_op(const at::Tensor& pair, const at::Tensor& norm_weight,
                        const std::optional<at::Tensor>& norm_bias, const at::Tensor& weight) {
  expect_shape(kOp, "pair", pair, {-1, -1, -1, -1}, "[B, L, L, C]");
  expect(pair.size(1) == pair.size(2), kOp, "pair", pair, "[B, L, L, C]");
  const int64_t channels = pair.size(3);
  expect_shape(kOp, "norm_weight", norm_weight, {channels}, "[C]");
  if (norm_bias) expect_shape(kOp, "norm_bias", *norm_bias, {channels}, "[C]");
  expect_shape(kOp, "weight", weight, {-1, channels}, "[heads, C]");
  const auto check = [&](const char* name, const at::Tensor& x) {
    expect(x.is_floating_point(), kOp, name, x, "a floating type");
    expect_device(kOp, name, x, pair);
  };
  check("pair", pair);
  check("norm_weight", norm_weight);
  if (norm_bias) check("norm_bias", *norm_bias);
  check("weight", weight);
  return PairBias::apply(pair, norm_weight, norm_bias, weight);
}

}  // namespace

at::Tensor pair_bias(const at::Tensor& pair, const at::Tensor& norm_weight,
                     const at::Tensor& norm_bias, const at::Tensor& weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::pair_bias", "")
                             .typed<decltype(pair_bias_op)>();
  return op.call(pair, norm_weight, optional(norm_bias), weight);
}

void register_pair_bias(torch::Library& m) {
  m.def("pair_bias(Tensor pair, Tensor norm_weight, Tensor? norm_bias, Tensor weight) -> Tensor",
        &pair_bias_op);
}

}  // namespace ribo::kernels
