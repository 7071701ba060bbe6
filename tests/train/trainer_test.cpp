#include "train/trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/blocks.h"
#include "support/tiny_split.h"
#include "temp_folder.h"
#include "train/observers.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::TempFolder;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// 30 sequences in batches of 4: 7 batches an epoch.
struct TinyRun {
  uint64_t seed = 1;
  int64_t updates = 9;
  int64_t batch = 4;  // of all accumulation steps together
  int64_t accumulate = 1;
  double ema = 0;
  double dropout = 0.2;
  double eps = 1e-8;
  bool bucket = true;
  bool checkpointing = false;
  std::string precision = "float32";
  std::string schedule = "cosine";
  std::optional<Interval> checkpoint_every;
  int64_t validate_every = 3;
  int64_t early_stopping = 0;
  std::vector<int64_t> lengths = testing::mixed_lengths(30);
  std::shared_ptr<const Loss> loss;      // mae where empty
  std::shared_ptr<const Metric> metric;  // mae where empty
};

template <class Product, class Factory>
std::shared_ptr<Product> make_default(const Factory& factory, const Plan& plan) {
  const auto options = factory.schema->make_options();
  const auto product = factory.make(options.get());
  Shapes shapes = plan.result;
  product->shapes(shapes);
  return product;
}

Training make(const TinyRun& s, const fs::path& directory, Observers observers = {}) {
  const Plan plan =
      testing::make_plan(cat("streams: {single: 8}\n"
                             "blocks:\n"
                             "  - {type: embedding}\n"
                             "  - {type: conv, kernel: 3, dropout: ",
                             s.dropout, ", checkpoint: ", s.checkpointing ? "true" : "false",
                             "}\n"
                             "  - {type: reactivity_head}\n"));
  at::manual_seed(s.seed);
  Training t;
  t.model = std::make_shared<Model>(plan);
  Parameters parameters;
  for (const auto& item : t.model->named_parameters()) {
    parameters.push_back({item.key(), item.value()});
  }
  Diagnostics diagnostics;
  const auto& adamw = optimizers().at("adamw");
  const auto options = read_options(
      adamw, read_yaml(cat("{type: adamw, lr: 0.01, eps: ", s.eps, "}"), "t"), "", {}, diagnostics);
  diagnostics.throw_if_any();
  t.optimizer = adamw.make(options.get(), parameters);
  const auto& schedule = schedules().at(s.schedule);
  t.schedule = schedule.make(schedule.schema->make_options().get());
  t.loss = s.loss ? s.loss : make_default<Loss>(testing::host().losses().at("mae").factory, plan);
  t.metrics = {
      {"mae", s.metric ? s.metric
                       : make_default<Metric>(testing::host().metrics().at("mae").factory, plan)}};
  t.floors.resize(1);
  t.options.duration = {static_cast<double>(s.updates), Interval::Unit::updates};
  t.options.batch = s.batch;
  t.options.accumulate = s.accumulate;
  t.options.ema = s.ema;
  t.options.precision = s.precision;
  t.options.validate_every = {static_cast<double>(s.validate_every), Interval::Unit::updates};
  t.options.checkpoint_every = s.checkpoint_every;
  t.options.early_stopping = s.early_stopping;
  LoaderOptions loader;
  loader.batch = s.batch / s.accumulate;
  loader.seed = s.seed;
  loader.bucket = s.bucket;
  loader.training = true;
  const auto specs = testing::data_streams();
  t.train =
      std::make_shared<Loader>(std::make_shared<testing::TinySplit>(s.lengths), specs, loader);
  loader.training = false;
  t.valid = std::make_shared<Loader>(
      std::make_shared<testing::TinySplit>(testing::mixed_lengths(9)), specs, loader);
  t.name = "tiny";
  t.directory = directory;
  t.observers = std::move(observers);
  return t;
}

