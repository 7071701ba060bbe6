// Compiled without torch's include folder, whose google/protobuf headers are of another version.
#include <unistd.h>

#include <chrono>
#include <system_error>

#include "tensorboard_event.pb.h"
#include "train/append_file.h"
#include "train/observers.h"
#include "train/tfrecord.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;

double wall_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

std::string host() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

// TensorBoard reads a folder's files in the order of their names, so a resumed session needs a
// later second than the one before it.
std::unique_ptr<AppendFile> open_new_file(const fs::path& folder) {
  std::error_code ec;
  fs::create_directories(folder, ec);
  if (ec) throw Error(cat("cannot create ", folder.string(), ": ", ec.message()));
  for (auto second = static_cast<int64_t>(wall_time());; ++second) {
    const fs::path path = folder / cat("events.out.tfevents.", second, ".", host());
    if (!fs::exists(path, ec)) return std::make_unique<AppendFile>(path, true);
  }
}

class TensorBoard final : public Observer {
 public:
  explicit TensorBoard(const fs::path& folder) : file_(open_new_file(folder)) {
    tensorboard::Event version;
    version.set_file_version("brain.Event:2");
    write(version, 0);
    file_->flush();
  }

  void on(const RunStarted& e) override {
    tensorboard::Event event;
    event.mutable_session_log()->set_status(tensorboard::SessionLog::START);
    // TensorBoard drops what it has seen from this step on, itself included.
    write(event, e.resumed_at + 1);
    file_->flush();
  }

  void on(const UpdateDone& e) override {
    tensorboard::Event event;
    add(event, "train/loss", e.loss);
    add(event, "train/grad_norm", e.grad_norm);
    add(event, "train/learning_rate", e.learning_rate);
    write(event, e.update);
  }

  void on(const ValidationDone& e) override {
    tensorboard::Event event;
    add(event, "valid/loss", e.loss);
    for (const auto& score : e.scores) {
      add(event, cat("valid/", score.metric), score.value);
      for (const auto& [name, value] : score.floors) {
        add(event, cat("valid/", score.metric, " floor: ", name), value);
      }
    }
    write(event, e.update);
    file_->flush();
  }

  void on(const RunFinished&) override { file_->flush(); }

 private:
  static void add(tensorboard::Event& event, const std::string& tag, double value) {
    tensorboard::Summary::Value* scalar = event.mutable_summary()->add_value();
    scalar->set_tag(tag);
    scalar->set_simple_value(static_cast<float>(value));
  }

  void write(tensorboard::Event& event, int64_t step) {
    event.set_wall_time(wall_time());
    event.set_step(step);
    file_->write(tfrecord(event.SerializeAsString()));
  }

  std::unique_ptr<AppendFile> file_;
};

}  // namespace

std::shared_ptr<Observer> make_tensorboard(const fs::path& folder) {
  return std::make_shared<TensorBoard>(folder);
}

}  // namespace ribo
