#include "weights/fit.h"

#include <torch/nn/module.h>

namespace ribo {
namespace {

// Empty where `given` can be copied into `own`.
std::string misfit(const std::string& name, const at::Tensor& own, const at::Tensor& given) {
  if (given.sizes() != own.sizes()) {
    return cat(name, ": shape ", given.sizes(), " instead of ", own.sizes());
  }
  if (given.is_floating_point() == own.is_floating_point()) return "";
  return cat(name, ": ", c10::toString(given.scalar_type()), " instead of ",
             c10::toString(own.scalar_type()));
}

}  // namespace

void Misfits::append(const Misfits& more) {
  missing.insert(missing.end(), more.missing.begin(), more.missing.end());
  surplus.insert(surplus.end(), more.surplus.begin(), more.surplus.end());
  misshapen.insert(misshapen.end(), more.misshapen.begin(), more.misshapen.end());
}

std::string Misfits::str(const std::string& of_surplus) const {
  std::string out;
  for (const std::string& name : missing) out += "\n  missing: " + name;
  for (const std::string& name : misshapen) out += "\n  " + name;
  for (const std::string& name : surplus) out += cat("\n  ", of_surplus, ": ", name);
  return out;
}

Tensors named_weights(const torch::nn::Module& model) {
  Tensors out;
  for (const auto& item : model.named_parameters()) out[item.key()] = item.value().detach();
  for (const auto& item : model.named_buffers()) out[item.key()] = item.value().detach();
  return out;
}

Misfits compare_weights(const Tensors& own, const Tensors& given) {
  Misfits out;
  for (const auto& [name, tensor] : own) {
    const auto it = given.find(name);
    if (it == given.end()) {
      out.missing.push_back(name);
    } else if (std::string wrong = misfit(name, tensor, it->second); !wrong.empty()) {
      out.misshapen.push_back(std::move(wrong));
    }
  }
  for (const auto& [name, tensor] : given) {
    if (!own.contains(name)) out.surplus.push_back(name);
  }
  return out;
}

void load_weights(torch::nn::Module& model, const Tensors& weights) {
  const Tensors own = named_weights(model);
  const Misfits misfits = compare_weights(own, weights);
  if (!misfits.empty()) throw Error("these weights are of another model:" + misfits.str());
  copy_fitting_weights(own, weights);
}

void copy_fitting_weights(const Tensors& own, const Tensors& given) {
  at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : own) {
    const auto it = given.find(name);
    if (it != given.end() && misfit(name, tensor, it->second).empty()) tensor.copy_(it->second);
  }
}

}  // namespace ribo
