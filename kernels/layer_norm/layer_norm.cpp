#include "layer_norm/layer_norm.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>

#include "common/check.h"
#include "layer_norm/layer_norm_device.h"

namespace ribo::kernels {
namespace {

constexpr std::string_view kOp = "layer_norm";

#ifdef RIBO_CUDA_VERSION
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct LayerNormOnDevice : torch::autograd::Function<LayerNormOnDevice> {
  // An undefined tensor may only come as an optional one.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& weight,
                            const std::optional<at::Tensor>& bias, double eps) {
    const LayerNormTensors in{x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor()), eps};
    ctx->save_for_backward({in.x, in.weight, in.bias});
    ctx->saved_data["eps"] = eps;
    return layer_norm_forward_on_cuda(in);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    refuse_second_derivative(kOp);
    const variable_list saved = ctx->get_saved_variables();
    variable_list d = layer_norm_backward_on_cuda(
        {saved[0], saved[1], saved[2], ctx->saved_data["eps"].toDouble()}, grads[0]);
    d.emplace_back();  // eps
    return d;
  }
};
#endif

at::Tensor layer_norm_op(const at::Tensor& x, const std::optional<at::Tensor>& weight,
                         const std::optional<at::Tensor>& bias, double eps) {
  expect(x.defined() && x.dim() >= 1 && x.is_floating_point(), kOp, "x", x,
         "a floating type and [..., C]");
  for (const auto& [name, w] : {std::pair("weight", weight), std::pair("bias", bias)}) {
    if (!w) continue;
    expect_shape(kOp, name, *w, {x.size(-1)}, "[C]");
    expect(w->is_floating_point(), kOp, name, *w, "a floating type");
    expect_device(kOp, name, *w, x);
  }
#ifdef RIBO_CUDA_VERSION
  const LayerNormTensors in{x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor()), eps};
  if (layer_norm_fits_cuda(in)) return LayerNormOnDevice::apply(x, weight, bias, eps);
#endif
  const auto typed = [&](const std::optional<at::Tensor>& w) {
    return w ? std::optional(w->to(x.scalar_type())) : w;
  };
  return at::layer_norm(x, {x.size(-1)}, typed(weight), typed(bias), eps);
}

}  // namespace

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::layer_norm", "")
                             .typed<decltype(layer_norm_op)>();
  return op.call(x, optional(weight), optional(bias), eps);
}

void register_layer_norm(torch::Library& m) {
  m.def("layer_norm(Tensor x, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> Tensor",
        &layer_norm_op);
}

}  // namespace ribo::kernels
