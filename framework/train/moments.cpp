#include "train/moments.h"

#include <ATen/ATen.h>

#include <tuple>

namespace ribo {

void MomentsOptimizer::step(double factor) {
  at::NoGradGuard no_grad;
  std::map<std::tuple<double, bool, int64_t>, Batch> batches;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& parameter = parameters_[i];
    const at::Tensor& p = parameter.tensor;
    at::Tensor g = p.grad();
    if (!g.defined()) continue;
    if (g.strides() != p.strides()) g = at::empty_like(p).copy_(g);
    Moments& m = moments_[i];
    if (m.step == 0) {
      m.exp_avg = at::zeros_like(p);
      m.exp_avg_sq = at::zeros_like(p);
      if (slow_) m.slow = p.detach().clone();
    }
    ++m.step;
    const double rate = lr_ * factor * parameter.factor;
    Batch& batch = batches[{rate, decays_[i], m.step}];
    batch.rate = rate, batch.decays = decays_[i], batch.step = m.step;
    batch.parameters.push_back(p);
    batch.gradients.push_back(g);
    batch.exp_avg.push_back(m.exp_avg);
    batch.exp_avg_sq.push_back(m.exp_avg_sq);
    if (slow_) batch.slow.push_back(m.slow);
  }
  for (auto& [key, batch] : batches) update(batch);
}

std::map<std::string, at::Tensor> MomentsOptimizer::state() const {
  std::map<std::string, at::Tensor> out;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Moments& m = moments_[i];
    if (m.step == 0) continue;  // never had a gradient
    const std::string& name = parameters_[i].name;
    out["exp_avg." + name] = m.exp_avg;
    out["exp_avg_sq." + name] = m.exp_avg_sq;
    out["step." + name] = at::scalar_tensor(m.step, at::kLong);
    if (slow_) out["slow." + name] = m.slow;
  }
  return out;
}

void MomentsOptimizer::load_state(const std::map<std::string, at::Tensor>& state) {
  std::vector<Moments> loaded(parameters_.size());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, p, factor] = parameters_[i];
    if (!state.contains("step." + name)) continue;
    const auto take = [&](const std::string& key) {
      return take_state(state, key + name, p).to(p.device()).clone();
    };
    loaded[i] = {take_state(state, "step." + name, {}).item<int64_t>(), take("exp_avg."),
                 take("exp_avg_sq."), slow_ ? take("slow.") : at::Tensor()};
  }
  moments_ = std::move(loaded);
}

}  // namespace ribo
