#include "train/optimizer.h"

#include <torch/optim/adamw.h>

namespace ribo {
namespace {

// Weight decay pulls towards zero, which means nothing for biases, norms, or the logarithms of
// Mamba's decay rates.
bool decays(const std::string& name, const at::Tensor& tensor,
            const std::vector<std::string>& exempt) {
  if (tensor.dim() < 2) return false;
  for (const std::string& ending : exempt) {
    if (name.ends_with(ending)) return false;
  }
  return true;
}

class AdamW final : public Optimizer {
 public:
  struct Options {
    double lr = 1e-3;
    double weight_decay = 0.01;
    std::vector<double> betas = {0.9, 0.999};
    double eps = 1e-8;
    std::vector<std::string> no_decay = {"A_log", "A_b_log"};
  };
  static Schema<Options> schema() {
    Schema<Options> s(
        "Adam with decoupled weight decay (Loshchilov & Hutter 2019). Vectors never decay.");
    s.param("lr", &Options::lr, "learning rate before the schedule").range(0, 1);
    s.param("weight_decay", &Options::weight_decay, "decay per step, times lr").range(0, 10);
    s.param("betas", &Options::betas, "decay of the two moments").range(0, 0.999999).size(2, 2);
    s.param("eps", &Options::eps, "added to the denominator").range(1e-16, 1);
    s.param("no_decay", &Options::no_decay, "endings of weight names that don't decay");
    return s;
  }

  AdamW(const Options& options, const NamedTensors& parameters)
      : lr_(options.lr), parameters_(parameters) {
    std::vector<at::Tensor> decay, rest;
    for (const auto& [name, p] : parameters) {
      (decays(name, p, options.no_decay) ? decay : rest).push_back(p);
    }
    torch::optim::AdamWOptions base(options.lr);
    base.betas({options.betas[0], options.betas[1]}).eps(options.eps);
    std::vector<torch::optim::OptimizerParamGroup> groups;
    const auto add = [&](std::vector<at::Tensor>& tensors, double weight_decay) {
      auto o = base;
      o.weight_decay(weight_decay);
      groups.emplace_back(std::move(tensors), std::make_unique<torch::optim::AdamWOptions>(o));
    };
    add(decay, options.weight_decay);
    add(rest, 0);
    optimizer_ = std::make_unique<torch::optim::AdamW>(std::move(groups), base);
  }

  void step(double factor) override {
    for (auto& group : optimizer_->param_groups()) group.options().set_lr(lr_ * factor);
    optimizer_->step();
  }
  double learning_rate() const override { return lr_; }

  std::map<std::string, at::Tensor> state() const override {
    std::map<std::string, at::Tensor> out;
    for (const auto& [name, p] : parameters_) {
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
    const auto take = [&](const std::string& key, const at::Tensor& like) {
      const auto it = state.find(key);
      if (it == state.end()) throw Error("the optimizer's state lacks " + key);
      if (like.defined() && it->second.sizes() != like.sizes()) {
        throw Error("the optimizer's state has another shape for " + key);
      }
      return it->second;
    };
    for (const auto& [name, p] : parameters_) {
      if (!state.contains("step." + name)) continue;
      auto s = std::make_unique<torch::optim::AdamWParamState>();
      s->step(take("step." + name, {}).item<int64_t>());
      s->exp_avg(take("exp_avg." + name, p).to(p.device()).clone());
      s->exp_avg_sq(take("exp_avg_sq." + name, p).to(p.device()).clone());
      optimizer_->state()[p.unsafeGetTensorImpl()] = std::move(s);
    }
  }

 private:
  double lr_;
  NamedTensors parameters_;
  std::unique_ptr<torch::optim::AdamW> optimizer_;
};

template <class T>
OptimizerFactory factory() {
  using Options = typename T::Options;
  return {std::make_shared<Schema<Options>>(T::schema()),
          [](const void* o, const NamedTensors& parameters) {
            return std::make_shared<T>(*static_cast<const Options*>(o), parameters);
          }};
}

}  // namespace

const std::map<std::string, OptimizerFactory, std::less<>>& optimizers() {
  static const std::map<std::string, OptimizerFactory, std::less<>> all = {
      {"adamw", factory<AdamW>()}};
  return all;
}

}  // namespace ribo
