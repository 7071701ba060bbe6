#include "bpp_bias.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "../pairing_features.h"

namespace ribo::blocks {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// [B, 2, L * L]
at::Tensor features(const at::Tensor& bpp, at::ScalarType type) {
  return pairing_features(bpp).flatten(2).to(type);
}

struct BppBias : torch::autograd::Function<BppBias> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& bpp, const at::Tensor& weight) {
    ctx->save_for_backward({bpp, weight});
    const int64_t batch = bpp.size(0), length = bpp.size(1);
    return at::bmm(weight.expand({batch, -1, -1}), features(bpp, weight.scalar_type()))
        .view({batch, -1, length, length});
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::ScalarType type = saved[1].scalar_type();
    const at::Tensor x = features(saved[0], type).transpose(1, 2);
    return {at::Tensor(), at::bmm(grads[0].flatten(2).to(type), x).sum(0)};
  }
};

}  // namespace

at::Tensor bpp_bias(const at::Tensor& bpp, const at::Tensor& weight) {
  return BppBias::apply(bpp, weight);
}

}  // namespace ribo::blocks
