// Small pieces that several blocks share.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/init.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>

#include <string>
#include <string_view>
#include <vector>

namespace ribo::blocks {

using Activation = at::Tensor (*)(const at::Tensor&);

inline const std::vector<std::string>& activation_names() {
  static const std::vector<std::string> names = {"gelu", "relu", "silu", "none"};
  return names;
}

/// The function of one of activation_names().
inline Activation activation(std::string_view name) {
  if (name == "gelu") return [](const at::Tensor& x) { return at::gelu(x); };
  if (name == "relu") return [](const at::Tensor& x) { return at::relu(x); };
  if (name == "silu") return [](const at::Tensor& x) { return at::silu(x); };
  return [](const at::Tensor& x) { return x; };
}

inline const std::vector<std::string>& norm_names() {
  static const std::vector<std::string> names = {"layer", "rms", "none"};
  return names;
}

inline torch::nn::Linear without_bias(int64_t from, int64_t to) {
  return torch::nn::Linear(torch::nn::LinearOptions(from, to).bias(false));
}

/// Normalises the last dimension, in the type of its own weights: `layer` has weight and bias,
/// `rms` (arXiv:1910.07467) a weight, `none` passes its input on.
class Norm final : public torch::nn::Module {
 public:
  /// with_bias = false leaves out the bias of `layer`.
  Norm(std::string_view kind, int64_t width, double eps = 1e-5, bool with_bias = true)
      : width_(width), eps_(eps), layer_(kind == "layer") {
    if (kind == "none") return;
    weight_ = register_parameter("weight", at::ones({width}));
    if (layer_ && with_bias) bias_ = register_parameter("bias", at::zeros({width}));
  }

  at::Tensor forward(const at::Tensor& x) const {
    if (!weight_.defined()) return x;
    const at::Tensor y = x.to(weight_.scalar_type());
    return layer_ ? at::layer_norm(y, {width_}, weight_, bias_, eps_)
                  : at::rms_norm(y, {width_}, weight_, eps_);
  }

  /// Undefined where the kind has none: for kernels that do the norm themselves.
  const at::Tensor& weight() const { return weight_; }
  const at::Tensor& bias() const { return bias_; }

 private:
  const int64_t width_;
  const double eps_;
  const bool layer_;
  at::Tensor weight_, bias_;
};

}  // namespace ribo::blocks
