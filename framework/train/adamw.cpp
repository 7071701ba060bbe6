#include <torch/optim/adamw.h>

#include "train/optimizer.h"

namespace ribo {
namespace {

class AdamW final : public Optimizer {
 public:
  struct Options : AdamOptions {
    Options() : AdamOptions{.weight_decay = 0.01, .betas = {0.9, 0.999}, .eps = 1e-8} {}
  };
  static Schema<Options> schema() {
    Schema<Options> s(
        "Adam with decoupled weight decay (Loshchilov & Hutter 2019). Vectors never decay.");
    add_adam_options(s);
    return s;
  }

  AdamW(const Options& options, const Parameters& parameters)
      : lr_(options.lr), parameters_(parameters) {
    // One group for each pair of rate and decay.
    std::map<std::pair<double, bool>, std::vector<at::Tensor>> groups;
    for (const Parameter& p : parameters) {
      groups[{p.factor, decays(p, options.no_decay)}].push_back(p.tensor);
    }
    torch::optim::AdamWOptions base(options.lr);
    base.betas({options.betas[0], options.betas[1]}).eps(options.eps);
    std::vector<torch::optim::OptimizerParamGroup> made;
    for (auto& [kind, tensors] : groups) {
      auto o = base;
      o.weight_decay(kind.second ? options.weight_decay : 0);
      made.emplace_back(std::move(tensors), std::make_unique<torch::optim::AdamWOptions>(o));
      factors_.push_back(kind.first);
    }
    optimizer_ = std::make_unique<torch::optim::AdamW>(std::move(made), base);
  }

  void step(double factor) override {
    auto& groups = optimizer_->param_groups();
    for (size_t g = 0; g < groups.size(); ++g) {
      groups[g].options().set_lr(lr_ * factor * factors_[g]);
    }
    optimizer_->step();
  }
  double learning_rate() const override { return lr_; }

  std::map<std::string, at::Tensor> state() const override {
    std::map<std::string, at::Tensor> out;
    for (const auto& [name, p, factor] : parameters_) {
      const auto it = optimizer_->state().find(p.unsafeGetTensorImpl());
      if (it == optimizer_->state().end()) continue;  // never had a gradient
      const auto& s = static_cast<const torch::optim::AdamWParamState&>(*it->second);
      out["exp_avg." + name] = s.exp_avg();
      out["exp_avg_sq." + name] = s.exp_avg_sq();
      out["step." + name] = at::scalar_tensor(s.step(), at::kLong);
    }
    return out;
  }

  void load_state(const std::map<std::string, at::Tensor>& state) override {
    optimizer_->state().clear();
    for (const auto& [name, p, factor] : parameters_) {
      if (!state.contains("step." + name)) continue;
      auto s = std::make_unique<torch::optim::AdamWParamState>();
      s->step(take_state(state, "step." + name, {}).item<int64_t>());
      s->exp_avg(take_state(state, "exp_avg." + name, p).to(p.device()).clone());
      s->exp_avg_sq(take_state(state, "exp_avg_sq." + name, p).to(p.device()).clone());
      optimizer_->state()[p.unsafeGetTensorImpl()] = std::move(s);
    }
  }

 private:
  double lr_;
  Parameters parameters_;
  std::vector<double> factors_;  // of each group
  std::unique_ptr<torch::optim::AdamW> optimizer_;
};

}  // namespace

OptimizerFactory adamw_factory() { return optimizer_factory<AdamW>(); }

}  // namespace ribo
