#include "pair_bias/pair_bias.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>

#include "common/autocast.h"
#include "common/check.h"
#include "pair_bias/pair_bias_device.h"

namespace ribo::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::string_view kOp = "pair_bias";

at::Tensor compute(const at::Tensor& pair, const at::Tensor& norm_weight,
                   const at::Tensor& norm_bias, const at::Tensor& weight) {
  const at::Tensor x = at::layer_norm(pair.to(norm_weight.scalar_type()), {pair.size(-1)},
                                      norm_weight, norm_bias, kPairBiasEps);
  return at::linear(x, weight).permute({0, 3, 1, 2});
}

struct PairBias : torch::autograd::Function<PairBias> {
  // An undefined tensor may only come as an optional one.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& pair,
                            const at::Tensor& norm_weight,
                            const std::optional<at::Tensor>& norm_bias, const at::Tensor& weight) {
    const at::Tensor bias = norm_bias.value_or(at::Tensor());
    ctx->save_for_backward({pair, norm_weight, bias, weight});
#ifdef RIBO_CUDA_VERSION
    const PairBiasTensors in{pair, norm_weight, bias, weight};
    if (const auto type = product_type(norm_weight); pair_bias_fits_cuda(in, type)) {
      return pair_bias_forward_on_cuda(in, type);
    }
#endif
    return compute(pair, norm_weight, bias, weight);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    refuse_second_derivative(kOp);
    const variable_list saved = ctx->get_saved_variables();
#ifdef RIBO_CUDA_VERSION
    const PairBiasTensors in{saved[0], saved[1], saved[2], saved[3]};
    if (pair_bias_fits_cuda(in, grads[0].scalar_type())) {
      return pair_bias_backward_on_cuda(in, grads[0]);
    }
#endif
    const at::AutoGradMode enable(true);
    variable_list inputs;  // copies of the arguments outside the graph
    for (const at::Tensor& x : saved) {
      inputs.push_back(x.defined() ? x.detach().set_requires_grad(true) : x);
    }
    const at::Tensor y = compute(inputs[0], inputs[1], inputs[2], inputs[3]);
    torch::autograd::backward({y}, {grads[0].to(y.scalar_type())});
    variable_list out;
    for (const at::Tensor& x : inputs) out.push_back(x.defined() ? x.grad() : at::Tensor());
    return out;
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
  return op.call(pair, norm_weight, norm_bias.defined() ? std::optional(norm_bias) : std::nullopt,
                 weight);
}

void register_pair_bias(torch::Library& m) {
  m.def("pair_bias(Tensor pair, Tensor norm_weight, Tensor? norm_bias, Tensor weight) -> Tensor",
        &pair_bias_op);
}

}  // namespace ribo::kernels
