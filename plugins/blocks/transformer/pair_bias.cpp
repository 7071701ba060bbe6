#include "pair_bias.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace ribo::blocks {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor compute(const at::Tensor& pair, const at::Tensor& norm_weight,
                   const at::Tensor& norm_bias, const at::Tensor& weight) {
  const at::Tensor x = at::layer_norm(pair.to(norm_weight.scalar_type()), {pair.size(-1)},
                                      norm_weight, norm_bias, 1e-5);
  return at::linear(x, weight).permute({0, 3, 1, 2});
}

struct PairBias : torch::autograd::Function<PairBias> {
  // An undefined tensor may only come as an optional one.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& pair,
                            const at::Tensor& norm_weight,
                            const std::optional<at::Tensor>& norm_bias, const at::Tensor& weight) {
    const at::Tensor bias = norm_bias.value_or(at::Tensor());
    ctx->save_for_backward({pair, norm_weight, bias, weight});
    return compute(pair, norm_weight, bias, weight);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::AutoGradMode enable(true);
    variable_list inputs;  // copies of the arguments outside the graph
    for (const at::Tensor& x : ctx->get_saved_variables()) {
      inputs.push_back(x.defined() ? x.detach().set_requires_grad(true) : x);
    }
    const at::Tensor y = compute(inputs[0], inputs[1], inputs[2], inputs[3]);
    torch::autograd::backward({y}, {grads[0].to(y.scalar_type())});
    variable_list out;
    for (const at::Tensor& x : inputs) out.push_back(x.defined() ? x.grad() : at::Tensor());
    return out;
  }
};

}  // namespace

at::Tensor pair_bias(const at::Tensor& pair, const at::Tensor& norm_weight,
                     const at::Tensor& norm_bias, const at::Tensor& weight) {
  return PairBias::apply(pair, norm_weight,
                         norm_bias.defined() ? std::optional(norm_bias) : std::nullopt, weight);
}

}  // namespace ribo::blocks
