#include <ATen/ATen.h>

#include "train/moments.h"

namespace ribo {
namespace {

class AdamW final : public MomentsOptimizer {
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
      : MomentsOptimizer(options, parameters, /*slow=*/false), o_(options) {}

 private:
  void update(Batch& b) override {
    const at::Tensor step =
        at::full({}, static_cast<double>(b.step), b.parameters[0].options().dtype(at::kFloat));
    at::_fused_adamw_(b.parameters, b.gradients, b.exp_avg, b.exp_avg_sq, {},
                      std::vector<at::Tensor>(b.parameters.size(), step), b.rate, o_.betas[0],
                      o_.betas[1], b.decays ? o_.weight_decay : 0, o_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
  }

  const Options o_;
};

}  // namespace

OptimizerFactory adamw_factory() { return optimizer_factory<AdamW>(); }

}  // namespace ribo