Tensors copy_of(const torch::nn::Module& model) {
  Tensors out;
  for (const auto& [name, tensor] : named_weights(model)) out[name] = tensor.clone();
  return out;
}

void expect_equal(const Tensors& got, const Tensors& want) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, tensor] : want) {
    EXPECT_TRUE(at::equal(got.at(name), tensor)) << name;
  }
}

bool equal(const Tensors& a, const Tensors& b) {
  for (const auto& [name, tensor] : a) {
    if (!at::equal(b.at(name), tensor)) return false;
  }
  return true;
}

// Keeps every event, and a copy of the checkpoint of one update before it is replaced.
struct Recorder final : Observer {
  void on(const UpdateDone& e) override {
    updates.push_back(e);
    if (model) weights.push_back(copy_of(*model));
  }
  void on(const ValidationDone& e) override { validations.push_back(e); }
  void on(const CheckpointWritten& e) override {
    saved.push_back(e.update);
    if (e.update == copy_update) fs::copy(e.path, copy_to, fs::copy_options::recursive);
  }
  std::vector<double> losses() const {
    std::vector<double> out;
    for (const UpdateDone& e : updates) out.push_back(e.loss);
    return out;
  }
  std::vector<UpdateDone> updates;
  std::vector<ValidationDone> validations;
  std::vector<int64_t> saved;
  std::shared_ptr<Model> model;  // records its weights after each update, if set
  std::vector<Tensors> weights;
  int64_t copy_update = -1;
  fs::path copy_to;
};

struct Result {
  Tensors weights;
  std::shared_ptr<Recorder> events = std::make_shared<Recorder>();
  RunFinished finished;
};

Result train(const TinyRun& setup, const fs::path& directory) {
  Result out;
  Training t = make(setup, directory, {out.events});
  const auto model = t.model;
  out.finished = Trainer(std::move(t)).run();
  out.weights = copy_of(*model);
  return out;
}

TEST(Trainer, TheSameSeedGivesTheSameNumbersAndAnotherSeedOthers) {
  TempFolder folder;
  TinyRun setup;
  const Result one = train(setup, folder / "a"), two = train(setup, folder / "b");
  EXPECT_EQ(one.events->losses(), two.events->losses());
  expect_equal(one.weights, two.weights);
  setup.seed = 2;
  const Result other = train(setup, folder / "c");
  EXPECT_NE(one.events->losses(), other.events->losses());
  EXPECT_FALSE(equal(one.weights, other.weights));
}

TEST(Trainer, LearnsAndTellsWhatItDoes) {
  TempFolder folder;
  TinyRun setup;
  setup.updates = 60;
  setup.validate_every = 20;
  const Result r = train(setup, folder.path());
  EXPECT_EQ(r.finished.reason, "finished");
  EXPECT_EQ(r.finished.update, 60);
  EXPECT_EQ(r.finished.best_metric, "mae");
  ASSERT_EQ(r.events->updates.size(), 60u);
  ASSERT_EQ(r.events->validations.size(), 3u);
  EXPECT_LT(r.events->validations.back().loss, 0.75 * r.events->validations.front().loss);
  EXPECT_EQ(r.events->updates.back().update, 60);
  EXPECT_NEAR(r.events->updates.back().epoch, 60 / 7.0, 1e-9);
  EXPECT_EQ(r.events->updates.back().sequences, 4);
  EXPECT_DOUBLE_EQ(r.events->updates.front().learning_rate, 0.01);
  EXPECT_LT(r.events->updates.back().learning_rate, 0.001) << "the schedule is followed";
}

struct Record {
  int64_t update;
  double loss, grad_norm, learning_rate;
  bool operator==(const Record&) const = default;
};

std::vector<Record> read_updates(const fs::path& metrics) {
  std::istringstream lines(testing::read_text(metrics));
  std::vector<Record> out;
  for (std::string line; std::getline(lines, line);) {
    const auto j = nlohmann::json::parse(line);
    if (j.at("event") != "update") continue;
    out.push_back({j.at("update"), j.at("loss"), j.at("grad_norm"), j.at("learning_rate")});
  }
  return out;
}

