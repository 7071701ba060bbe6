#include <ATen/ATen.h>

#include <cmath>

#include "train/optimizer.h"

namespace ribo {
namespace {

// What one parameter carries from step to step.
struct Moments {
  int64_t step = 0;
  at::Tensor exp_avg, exp_avg_sq, slow;
};

class Ranger final : public Optimizer {
 public:
  struct Options : AdamOptions {
    Options() : AdamOptions{.weight_decay = 0, .betas = {0.95, 0.999}, .eps = 1e-5} {}
    int64_t lookahead = 6;
    double lookahead_alpha = 0.5;
    bool centralize = true;
  };
  static Schema<Options> schema() {
    Schema<Options> s(
        "Ranger: RAdam (Liu et al. 2020, arXiv:1908.03265) with Lookahead (Zhang et al. 2019, "
        "arXiv:1907.08610) and gradient centralization (Yong et al. 2020, arXiv:2004.01461), as "
        "RibonanzaNet is trained. Vectors never decay.");
    add_adam_options(s);
    s.param("lookahead", &Options::lookahead,
            "steps between two moves of the slow weights; 0 = no Lookahead")
        .range(0, 1000);
    s.param("lookahead_alpha", &Options::lookahead_alpha,
            "how far the slow weights follow the fast ones, which then start from there")
        .range(0, 1);
    s.param("centralize", &Options::centralize,
            "subtract from each output's gradient its mean over the inputs (matrices and filters)");
    return s;
  }

  Ranger(const Options& options, const Parameters& parameters)
      : o_(options), parameters_(parameters), moments_(parameters.size()) {}

  void step(double factor) override {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      if (parameters_[i].tensor.grad().defined()) update(parameters_[i], moments_[i], factor);
    }
  }

  double learning_rate() const override { return o_.lr; }

  std::map<std::string, at::Tensor> state() const override {
    std::map<std::string, at::Tensor> out;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      const Moments& m = moments_[i];
      if (m.step == 0) continue;  // never had a gradient
      const std::string& name = parameters_[i].name;
      out["exp_avg." + name] = m.exp_avg;
      out["exp_avg_sq." + name] = m.exp_avg_sq;
      out["step." + name] = at::scalar_tensor(m.step, at::kLong);
      if (m.slow.defined()) out["slow." + name] = m.slow;
    }
    return out;
  }

  void load_state(const std::map<std::string, at::Tensor>& state) override {
    std::vector<Moments> loaded(parameters_.size());
    for (size_t i = 0; i < parameters_.size(); ++i) {
      const auto& [name, p, factor] = parameters_[i];
      if (!state.contains("step." + name)) continue;
      const auto take = [&](const std::string& key) {
        return take_state(state, key + name, p).to(p.device()).clone();
      };
      loaded[i] = {take_state(state, "step." + name, {}).item<int64_t>(), take("exp_avg."),
                   take("exp_avg_sq."), o_.lookahead > 0 ? take("slow.") : at::Tensor()};
    }
    moments_ = std::move(loaded);
  }

 private:
  void update(const Parameter& parameter, Moments& m, double factor) const {
    const at::Tensor& p = parameter.tensor;
    if (m.step == 0) {
      m.exp_avg = at::zeros_like(p);
      m.exp_avg_sq = at::zeros_like(p);
      if (o_.lookahead > 0) m.slow = p.detach().clone();
    }
    ++m.step;
    at::Tensor g = p.grad();
    if (o_.centralize && g.dim() > 1) {
      std::vector<int64_t> inputs;
      for (int64_t d = 1; d < g.dim(); ++d) inputs.push_back(d);
      g = g - g.mean(inputs, /*keepdim=*/true);
    }
    const double beta1 = o_.betas[0], beta2 = o_.betas[1], t = static_cast<double>(m.step);
    m.exp_avg.lerp_(g, 1 - beta1);
    m.exp_avg_sq.mul_(beta2).addcmul_(g, g, 1 - beta2);

    const double rate = o_.lr * factor * parameter.factor;
    if (decays(parameter, o_.no_decay)) p.mul_(1 - rate * o_.weight_decay);
    const double unbiased = rate / (1 - std::pow(beta1, t));
    if (const double rectified = rectification(t); rectified > 0) {
      p.addcdiv_(m.exp_avg, m.exp_avg_sq.sqrt().add_(o_.eps), -unbiased * rectified);
    } else {
      p.sub_(m.exp_avg, unbiased);
    }
    if (o_.lookahead > 0 && m.step % o_.lookahead == 0) {
      m.slow.lerp_(p, o_.lookahead_alpha);
      p.copy_(m.slow);
    }
  }

  // RAdam, algorithm 2: the factor that makes up for the adaptive rate's variance, with the second
  // moment's bias correction in it; 0 while too few gradients have been seen for an adaptive rate.
  double rectification(double t) const {
    const double beta2 = o_.betas[1], decayed = std::pow(beta2, t);
    const double longest = 2 / (1 - beta2) - 1;
    const double length = longest - 2 * t * decayed / (1 - decayed);
    if (length <= 5) return 0;
    return std::sqrt((1 - decayed) * (length - 4) * (length - 2) * longest /
                     ((longest - 4) * (longest - 2) * length));
  }

  const Options o_;
  Parameters parameters_;
  std::vector<Moments> moments_;
};

}  // namespace

OptimizerFactory ranger_factory() { return optimizer_factory<Ranger>(); }

}  // namespace ribo
