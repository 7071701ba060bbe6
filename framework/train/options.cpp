#include "train/options.h"

namespace ribo {

Schema<TrainOptions> train_schema() {
  using O = TrainOptions;
  Schema<O> s("How the model is trained.");
  s.param("duration", &O::duration, "length of the run: updates (2000u) or epochs (10e)");
  s.param("time_limit", &O::time_limit,
          "stop after this much training time (30m), wherever the schedule is; auto = never");
  s.param("batch", &O::batch, "sequences in one update, over all accumulation steps and processes")
      .range(1, 1e6);
  s.param("accumulate", &O::accumulate, "forward and backward passes that share one update")
      .range(1, 1024);
  s.param("valid_batch", &O::valid_batch, "sequences in one validation batch").range(1, 1e6);
  s.param("flip_average", &O::flip_average,
          "predict as the mean over both directions of the sequence, for models trained with the "
          "data source's flip");
  s.param("bucket", &O::bucket, "put sequences of similar length into one batch");
  s.param("optimizer", &O::optimizer, "{type: adamw, lr: 1e-3, ...}").required();
  s.param("learning_rates", &O::learning_rates,
          "factors of the optimizer's lr by patterns of weight names: {\"blocks.0.*\": 0.1}; a "
          "weight that several patterns match gets their product");
  s.param("schedule", &O::schedule, "{type: cosine, warmup: 100u, ...}").required();
  s.param("clip", &O::clip, "largest global norm of the gradient; 0 = no clipping").range(0, 1e6);
  s.param("ema", &O::ema, "decay of the averaged weights that validation uses; 0 = none")
      .range(0, 0.99999);
  s.param("precision", &O::precision, "type of matrix products (bf16 = autocast)")
      .choices({"float32", "bf16"});
  s.param("validate_every", &O::validate_every, "interval between validations (1e, 500u)");
  s.param("checkpoint_every", &O::checkpoint_every,
          "interval between `last` checkpoints (500u, 1e, 10m); auto = at each validation");
  s.param("early_stopping", &O::early_stopping,
          "end after this many validations without a better value; 0 = never")
      .range(0, 1e6);
  s.param("device", &O::device, "cpu, cuda, cuda:1; auto = a GPU where there is one");
  s.param("threads", &O::threads, "CPU threads; auto = one a core").range(1, 1024);
  s.check([](const O& o) -> std::string {
    if (o.duration.unit == Interval::Unit::seconds) {
      return "duration must be updates (2000u) or epochs (10e), so that the schedule is known; "
             "use time_limit for a time";
    }
    if (o.duration.count <= 0) return "duration must be positive";
    if (o.validate_every.unit == Interval::Unit::seconds || o.validate_every.count <= 0) {
      return "validate_every must be a positive number of updates (500u) or epochs (1e)";
    }
    if (o.batch % o.accumulate != 0) return "batch must be a multiple of accumulate";
    return "";
  });
  return s;
}

}  // namespace ribo
