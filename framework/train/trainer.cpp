#include "train/trainer.h"

#include <sys/resource.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>
#include <cmath>

#include "model/flip.h"
#include "ribo/log.h"
#include "train/precision.h"
#include "train/signals.h"

namespace ribo {
namespace {

constexpr int64_t kMaxSkippedInARow = 20;

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

int64_t peak_memory() {
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? int64_t{1024} * usage.ru_maxrss : 0;
}

std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& weights) {
  std::vector<at::Tensor> out;
  for (const at::Tensor& w : weights) {
    if (w.grad().defined()) out.push_back(w.grad());
  }
  return out;
}

// Puts other values into the weights while it lives.
class Swapped {
 public:
  Swapped(std::vector<at::Tensor>& weights, const std::vector<at::Tensor>& values)
      : weights_(weights) {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < values.size(); ++i) {
      saved_.push_back(weights[i].detach().clone());
      weights[i].copy_(values[i]);
    }
  }
  ~Swapped() {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < saved_.size(); ++i) weights_[i].copy_(saved_[i]);
  }
  Swapped(const Swapped&) = delete;

 private:
  std::vector<at::Tensor>& weights_;
  std::vector<at::Tensor> saved_;
};

}  // namespace

Trainer::Trainer(Training training) : t_(std::move(training)) {
  for (const auto& item : t_.model->named_parameters()) {
    names_.push_back(item.key());
    weights_.push_back(item.value());
    if (t_.options.ema > 0) average_.push_back(item.value().detach().clone());
  }
  updates_per_epoch_ =
      std::max<int64_t>(1, t_.train->batches_per_epoch() / t_.options.accumulate);
  total_updates_ = to_updates(t_.options.duration, updates_per_epoch_);
}

RunFinished Trainer::run() {
  try {
    return train();
  } catch (const std::exception& e) {
    finish(cat("failed: ", e.what()));
    throw;
  }
}

RunFinished Trainer::train() {
  session_start_ = now() - state_.seconds;
  last_checkpoint_ = state_.seconds;
  tell(RunStarted{t_.name, t_.directory.string(), t_.device.str(), t_.model->count_parameters(),
                  total_updates_, state_.update, t_.train->split().size(),
                  t_.valid->split().size()});
  std::string reason = "finished";
  int64_t saved_at = state_.update;  // resumed from there, or nothing to save yet
  const auto save_now = [&](bool best) {
    save(best);
    saved_at = state_.update;
  };
  const int64_t validate_every = to_updates(t_.options.validate_every, updates_per_epoch_);
  const auto validation_due = [&] {
    return state_.update % validate_every == 0 || state_.update == total_updates_;
  };
  // An interruption may have come between an update and its validation.
  if (state_.update > 0 && state_.validated_update != state_.update && validation_due()) {
    validate();
    save_now(state_.best_update == state_.update);
  }

  while (state_.update < total_updates_) {
    t_.model->train();
    const bool changed = train_one_update();
    ++state_.update;
    state_.seconds = seconds();
    if (changed) {
      tell(UpdateDone{state_.update, epochs(), last_loss_, last_norm_,
                      t_.optimizer->learning_rate() *
                          t_.schedule->factor(state_.update - 1, total_updates_, updates_per_epoch_),
                      last_sequences_, state_.seconds});
    }
    const bool out_of_time =
        t_.options.time_limit && seconds() >= t_.options.time_limit->count;
    bool best = false;
    bool save_due = t_.options.checkpoint_every && due(*t_.options.checkpoint_every);
    // A person who pressed Ctrl-C waits for a checkpoint, not for a validation.
    if (!stop_requested() && (validation_due() || out_of_time)) {
      validate();
      best = state_.best_update == state_.update;
      save_due = save_due || best || !t_.options.checkpoint_every;
    }
    if (save_due) save_now(best);
    if (stop_requested()) {
      reason = "interrupted";
    } else if (out_of_time) {
      reason = cat("stopped at the time limit of ", t_.options.time_limit->str());
    } else if (stop_early()) {
      reason = cat("stopped early: no better value in ", state_.validations_without_better,
                   " validations");
    } else {
      continue;
    }
    break;
  }
  if (saved_at != state_.update) save_now(false);
  return finish(reason);
}