// Trains in one go; then again from the checkpoint of update `stop`, with the metrics.jsonl that a
// killed run would leave: lines beyond its last checkpoint. Both must end alike, bit by bit.
void check_resume(TinyRun setup, int64_t stop) {
  SCOPED_TRACE(cat("stopped after ", stop, ", accumulate ", setup.accumulate, ", ema ", setup.ema));
  TempFolder folder;
  setup.checkpoint_every = Interval{static_cast<double>(stop), Interval::Unit::updates};
  const fs::path whole = folder / "whole", rest = folder / "rest";
  fs::create_directories(whole);
  fs::create_directories(rest);

  auto recorder = std::make_shared<Recorder>();
  recorder->copy_update = stop;
  recorder->copy_to = folder / "stopped";
  Training t = make(setup, whole, {recorder, make_metrics_jsonl(whole / "metrics.jsonl")});
  const auto model = t.model;
  (void)Trainer(std::move(t)).run();
  const Tensors want = copy_of(*model);
  const std::vector<Record> all = read_updates(whole / "metrics.jsonl");
  ASSERT_EQ(all.size(), static_cast<size_t>(setup.updates));

  fs::copy(whole / "metrics.jsonl", rest / "metrics.jsonl");
  auto again = std::make_shared<Recorder>();
  Training u = make(setup, rest, {again, make_metrics_jsonl(rest / "metrics.jsonl")});
  const auto resumed = u.model;
  {
    Trainer trainer(std::move(u));
    (void)at::rand({17});  // what a new session draws before it resumes doesn't matter
    trainer.resume(folder / "stopped");
    (void)trainer.run();
  }
  EXPECT_EQ(again->updates.size(), static_cast<size_t>(setup.updates - stop));
  expect_equal(copy_of(*resumed), want);
  EXPECT_EQ(read_updates(rest / "metrics.jsonl"), all);
  expect_equal(load_checkpoint(rest / "checkpoints/last").model,
               load_checkpoint(whole / "checkpoints/last").model);
  const ValidationDone &a = recorder->validations.back(), &b = again->validations.back();
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.scores[0].value, b.scores[0].value);
}

TEST(Resume, GivesTheNumbersOfARunThatDidNotStop) {
  TinyRun setup;
  setup.updates = 16;
  check_resume(setup, 5);   // in the middle of an epoch
  check_resume(setup, 14);  // at the end of one
}

TEST(Resume, WithAveragedWeights) {
  TinyRun setup;
  setup.ema = 0.9;
  check_resume(setup, 5);
}

// 7 batches an epoch: the fourth update takes its second half from the next epoch.
TEST(Resume, WithAccumulationOverTheEndOfAnEpoch) {
  TinyRun setup;
  setup.batch = 8;
  setup.accumulate = 2;
  check_resume(setup, 3);
  check_resume(setup, 4);
}

TEST(Resume, WithGradientCheckpointingAndBfloat16) {
  TinyRun setup;
  setup.checkpointing = true;
  setup.precision = "bf16";
  check_resume(setup, 4);
}

TEST(Resume, KeepsTheBestValueOfTheFirstSession) {
  TinyRun setup;
  setup.updates = 12;
  setup.validate_every = 4;
  check_resume(setup, 6);
}

