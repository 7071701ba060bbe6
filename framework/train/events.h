// What happens during a run, told to everything that listens.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ribo {

struct RunStarted {
  std::string name;        // of the pipeline
  std::string directory;   // of the run
  std::string device;
  int64_t parameters = 0;
  int64_t updates = 0;     // planned in total
  int64_t resumed_at = 0;  // updates already done; observers drop what they hold beyond it
  int64_t train_size = 0, valid_size = 0;
};

struct UpdateDone {
  int64_t update = 0;      // counted from 1
  double epoch = 0;        // fraction of passes over the data
  double loss = 0;
  double grad_norm = 0;    // before clipping
  double learning_rate = 0;
  int64_t sequences = 0;   // in this update, over all ranks
  double seconds = 0;      // of training so far, earlier sessions counted in
};

struct ValidationDone {
  int64_t update = 0;
  double epoch = 0;
  double seconds = 0;
  double loss = 0;
  struct Score {
    std::string metric;
    double value = 0;
    std::vector<std::pair<std::string, double>> floors;  // the same metric of a trivial predictor
  };
  std::vector<Score> scores;  // the first one decides what is best
  bool best = false;
};

struct CheckpointWritten {
  int64_t update = 0;
  std::string path;
};

struct RunFinished {
  std::string reason;  // "finished", "interrupted", "stopped early: ...", "failed: ..."
  int64_t update = 0;
  double seconds = 0;
  double best_value = 0;
  int64_t best_update = 0;
  std::string best_metric;
  int64_t peak_memory = 0;  // bytes of main memory that the process held at most
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on(const RunStarted&) {}
  virtual void on(const UpdateDone&) {}
  virtual void on(const ValidationDone&) {}
  virtual void on(const CheckpointWritten&) {}
  virtual void on(const RunFinished&) {}
};

using Observers = std::vector<std::shared_ptr<Observer>>;

}  // namespace ribo