RunFinished Trainer::finish(const std::string& reason) {
  const RunFinished result{reason,
                           state_.update,
                           seconds(),
                           state_.best_value,
                           state_.best_update,
                           t_.metrics.empty() ? "" : t_.metrics.front().name,
                           peak_memory()};
  tell(result);
  return result;
}

bool Trainer::train_one_update() {
  double loss_sum = 0;
  last_sequences_ = 0;
  for (int64_t part = 0; part < t_.options.accumulate; ++part) {
    Batch batch;
    if (!next_batch(batch)) throw Error("the training split has too few sequences for one batch");
    batch.streams = to_device(batch.streams, t_.device);
    last_sequences_ += static_cast<int64_t>(batch.indices.size()) * t_.process.world_size;
    const at::Tensor loss = forward_loss(batch.streams) / t_.options.accumulate;
    torch::autograd::backward({loss}, {});
    loss_sum += loss.item<double>();
  }
  last_loss_ = loss_sum;
  last_norm_ = clip_gradients();
  const bool finite = std::isfinite(last_loss_) && std::isfinite(last_norm_);
  if (finite) {
    t_.optimizer->step(t_.schedule->factor(state_.update, total_updates_, updates_per_epoch_));
    update_average();
    skipped_in_a_row_ = 0;
  } else {
    // One NaN in Adam's moments poisons every later step, so this one must not happen.
    ++state_.skipped_updates;
    log::warn(cat("update ", state_.update + 1, ": loss ", last_loss_, ", gradient norm ",
                  last_norm_, "; skipped"));
    if (++skipped_in_a_row_ >= kMaxSkippedInARow) {
      throw Error(cat(kMaxSkippedInARow, " updates in a row had no finite gradient; the last "
                      "checkpoint is in ", (t_.directory / "checkpoints").string(),
                      "; lower train.optimizer.lr or train.clip"));
    }
  }
  for (const at::Tensor& w : weights_) w.mutable_grad().reset();
  return finite;
}

at::Tensor Trainer::forward_loss(Streams& streams) const {
  {
    AutocastScope autocast(t_.device.type(), t_.options.precision);
    t_.model->forward(streams);
  }
  return t_.loss->forward(streams);
}

// The norm of all gradients together, before they are scaled down to options.clip.
double Trainer::clip_gradients() {
  at::NoGradGuard no_grad;
  const std::vector<at::Tensor> grads = gradients_of(weights_);
  if (grads.empty()) return 0;
  const double norm = at::stack(at::_foreach_norm(grads)).norm().item<double>();
  if (t_.options.clip > 0 && std::isfinite(norm) && norm > t_.options.clip) {
    at::_foreach_mul_(grads, t_.options.clip / (norm + 1e-6));
  }
  return norm;
}

void Trainer::update_average() {
  if (average_.empty()) return;
  at::NoGradGuard no_grad;
  // Early averages would remember the random start for long, so the decay grows into its value.
  const auto n = static_cast<double>(state_.update + 1);
  const double decay = std::min(t_.options.ema, (1 + n) / (10 + n));
  at::_foreach_lerp_(average_, weights_, 1 - decay);
}

void Trainer::validate() {
  t_.model->eval();
  Swapped averaged(weights_, average_);
  const auto predict = [this](Streams& streams) {
    streams = to_device(streams, t_.device);
    AutocastScope autocast(t_.device.type(), t_.options.precision);
    t_.options.flip_average ? forward_both_ways(*t_.model, streams) : t_.model->forward(streams);
  };
  const Evaluation evaluation = evaluate(*t_.valid, predict, t_.loss.get(), t_.metrics);
  ValidationDone event{state_.update, epochs(), seconds(), evaluation.loss, {}, false};
  for (size_t m = 0; m < t_.metrics.size(); ++m) {
    event.scores.push_back({t_.metrics[m].name, evaluation.values[m], t_.floors[m]});
  }
  if (!event.scores.empty()) {
    const double value = event.scores.front().value;
    const bool lower = t_.metrics.front().metric->lower_is_better();
    const bool first = state_.best_update < 0;
    event.best = std::isfinite(value) && (first || (lower ? value < state_.best_value
                                                          : value > state_.best_value));
    if (event.best) {
      state_.best_value = value;
      state_.best_update = state_.update;
      state_.validations_without_better = 0;
    } else {
      ++state_.validations_without_better;
    }
  }
  state_.validated_update = state_.update;
  tell(event);
}

