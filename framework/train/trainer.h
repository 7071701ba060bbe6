// The training loop.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/events.h"
#include "train/floors.h"
#include "train/loader.h"
#include "train/optimizer.h"
#include "train/options.h"
#include "train/schedule.h"
#include "weights/fit.h"

namespace ribo {

/// This process among those that train together.
struct Process {
  int64_t rank = 0;
  int64_t world_size = 1;
};

/// All that a training needs, made by a Session.
struct Training {
  std::shared_ptr<Model> model;
  std::shared_ptr<Optimizer> optimizer;
  std::shared_ptr<Schedule> schedule;
  std::shared_ptr<const Loss> loss;
  std::vector<NamedMetric> metrics;  // the first decides what is best
  FloorTables floor_tables;  // what the floors were fitted to
  std::vector<std::vector<std::pair<std::string, double>>> floors;  // of each metric
  std::shared_ptr<Loader> train, valid;
  TrainOptions options;
  at::Device device = at::kCPU;
  Process process;
  std::string name;
  std::filesystem::path directory;  // of the run
  Observers observers;
};

class Trainer {
 public:
  explicit Trainer(Training training);
  /// Goes on from a checkpoint as if the run had not stopped: the same numbers follow, given the
  /// same threads. Throws Error if it does not fit the model.
  void resume(const std::filesystem::path& checkpoint);
  /// Trains to the end, to a limit of the options, or until a signal asks to stop.
  RunFinished run();

 private:
  RunFinished train();
  RunFinished finish(const std::string& reason);
  bool train_one_update();  // false when its gradient was not finite and nothing was changed
  at::Tensor forward_loss(Streams& streams) const;
  double clip_gradients();
  void update_average();
  void validate();
  void save(bool best);
  bool next_batch(Batch& batch);
  bool due(const Interval& interval) const;
  bool stop_early() const;
  double seconds() const;
  double epochs() const;
  template <class Event>
  void tell(const Event& event) const {
    if (t_.process.rank != 0) return;
    for (const auto& observer : t_.observers) observer->on(event);
  }

  Training t_;
  std::vector<std::string> names_;    // of the parameters, in order
  std::vector<at::Tensor> weights_;   // they themselves
  std::vector<at::Tensor> average_;   // their moving average; empty without EMA
  TrainerState state_;
  int64_t updates_per_epoch_ = 0, total_updates_ = 0;
  double last_loss_ = 0, last_norm_ = 0;
  int64_t last_sequences_ = 0;
  int64_t skipped_in_a_row_ = 0;
  double session_start_ = 0;          // monotonic clock
  double last_checkpoint_ = 0;        // in training seconds
  bool epoch_started_ = false;
};

}  // namespace ribo
