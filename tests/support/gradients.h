// Gradients of a function of tensors: by autograd and by numerical differences.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <functional>
#include <vector>

namespace ribo::testing {

using TensorFunction = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

struct Derivative {
  at::Tensor value;
  std::vector<at::Tensor> grads;
};

/// f at `inputs`, and the gradients of its product with `cotangent` in those of floating type.
inline Derivative differentiate(const TensorFunction& f, const std::vector<at::Tensor>& inputs,
                                const at::Tensor& cotangent) {
  std::vector<at::Tensor> arguments, leaves;
  for (const at::Tensor& x : inputs) {
    arguments.push_back(x);
    if (!x.defined() || !x.is_floating_point()) continue;
    // Strides and all, so that f sees the layout that the caller chose.
    arguments.back() = x.detach().requires_grad_(true);
    leaves.push_back(arguments.back());
  }
  const at::Tensor value = f(arguments);
  return {value.detach(), torch::autograd::grad({value}, leaves, {cotangent})};
}

/// The same gradients by central differences; for float64 and small inputs.
inline std::vector<at::Tensor> numerical_gradients(const TensorFunction& f,
                                                   const std::vector<at::Tensor>& inputs,
                                                   const at::Tensor& cotangent,
                                                   double step = 1e-6) {
  std::vector<at::Tensor> grads;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined() || !inputs[i].is_floating_point()) continue;
    std::vector<at::Tensor> x = inputs;
    x[i] = inputs[i].contiguous().clone();
    at::Tensor grad = at::empty_like(x[i]);
    for (int64_t j = 0; j < grad.numel(); ++j) {
      const auto value = [&](double change) {
        at::Tensor element = x[i].view(-1)[j];
        const at::Tensor before = element.clone();
        element += change;
        const double result = (f(x) * cotangent).sum().item<double>();
        element.copy_(before);
        return result;
      };
      grad.view(-1)[j] = (value(step) - value(-step)) / (2 * step);
    }
    grads.push_back(grad);
  }
  return grads;
}

/// Largest absolute difference, relative to the largest value of `want` or 1; NaN if either has
/// any.
inline double difference(const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor a = got.detach().to(at::kDouble), b = want.detach().to(at::kDouble);
  if (a.numel() == 0) return 0;
  return (a - b).abs().max().item<double>() / std::max(1.0, b.abs().max().item<double>());
}

}  // namespace ribo::testing
