#include "train/optimizer.h"

namespace ribo {

const std::map<std::string, OptimizerFactory, std::less<>>& optimizers() {
  static const std::map<std::string, OptimizerFactory, std::less<>> all = {
      {"adamw", adamw_factory()}, {"ranger", ranger_factory()}};
  return all;
}

bool decays(const Parameter& parameter, const std::vector<std::string>& exempt) {
  if (parameter.tensor.dim() < 2) return false;
  for (const std::string& ending : exempt) {
    if (parameter.name.ends_with(ending)) return false;
  }
  return true;
}

at::Tensor take_state(const std::map<std::string, at::Tensor>& state, const std::string& key,
                      const at::Tensor& like) {
  const auto it = state.find(key);
  if (it == state.end()) throw Error("the optimizer's state lacks " + key);
  if (like.defined() && it->second.sizes() != like.sizes()) {
    throw Error("the optimizer's state has another shape for " + key);
  }
  return it->second;
}

}  // namespace ribo