TEST(Resume, RefusesACheckpointOfAnotherModelOrADamagedOne) {
  TempFolder folder;
  TinyRun setup;
  setup.updates = 2;
  train(setup, folder.path());
  const fs::path path = folder / "checkpoints/last";

  Training wider = make(setup, folder.path());
  wider.model = testing::make_model(
      "streams: {single: 16}\nblocks: [{type: embedding}, {type: reactivity_head}]\n");
  Trainer trainer(std::move(wider));
  std::string what = error_of([&] { trainer.resume(path); });
  EXPECT_NE(what.find(path.string()), std::string::npos) << what;
  EXPECT_NE(what.find("blocks.0.embedding.weight: shape [5, 8] instead of [5, 16]"),
            std::string::npos)
      << what;

  std::string bytes = testing::read_text(path / "model.safetensors");
  bytes[bytes.size() - 9] ^= 1;
  testing::write_text(path / "model.safetensors", bytes);
  Trainer same(make(setup, folder.path()));
  what = error_of([&] { same.resume(path); });
  EXPECT_NE(what.find("model.safetensors"), std::string::npos) << what;
}

TEST(Trainer, AccumulationEqualsOneLargeBatch) {
  TempFolder folder;
  TinyRun setup;
  setup.dropout = 0;
  setup.bucket = false;
  setup.lengths.assign(32, 12);
  setup.batch = 8;
  setup.updates = 6;
  setup.eps = 1e-3;  // without it, Adam blows last bits up where a gradient is nearly zero
  const Result whole = train(setup, folder / "1");
  for (const int64_t parts : {2, 8}) {
    setup.accumulate = parts;
    const Result r = train(setup, folder / cat(parts));
    ASSERT_EQ(r.events->updates.size(), whole.events->updates.size());
    for (size_t i = 0; i < r.events->updates.size(); ++i) {
      EXPECT_NEAR(r.events->updates[i].loss, whole.events->updates[i].loss, 1e-5);
      EXPECT_NEAR(r.events->updates[i].grad_norm, whole.events->updates[i].grad_norm, 1e-5);
    }
    for (const auto& [name, tensor] : whole.weights) {
      EXPECT_LT(testing::relative_error(r.weights.at(name), tensor), 1e-5) << name;
    }
  }
}

TEST(Trainer, GradientCheckpointingChangesNoBit) {
  TempFolder folder;
  TinyRun setup;
  const Result plain = train(setup, folder / "a");
  setup.checkpointing = true;
  const Result checkpointed = train(setup, folder / "b");
  EXPECT_EQ(plain.events->losses(), checkpointed.events->losses());
  expect_equal(checkpointed.weights, plain.weights);
}

// The mean absolute error, but NaN, or with a NaN gradient alone, in some training batches.
class FaultyLoss final : public Loss {
 public:
  FaultyLoss(std::vector<int> faulty, bool in_gradient)
      : faulty_(std::move(faulty)), in_gradient_(in_gradient) {}
  void shapes(Shapes&) override {}
  at::Tensor forward(const Streams& s) const override {
    const at::Tensor difference =
        s.get("pred.reactivity") - s.get("target.reactivity").nan_to_num();
    const at::Tensor loss = difference.abs().mean();
    if (!at::GradMode::is_enabled()) return loss;
    const int call = ++calls_;
    const bool fault = faulty_.empty() || std::count(faulty_.begin(), faulty_.end(), call) > 0;
    if (!fault) return loss;
    if (!in_gradient_) return loss * kNaN;
    return loss + 0 * (difference - difference).sqrt().sum();  // 0 times infinity
  }

 private:
  const std::vector<int> faulty_;  // calls, counted from 1; empty = all
  const bool in_gradient_;
  mutable int calls_ = 0;
};

TEST(NotFinite, AnUpdateIsSkippedAndNothingChanges) {
  for (const bool in_gradient : {false, true}) {
    TempFolder folder;
    TinyRun setup;
    setup.updates = 1;
    setup.ema = 0.9;
    setup.loss = std::make_shared<FaultyLoss>(std::vector<int>{1}, in_gradient);
    const Tensors before = copy_of(*make(setup, folder.path()).model);
    const Result r = train(setup, folder.path());
    expect_equal(r.weights, before);
    EXPECT_TRUE(r.events->updates.empty());
    const Checkpoint saved = load_checkpoint(folder / "checkpoints/last");
    EXPECT_EQ(saved.state.skipped_updates, 1);
    expect_equal(saved.model, before);
    for (const auto& [name, tensor] : saved.training) {
      EXPECT_FALSE(name.starts_with("optimizer.")) << name;
    }
  }
}

