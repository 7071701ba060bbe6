// A trained model out of its run directory, ready to predict.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/model.h"
#include "train/session.h"

namespace ribo {

struct TrainedModel {
  std::filesystem::path run;         // the run's directory
  std::filesystem::path checkpoint;  // the checkpoint's folder, links resolved
  std::unique_ptr<Session> session;  // of the run's pipeline.yaml and `sets`, its plan walked
  std::shared_ptr<Model> model;      // in eval mode, on session->device()

  /// Adds the model's streams to a batch, which is moved to its device, in the run's precision;
  /// `flip`: the mean over both directions, unset = as the run was validated. The caller has
  /// gradients off.
  void predict(Streams& streams, std::optional<bool> flip) const;
  bool flips(std::optional<bool> flip) const;
};

struct TrainedModelRequest {
  std::filesystem::path path;  // a run: its checkpoints/best, else last; or one checkpoint in a run
  std::vector<std::string> sets;                   // as of --set, over the run's pipeline
  std::vector<std::filesystem::path> plugin_path;  // as of SessionRequest
  /// Open this much of the data source (after `sets`). Without it the run's streams.json stands for
  /// the data, which may be gone, and the session has no splits, loss and metrics.
  std::optional<EvaluatedData> evaluated = {};
};

/// Reads a trained model after checking its checkpoint's manifest. Throws ConfigError for a path
/// that is no run or no checkpoint in one, and Error for a run without a checkpoint, damage, or
/// weights that are not those of the run's model (each that is missing, surplus or misshapen).
TrainedModel load_trained(const TrainedModelRequest& request);

}  // namespace ribo
