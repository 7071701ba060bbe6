// Weights that come to a model, compared with those that it has.
#pragma once

#include <string>
#include <vector>

#include "train/safetensors.h"

namespace torch::nn {
class Module;
}

namespace ribo {

/// What keeps weights from fitting; names, with what is wrong where a name doesn't tell.
struct Misfits {
  std::vector<std::string> missing, surplus, misshapen;
  bool empty() const { return missing.empty() && surplus.empty() && misshapen.empty(); }
  void append(const Misfits& more);
  /// A line each, every one with a line break in front.
  std::string str(const std::string& of_surplus = "not in this model") const;
};

/// The model's parameters and buffers by name.
Tensors named_weights(const torch::nn::Module& model);

/// Compares names, shapes and kinds of numbers (a float of any size fits a float).
Misfits compare_weights(const Tensors& own, const Tensors& given);

/// Copies tensors into the model. Missing, surplus and misshapen ones make one Error that lists
/// them; the model is then unchanged.
void load_weights(torch::nn::Module& model, const Tensors& weights);

/// Copies those of `given` that fit into the tensors of `own`.
void copy_fitting_weights(const Tensors& own, const Tensors& given);

}  // namespace ribo