void Trainer::save(bool best) {
  if (t_.process.rank != 0) return;
  state_.seconds = seconds();
  Checkpoint checkpoint{state_, named_weights(*t_.model), {}};
  if (!average_.empty()) {
    for (const auto& [name, tensor] : checkpoint.model) {
      checkpoint.training["weight." + name] = tensor;
    }
    for (size_t i = 0; i < average_.size(); ++i) checkpoint.model[names_[i]] = average_[i];
  }
  for (auto& [name, tensor] : t_.optimizer->state()) {
    checkpoint.training["optimizer." + name] = tensor;
  }
  checkpoint.training["rng.cpu"] =
      at::globalContext().defaultGenerator(at::kCPU).get_state();
  if (t_.device.is_cuda()) {
    checkpoint.training["rng.cuda"] = at::globalContext().defaultGenerator(t_.device).get_state();
  }
  const auto path = save_checkpoint(t_.directory / "checkpoints", checkpoint, best);
  last_checkpoint_ = state_.seconds;
  tell(CheckpointWritten{state_.update, path.string()});
}

void Trainer::resume(const std::filesystem::path& path) {
  const Checkpoint checkpoint = load_checkpoint(path);
  Tensors raw, optimizer;
  for (const auto& [name, tensor] : checkpoint.training) {
    if (name.starts_with("weight.")) raw[name.substr(7)] = tensor;
    if (name.starts_with("optimizer.")) optimizer[name.substr(10)] = tensor;
  }
  try {
    load_weights(*t_.model, raw.empty() ? checkpoint.model : raw);
    t_.optimizer->load_state(optimizer);
  } catch (const Error& e) {
    throw Error(cat(path.string(), ": ", e.what()));
  }
  for (size_t i = 0; i < average_.size(); ++i) {
    average_[i].copy_(checkpoint.model.at(names_[i]));
  }
  const auto restore = [&](const char* name, at::Device device) {
    const auto it = checkpoint.training.find(name);
    if (it == checkpoint.training.end()) return;
    auto generator = at::globalContext().defaultGenerator(device);
    generator.set_state(it->second.clone());
  };
  restore("rng.cpu", at::kCPU);
  if (t_.device.is_cuda()) restore("rng.cuda", t_.device);
  state_ = checkpoint.state;
}

bool Trainer::next_batch(Batch& batch) {
  for (int tries = 0; tries < 2; ++tries) {
    if (!epoch_started_) {
      t_.train->start(state_.epoch, state_.batch);
      epoch_started_ = true;
    }
    // Batches that would make only a part of an update are left out, so that epochs stay whole.
    if (state_.batch < updates_per_epoch_ * t_.options.accumulate && t_.train->next(batch)) {
      ++state_.batch;
      return true;
    }
    ++state_.epoch;
    state_.batch = 0;
    epoch_started_ = false;
  }
  return false;
}

bool Trainer::due(const Interval& interval) const {
  if (interval.unit == Interval::Unit::seconds) {
    return seconds() - last_checkpoint_ >= interval.count;
  }
  return state_.update % to_updates(interval, updates_per_epoch_) == 0;
}

bool Trainer::stop_early() const {
  return t_.options.early_stopping > 0 &&
         state_.validations_without_better >= t_.options.early_stopping;
}

double Trainer::seconds() const { return now() - session_start_; }

double Trainer::epochs() const {
  return static_cast<double>(state_.update) / static_cast<double>(updates_per_epoch_);
}

}  // namespace ribo
