// The `train` section of a pipeline.
#pragma once

#include <optional>
#include <string>

#include "ribo/schema.h"

namespace ribo {

struct TrainOptions {
  Interval duration{10, Interval::Unit::epochs};
  std::optional<Interval> time_limit;
  int64_t batch = 32;
  int64_t accumulate = 1;
  int64_t valid_batch = 64;
  bool flip_average = false;
  bool bucket = true;
  Value optimizer;
  Value learning_rates;
  Value schedule;
  double clip = 1.0;
  double ema = 0.0;
  std::string precision = "float32";
  Interval validate_every{1, Interval::Unit::epochs};
  std::optional<Interval> checkpoint_every;
  int64_t early_stopping = 0;
  std::string device = "auto";
  std::optional<int64_t> threads;
};

Schema<TrainOptions> train_schema();

}  // namespace ribo
