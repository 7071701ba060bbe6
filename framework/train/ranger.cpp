#include <ATen/ATen.h>

#include <cmath>

#include "train/moments.h"

namespace ribo {
namespace {

class Ranger final : public MomentsOptimizer {
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
      : MomentsOptimizer(options, parameters, /*slow=*/options.lookahead > 0), o_(options) {}

 private:
  void update(Batch& b) override {
    if (o_.centralize) {
      for (at::Tensor& g : b.gradients) {
        if (g.dim() < 2) continue;
        std::vector<int64_t> inputs;
        for (int64_t d = 1; d < g.dim(); ++d) inputs.push_back(d);
        g = g - g.mean(inputs, /*keepdim=*/true);
      }
    }
    const double beta1 = o_.betas[0], beta2 = o_.betas[1], t = static_cast<double>(b.step);
    at::_foreach_lerp_(b.exp_avg, b.gradients, 1 - beta1);
    at::_foreach_mul_(b.exp_avg_sq, beta2);
    at::_foreach_addcmul_(b.exp_avg_sq, b.gradients, b.gradients, 1 - beta2);

    if (b.decays) at::_foreach_mul_(b.parameters, 1 - b.rate * o_.weight_decay);
    const double unbiased = b.rate / (1 - std::pow(beta1, t));
    if (const double rectified = rectification(t); rectified > 0) {
      const std::vector<at::Tensor> roots = at::_foreach_sqrt(b.exp_avg_sq);
      at::_foreach_add_(roots, o_.eps);
      at::_foreach_addcdiv_(b.parameters, b.exp_avg, roots, -unbiased * rectified);
    } else {
      at::_foreach_sub_(b.parameters, b.exp_avg, unbiased);
    }
    if (o_.lookahead > 0 && b.step % o_.lookahead == 0) {
      at::_foreach_lerp_(b.slow, b.parameters, o_.lookahead_alpha);
      at::_foreach_copy_(b.parameters, b.slow);
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
};

}  // namespace

OptimizerFactory ranger_factory() { return optimizer_factory<Ranger>(); }

}  // namespace ribo
