// The `init_from` section of a pipeline: weights to start from, and which of them stay.
#pragma once

#include <string>
#include <vector>

#include "ribo/schema.h"

namespace torch::nn {
class Module;
}

namespace ribo {

struct InitFrom {
  std::string path;
  std::string map;
  bool strict = true;
  std::vector<std::string> skip;
  std::vector<std::string> freeze;
};

Schema<InitFrom> init_from_schema();

/// Copies the weights of `init.path` into the model and logs how many. Where some are missing,
/// surplus or misshapen, it throws one Error that lists them and leaves the model as it is; without
/// `strict` it takes those that fit, at least one, and warns of the others. `section` is the
/// pipeline's, for places. Throws ConfigError for a `skip` that matches no weight.
void load_initial_weights(torch::nn::Module& model, const InitFrom& init, const Value& section);
/// Throws what load_initial_weights() would.
void check_initial_weights(const torch::nn::Module& model, const InitFrom& init,
                           const Value& section);

/// Ends the training of the parameters that `init.freeze` matches. Throws ConfigError for a pattern
/// that matches none, or where nothing is left to train.
void freeze_weights(torch::nn::Module& model, const InitFrom& init, const Value& section);

}  // namespace ribo
