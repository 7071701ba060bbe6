// A trained model on a split, as `ribo-run evaluate` asks for it.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "predict/trained_model.h"
#include "report/evaluation_report.h"

namespace ribo {

/// How trained models are to be judged; the same for one and for several.
struct JudgeOptions {
  EvaluatedData data;
  std::vector<std::string> sets;  // over each run's pipeline
  std::vector<std::filesystem::path> plugin_path;
  std::optional<bool> flip;  // unset = as each run was validated
  std::string device = "auto";
  Resampling resampling;
  /// Told the number of predictions to make, once it is known, then what was done: nothing, where
  /// a floor was scored. What it throws ends everything.
  std::function<void(int64_t sequences)> start = {};
  std::function<void(int64_t sequences, int64_t nucleotides)> advance = {};
};

/// The run's trained model with its metrics and the split to judge it on. Throws as load_trained(),
/// and ConfigError for --set that is none.
TrainedModel load_judged(const std::filesystem::path& path, const JudgeOptions& options);

/// The batches of a validation, as the trainer makes them.
std::unique_ptr<Loader> validation_batches(const TrainedModel& trained, const std::string& split);

/// Ids, lengths and, from a stream `signal_to_noise`, the quality of the split's sequences.
std::vector<ScoredSequence> describe_sequences(const Split& split,
                                               const std::vector<StreamSpec>& specs);

/// Throws Error when no sequence has a measured value of any metric.
void check_measured(const std::vector<MetricRows>& rows, const std::vector<NamedMetric>& metrics,
                    const std::string& split);

/// Scores a run (its best checkpoint, else its last) or a checkpoint in one. The value of each
/// metric is what a validation of the training logged for that checkpoint. Floors come from the
/// run's floors.json, else from its training data, else the report says why there are none.
EvaluationReport evaluate_run(const std::filesystem::path& path, const JudgeOptions& options);

}  // namespace ribo