TEST(NotFinite, TrainingGoesOnAfterOne) {
  TempFolder folder;
  TinyRun setup;
  setup.updates = 4;
  setup.loss = std::make_shared<FaultyLoss>(std::vector<int>{2}, true);
  const Result r = train(setup, folder.path());
  EXPECT_EQ(r.events->updates.size(), 3u);
  for (const auto& [name, tensor] : r.weights) {
    EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
  }
}

// One bad half must not leave its gradients to the next update.
TEST(NotFinite, AccumulatedGradientsAreDroppedToo) {
  TempFolder folder;
  TinyRun setup;
  setup.batch = 8;
  setup.accumulate = 2;
  setup.updates = 3;
  setup.loss = std::make_shared<FaultyLoss>(std::vector<int>{3}, false);
  const Result r = train(setup, folder.path());
  EXPECT_EQ(r.events->updates.size(), 2u);
  for (const auto& [name, tensor] : r.weights) {
    EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
  }
}

TEST(NotFinite, TwentyInARowEndTheRun) {
  TempFolder folder;
  TinyRun setup;
  setup.updates = 100;
  setup.validate_every = 100;
  setup.loss = std::make_shared<FaultyLoss>(std::vector<int>{}, false);
  auto recorder = std::make_shared<Recorder>();
  Training t = make(setup, folder.path(), {recorder});
  const auto model = t.model;
  const Tensors before = copy_of(*model);
  Trainer trainer(std::move(t));
  const std::string what = error_of([&] { trainer.run(); });
  EXPECT_NE(what.find("20 updates in a row had no finite gradient"), std::string::npos) << what;
  EXPECT_NE(what.find("train.optimizer.lr"), std::string::npos) << what;
  expect_equal(copy_of(*model), before);
}

TEST(NotFinite, NineteenInARowDoNot) {
  TempFolder folder;
  TinyRun setup;
  setup.updates = 40;
  setup.validate_every = 40;
  std::vector<int> faulty;
  for (int i = 1; i <= 40; ++i) {
    if (i != 20 && i != 40) faulty.push_back(i);
  }
  setup.loss = std::make_shared<FaultyLoss>(faulty, false);
  EXPECT_EQ(train(setup, folder.path()).finished.reason, "finished");
}

