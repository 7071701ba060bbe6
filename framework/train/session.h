// From a pipeline file to everything that a verb of ribo-run works with.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/pipeline.h"
#include "model/plan.h"
#include "train/evaluated_data.h"
#include "train/floors.h"
#include "train/trainer.h"
#include "weights/initial.h"

namespace ribo {

struct SessionRequest {
  std::string pipeline;                               // path of the YAML file
  std::vector<std::string> sets;                      // of --set
  std::vector<std::filesystem::path> plugin_path;     // of --plugin-path and RIBO_PLUGIN_PATH
  /// To judge a model on one split instead of training it: open() then needs no other one.
  std::optional<EvaluatedData> evaluated = {};
};

class Session {
 public:
  /// Reads the pipeline, loads the plugins and checks every option, without touching any data.
  /// Throws ConfigError holding all problems, or PluginError.
  explicit Session(const SessionRequest& request);

  /// Opens the data source and walks the plan over its streams. Throws Error for bad data and
  /// ConfigError for blocks, losses or metrics that don't fit it.
  void open();

  /// Walks the plan over these streams instead, so that the model can be built without its data;
  /// there are then no splits, loss and metrics. Throws ConfigError for blocks that don't fit.
  void assume(std::vector<StreamSpec> specs);

  // After the constructor:
  /// As it is to be kept in a run: the files of its data are absolute.
  const Pipeline& pipeline() const { return pipeline_; }
  const plugins::Host& host() const { return *host_; }
  const TrainOptions& options() const { return options_; }
  const std::string& name() const { return name_; }
  uint64_t seed() const { return seed_; }
  at::Device device() const;

  // After open() or assume():
  const Plan& plan() const { return plan_; }
  const std::vector<StreamSpec>& specs() const { return specs_; }

  // After open():
  const DataSource& data() const { return *data_; }
  std::shared_ptr<const Split> split(std::string_view name) const;  // throws Error if absent
  const std::shared_ptr<const Loss>& loss() const { return loss_; }
  const std::vector<NamedMetric>& metrics() const { return metrics_; }

  /// Seeds torch's generators, builds the model on `device()`, and the rest of a training but its
  /// name, directory and observers. A run that goes on from a checkpoint has no use for the weights
  /// of `init_from`. After open().
  Training prepare(const Process& process, bool resuming) const;
  /// The floors of the training split. After open().
  FloorTables fit_floors() const;
  /// One metric for each column of each metric that can be had for a column alone, that is, whose
  /// options know `columns`: the same metric of that column. After open().
  std::vector<std::vector<NamedMetric>> metrics_by_column() const;
  /// The model alone, with its generators seeded the same; what `init_from` freezes is frozen, what
  /// it loads is not loaded. After open() or assume().
  std::shared_ptr<Model> build_model() const;
  /// What the optimizer trains of `model`, at the rates of `train.learning_rates`. Throws
  /// ConfigError for a pattern that matches nothing.
  Parameters parameters(const Model& model) const;
  /// Loads the weights of `init_from`, if the pipeline has one. See weights/initial.h.
  void load_initial_weights(Model& model) const;
  /// Throws what prepare() would for the patterns of `train.learning_rates` and, unless `resuming`,
  /// for the weights that `init_from` names. After open().
  void check_weights(bool resuming) const;

 private:
  template <class Product, class Factory, class... Args>
  std::shared_ptr<Product> make(const Chosen<Factory>& chosen, const Args&... args) const;

  Pipeline pipeline_;
  std::optional<EvaluatedData> evaluated_;
  std::unique_ptr<plugins::Host> host_;
  std::string name_;
  uint64_t seed_ = 0;
  TrainOptions options_;
  std::optional<InitFrom> init_from_;
  Plan plan_;
  Chosen<DataFactory> data_choice_;
  Chosen<LossFactory> loss_choice_;
  std::vector<Chosen<MetricFactory>> metric_choices_;
  std::vector<std::string> metric_names_;
  std::shared_ptr<void> optimizer_options_, schedule_options_;
  const OptimizerFactory* optimizer_ = nullptr;
  const ScheduleFactory* schedule_ = nullptr;

  std::shared_ptr<DataSource> data_;
  std::vector<StreamSpec> specs_;
  std::shared_ptr<const Loss> loss_;
  std::vector<NamedMetric> metrics_;
};

}  // namespace ribo
