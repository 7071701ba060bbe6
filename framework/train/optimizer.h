// Optimizers over named parameters, with a state that can be saved by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ribo/schema.h"

namespace ribo {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

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
  std::function<std::shared_ptr<Optimizer>(const void* options, const NamedTensors& parameters)>
      make;
};

/// The optimizers by their `type`: adamw.
const std::map<std::string, OptimizerFactory, std::less<>>& optimizers();

}  // namespace ribo
