// Optimizers of Adam's kind: two running moments a parameter, and all parameters at once.
#pragma once

#include "train/optimizer.h"

namespace ribo {

/// Keeps what every parameter carries from step to step, and hands to update() the parameters that
/// have a gradient in batches, so that an operator over a whole batch does what would be hundreds
/// of operators: on a GPU a small operator takes longer to start than to run.
class MomentsOptimizer : public Optimizer {
 public:
  void step(double factor) final;
  double learning_rate() const final { return lr_; }
  std::map<std::string, at::Tensor> state() const final;
  void load_state(const std::map<std::string, at::Tensor>& state) final;

 protected:
  struct Moments {
    int64_t step = 0;
    at::Tensor exp_avg, exp_avg_sq, slow;  // slow: only with `slow` of the constructor
  };
  /// Parameters that have the same rate, decay and number of steps, this one included; side by side
  /// with their gradients, which have the parameters' strides, and moments.
  struct Batch {
    double rate = 0;
    bool decays = false;
    int64_t step = 0;
    std::vector<at::Tensor> parameters, gradients, exp_avg, exp_avg_sq, slow;
  };

  MomentsOptimizer(const AdamOptions& options, const Parameters& parameters, bool slow)
      : lr_(options.lr), slow_(slow), parameters_(parameters), moments_(parameters.size()) {
    for (const Parameter& p : parameters) decays_.push_back(decays(p, options.no_decay));
  }

  virtual void update(Batch& batch) = 0;

 private:
  const double lr_;
  const bool slow_;
  const Parameters parameters_;
  std::vector<bool> decays_;
  std::vector<Moments> moments_;
};

}  // namespace ribo