TEST(Ema, AveragesAndLeavesTheWeightsInTrainingAlone) {
  TempFolder folder;
  TinyRun setup;
  setup.ema = 0.5;
  setup.updates = 8;
  setup.validate_every = 8;
  auto recorder = std::make_shared<Recorder>();
  Training t = make(setup, folder.path(), {recorder});
  const auto model = recorder->model = t.model;
  Tensors average = copy_of(*model);
  (void)Trainer(std::move(t)).run();
  ASSERT_EQ(recorder->weights.size(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    const double n = static_cast<double>(i + 1), decay = std::min(0.5, (1 + n) / (10 + n));
    for (auto& [name, tensor] : average) {
      tensor = decay * tensor + (1 - decay) * recorder->weights[i].at(name);
    }
  }
  const Checkpoint saved = load_checkpoint(folder / "checkpoints/last");
  for (const auto& [name, tensor] : average) {
    EXPECT_LT(testing::relative_error(saved.model.at(name), tensor), 1e-5) << name;
    EXPECT_TRUE(at::equal(saved.training.at("weight." + name), recorder->weights.back().at(name)));
  }
  expect_equal(copy_of(*model), recorder->weights.back());
  EXPECT_FALSE(equal(saved.model, recorder->weights.back()));

  // Validation used the averaged ones: they alone give its loss again.
  const auto model_again = make(setup, folder.path());
  load_weights(*model_again.model, saved.model);
  model_again.model->eval();
  const Evaluation evaluation = evaluate(
      *model_again.valid, [&](Streams& s) { model_again.model->forward(s); },
      model_again.loss.get(), model_again.metrics);
  EXPECT_EQ(evaluation.loss, recorder->validations.back().loss);
  EXPECT_EQ(evaluation.values[0], recorder->validations.back().scores[0].value);
}

// A metric whose values a test chooses, one each validation.
class ScriptedMetric final : public Metric {
 public:
  explicit ScriptedMetric(std::vector<double> values, bool lower = true)
      : values_(std::move(values)), lower_(lower) {}
  void shapes(Shapes&) override {}
  at::Tensor accumulate(const Streams&) const override { return at::zeros({1}, at::kDouble); }
  double finish(const at::Tensor&) const override { return values_.at(next_++); }
  bool lower_is_better() const override { return lower_; }
  std::string target() const override { return "reactivity"; }

 private:
  const std::vector<double> values_;
  const bool lower_;
  mutable size_t next_ = 0;
};

std::string target_of(const fs::path& link) { return fs::read_symlink(link).string(); }

TEST(Validation, TheBestCheckpointIsTheOneOfTheBestValue) {
  TempFolder folder;
  TinyRun setup;
  setup.updates = 5;
  setup.validate_every = 1;
  setup.metric = std::make_shared<ScriptedMetric>(std::vector<double>{kNaN, 0.5, 0.3, 0.4, 0.3});
  Result r = train(setup, folder / "low");
  EXPECT_EQ(r.finished.best_value, 0.3);
  EXPECT_EQ(r.finished.best_update, 3);
  EXPECT_EQ(target_of(folder / "low/checkpoints/best"), "step-00000003");
  EXPECT_EQ(target_of(folder / "low/checkpoints/last"), "step-00000005");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "low/checkpoints"), {}), 4);

  setup.metric =
      std::make_shared<ScriptedMetric>(std::vector<double>{0.1, 0.5, 0.7, 0.4, 0.3}, false);
  r = train(setup, folder / "high");
  EXPECT_EQ(r.finished.best_update, 3);
}

TEST(Validation, EarlyStoppingCountsValidationsWithoutABetterValue) {
  TempFolder folder;
  TinyRun setup;
  setup.updates = 20;
  setup.validate_every = 2;
  setup.early_stopping = 2;
  setup.metric = std::make_shared<ScriptedMetric>(
      std::vector<double>{0.5, 0.6, 0.4, 0.45, 0.41, 0, 0, 0, 0, 0});
  const Result r = train(setup, folder.path());
  EXPECT_EQ(r.finished.update, 10);
  EXPECT_EQ(r.finished.reason, "stopped early: no better value in 2 validations");
  EXPECT_EQ(target_of(folder / "checkpoints/best"), "step-00000006");
  EXPECT_EQ(target_of(folder / "checkpoints/last"), "step-00000010");
}

TEST(Validation, ChangesNothingInTraining) {
  TempFolder folder;
  TinyRun setup;
  setup.validate_every = 9;
  const Result rarely = train(setup, folder / "a");
  setup.validate_every = 1;
  setup.checkpoint_every = Interval{2, Interval::Unit::updates};
  const Result often = train(setup, folder / "b");
  EXPECT_EQ(rarely.events->losses(), often.events->losses());
  expect_equal(often.weights, rarely.weights);
}

TEST(Evaluate, CountsEachSequenceAlikeWhateverTheBatches) {
  TempFolder folder;
  TinyRun setup;
  const auto score = [&](int64_t batch) {
    setup.batch = batch;
    const Training t = make(setup, folder.path());
    t.model->eval();
    return evaluate(
        *t.valid, [&](Streams& s) { t.model->forward(s); }, t.loss.get(), t.metrics);
  };
  const Evaluation one = score(1), nine = score(9);
  EXPECT_NEAR(one.values[0], nine.values[0], 1e-6);
}

}  // namespace
}  // namespace ribo
