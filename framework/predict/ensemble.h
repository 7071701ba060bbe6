// Trained models that predict together.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "predict/trained_model.h"

namespace ribo {

/// A stream pred.<x> [B, L, columns] of a model.
struct Output {
  std::string stream;
  std::vector<std::string> targets;  // the columns' names
};

/// Those of the plan's streams that give each residue a value.
std::vector<Output> outputs_of(const Shapes& shapes);

/// `tokens` and `mask` of sequences of A C G U/T N, padded to the longest one.
Streams sequence_batch(const std::vector<std::string>& sequences);

struct EnsembleOptions {
  std::vector<std::filesystem::path> plugin_path;  // as of SessionRequest
  std::string device = "auto";
  std::optional<bool> flip = {};  // unset = each model as it was validated
  /// Open this much of the data source of the first model's run.
  std::optional<EvaluatedData> evaluated = {};
};

class Ensemble {
 public:
  /// Reads trained models (as load_trained()); of several the mean is predicted. Throws Error as
  /// that does, and ConfigError for none, for a model that predicts nothing, and for models of
  /// different targets.
  Ensemble(const std::vector<std::filesystem::path>& trained, const EnsembleOptions& options);

  const std::vector<TrainedModel>& models() const { return models_; }
  /// The names of all columns, of all outputs.
  const std::vector<std::string>& targets() const { return targets_; }
  /// Whether model `i` is asked for the mean over both directions.
  bool flips(size_t i) const;
  /// Throws ConfigError if a model reads more of its data than sequences.
  void check_needs_sequences_alone() const;
  /// [B, L, targets] in float32 on the CPU, of a batch that holds at least tokens and mask.
  at::Tensor predict(const Streams& inputs) const;

 private:
  void add(const std::filesystem::path& path, const EnsembleOptions& options);

  std::vector<TrainedModel> models_;
  std::vector<std::string> targets_;
  std::optional<bool> flip_;
};

}  // namespace ribo
