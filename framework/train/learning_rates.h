// The `train.learning_rates` of a pipeline: groups of weights with a rate of their own.
#pragma once

#include "ribo/config.h"
#include "train/optimizer.h"

namespace ribo {

/// Tells `diagnostics` what is wrong with `rates`, a map from patterns to numbers, without a model.
void check_learning_rates(const Value& rates, Diagnostics& diagnostics);

/// Multiplies each parameter's factor by those of the patterns (weights/glob.h) that match its
/// name. `rates` has passed check_learning_rates(). Throws ConfigError for a pattern that matches
/// none.
void apply_learning_rates(const Value& rates, Parameters& parameters);

}  // namespace ribo
