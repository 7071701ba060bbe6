#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "ribo/files.h"
#include "train/append_file.h"
#include "train/observers.h"

namespace ribo {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

// Whether a line tells of something that happened up to `update`; a torn line never does.
bool belongs(const std::string& line, int64_t update) {
  const ordered_json event = ordered_json::parse(line, nullptr, false);
  if (!event.is_object()) return false;
  for (const char* key : {"update", "resumed_at"}) {
    const auto found = event.find(key);
    if (found != event.end()) return found->is_number_integer() && *found <= update;
  }
  return false;
}

void drop_beyond(const fs::path& path, int64_t update) {
  // Not a pipe or a device, which would be read for ever.
  std::error_code ec;
  if (!fs::is_regular_file(path, ec) || fs::file_size(path, ec) == 0) return;
  std::ifstream in(path);
  if (!in) throw Error(cat("cannot read ", path.string(), " to continue it"));
  write_file_atomically(path, [&](const Sink& sink) {
    std::string line, kept;
    while (std::getline(in, line)) {
      if (!belongs(line, update)) continue;
      kept += line + "\n";
      if (kept.size() > 64 << 10) {
        sink(kept);
        kept.clear();
      }
    }
    sink(kept);
  });
}

class MetricsJsonl final : public Observer {
 public:
  explicit MetricsJsonl(const fs::path& path) : file_(std::make_unique<AppendFile>(path)) {}

  void on(const RunStarted& e) override {
    const fs::path path = file_->path();
    // Closed before and opened anew: the rewritten file is another one under the same name.
    file_.reset();
    drop_beyond(path, e.resumed_at);
    file_ = std::make_unique<AppendFile>(path);
    say({{"event", "start"},
         {"name", e.name},
         {"directory", e.directory},
         {"device", e.device},
         {"parameters", e.parameters},
         {"updates", e.updates},
         {"resumed_at", e.resumed_at},
         {"train_size", e.train_size},
         {"valid_size", e.valid_size}});
  }

  void on(const UpdateDone& e) override {
    write({{"event", "update"},
           {"update", e.update},
           {"epoch", e.epoch},
           {"loss", e.loss},
           {"grad_norm", e.grad_norm},
           {"learning_rate", e.learning_rate},
           {"sequences", e.sequences},
           {"seconds", e.seconds}});
  }

  void on(const ValidationDone& e) override {
    ordered_json scores = ordered_json::array();
    for (const auto& score : e.scores) {
      ordered_json floors = ordered_json::object();
      for (const auto& [name, value] : score.floors) floors[name] = value;
      scores.push_back({{"metric", score.metric}, {"value", score.value}, {"floors", floors}});
    }
    say({{"event", "validation"},
         {"update", e.update},
         {"epoch", e.epoch},
         {"seconds", e.seconds},
         {"loss", e.loss},
         {"scores", scores},
         {"best", e.best}});
  }

  void on(const CheckpointWritten& e) override {
    say({{"event", "checkpoint"}, {"update", e.update}, {"path", e.path}});
  }

  void on(const RunFinished& e) override {
    say({{"event", "finish"},
         {"reason", e.reason},
         {"update", e.update},
         {"seconds", e.seconds},
         {"best_value", e.best_value},
         {"best_update", e.best_update},
         {"best_metric", e.best_metric},
         {"peak_memory", e.peak_memory}});
  }

 private:
  // dump() itself turns NaN and infinity into null.
  void write(const ordered_json& event) {
    file_->write(event.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
  }
  void say(const ordered_json& event) {
    write(event);
    file_->flush();
  }

  std::unique_ptr<AppendFile> file_;
};

}  // namespace

std::shared_ptr<Observer> make_metrics_jsonl(const fs::path& path) {
  return std::make_shared<MetricsJsonl>(path);
}

}  // namespace ribo
