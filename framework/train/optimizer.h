// Optimizers over named parameters, with a state that can be saved by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ribo/schema.h"

namespace ribo {

struct Parameter {
  std::string name;
  at::Tensor tensor;
  double factor = 1;  // of the learning rate
};
using Parameters = std::vector<Parameter>;

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// One update from the parameters' gradients, at `factor` times the configured rate. A parameter
  /// without a gradient stays as it is.
  virtual void step(double factor) = 0;
  /// The configured rate.
  virtual double learning_rate() const = 0;
  /// Everything that the next step depends on, as "<buffer>.<parameter>" tensors.
  virtual std::map<std::string, at::Tensor> state() const = 0;
  /// Takes back what state() gave. Throws Error when something is missing or has another shape.
  virtual void load_state(const std::map<std::string, at::Tensor>& state) = 0;
};

struct OptimizerFactory {
  std::shared_ptr<const SchemaBase> schema;
  std::function<std::shared_ptr<Optimizer>(const void* options, const Parameters& parameters)> make;
};

/// The optimizers by their `type`: adamw, ranger.
const std::map<std::string, OptimizerFactory, std::less<>>& optimizers();

/// Whether weight decay applies: it pulls towards zero, which means nothing for biases, norms, or
/// the logarithms of Mamba's decay rates. `exempt`: endings of names.
bool decays(const Parameter& parameter, const std::vector<std::string>& exempt);

/// The tensor `key` of a saved state. Throws Error where it is missing or has another shape than
/// `like` (undefined: any).
at::Tensor take_state(const std::map<std::string, at::Tensor>& state, const std::string& key,
                      const at::Tensor& like);

/// What optimizers of Adam's kind are told; each has defaults of its own.
struct AdamOptions {
  double lr = 1e-3;
  double weight_decay;
  std::vector<double> betas;
  double eps;
  std::vector<std::string> no_decay = {"A_log", "A_b_log"};
};

template <class Options>
void add_adam_options(Schema<Options>& s) {
  s.param("lr", &Options::lr, "learning rate before the schedule").range(0, 1);
  s.param("weight_decay", &Options::weight_decay, "decay per step, times lr").range(0, 10);
  s.param("betas", &Options::betas, "decay of the two moments").range(0, 0.999999).size(2, 2);
  s.param("eps", &Options::eps, "added to the denominator").range(1e-16, 1);
  s.param("no_decay", &Options::no_decay, "endings of weight names that don't decay");
}

template <class T>
OptimizerFactory optimizer_factory() {
  using Options = typename T::Options;
  return {std::make_shared<Schema<Options>>(T::schema()),
          [](const void* options, const Parameters& parameters) {
            return std::make_shared<T>(*static_cast<const Options*>(options), parameters);
          }};
}

OptimizerFactory adamw_factory();
OptimizerFactory ranger_factory();

}  // namespace ribo
