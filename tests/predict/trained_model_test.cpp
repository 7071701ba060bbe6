#include "predict/trained_model.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/tiny_run.h"
#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using testing::pipeline_with;
using testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

class TrainedModels : public ::testing::Test {
 protected:
  TrainedModels() { testing::write_run(run_, pipeline_with("    - {type: conv, kernel: 3}\n")); }

  TrainedModel load(const fs::path& path, std::vector<std::string> sets = {}) {
    return load_trained({path, std::move(sets), {}});
  }
  template <class Kind = Error>
  std::string refusal(const fs::path& path, std::vector<std::string> sets = {}) {
    try {
      load(path, std::move(sets));
    } catch (const Kind& e) {
      return e.what();
    }
    return "loaded";
  }

  TempFolder temp_;
  const fs::path run_ = temp_ / "run";
};

TEST_F(TrainedModels, AreReadWithoutTheirData) {
  for (const char* path : {"", "checkpoints/last", "checkpoints/best/", "checkpoints/step-00000000"}) {
    const TrainedModel trained = load(run_ / path);
    EXPECT_EQ(trained.run, fs::canonical(run_)) << path;
    EXPECT_EQ(trained.checkpoint.filename(), "step-00000000") << path;
    EXPECT_FALSE(trained.model->is_training());
    EXPECT_EQ(trained.session->plan().result.labels("pred.reactivity"),
              (std::vector<std::string>{"2a3", "dms"}));
    const Tensors saved = read_safetensors(run_ / "checkpoints/best/model.safetensors");
    for (const auto& [name, tensor] : named_weights(*trained.model)) {
      EXPECT_TRUE(at::equal(tensor, saved.at(name))) << name;
    }
  }
}

TEST_F(TrainedModels, BestIsTakenBeforeLast) {
  Session session({(run_ / "pipeline.yaml").string(), {}, {}});
  session.assume(testing::reactivity_streams());
  Checkpoint later{{}, named_weights(*session.build_model()), {}};
  later.state.update = 7;
  save_checkpoint(run_ / "checkpoints", later, false);
  EXPECT_EQ(load(run_).checkpoint.filename(), "step-00000000");
  EXPECT_EQ(load(run_ / "checkpoints/last").checkpoint.filename(), "step-00000007");
  fs::remove(run_ / "checkpoints/best");
  EXPECT_EQ(load(run_).checkpoint.filename(), "step-00000007");
}

TEST_F(TrainedModels, WhatIsNoRunIsToldAsThat) {
  EXPECT_THAT(refusal<ConfigError>(temp_ / "nowhere"), HasSubstr("no such run or checkpoint"));
  EXPECT_THAT(refusal<ConfigError>(temp_.path()),
              AllOf(HasSubstr("neither a run"), HasSubstr("no pipeline.yaml")));
  fs::copy(run_ / "checkpoints/step-00000000", temp_ / "astray");
  EXPECT_THAT(refusal<ConfigError>(temp_ / "astray"), HasSubstr("lies outside of a run"));
  fs::remove_all(run_ / "checkpoints");
  EXPECT_THAT(refusal(run_), HasSubstr("no checkpoint yet"));
}

TEST_F(TrainedModels, ACheckpointOfAnotherModelListsWhatDiffers) {
  EXPECT_THAT(refusal(run_, {"model.streams.single=16"}),
              AllOf(HasSubstr("step-00000000: these weights are of another model:"),
                    HasSubstr("blocks.0.embedding.weight: shape [5, 8] instead of [5, 16]")));
}

TEST_F(TrainedModels, DamageIsNoticed) {
  testing::write_text(run_ / "checkpoints/step-00000000/model.safetensors", "no tensors");
  EXPECT_THAT(refusal(run_), HasSubstr("model.safetensors"));
  testing::write_run(run_, pipeline_with(""));
  testing::write_text(run_ / "streams.json", "{\"streams\": [{\"name\": \"tokens\"}]}");
  EXPECT_THAT(refusal(run_), HasSubstr("streams.json: not the streams of a run"));
  fs::remove(run_ / "streams.json");
  EXPECT_THAT(refusal(run_), HasSubstr("streams.json: No such file"));
}

TEST(StreamSpecs, ComeBackAsTheyWere) {
  const TempFolder temp;
  std::vector<StreamSpec> specs = testing::reactivity_streams();
  specs.push_back({"pairs", {dim::length, dim::length}, at::kBool, 0, {}});
  specs.push_back({"vector", {3}, at::kDouble, -0.5, {"x", "y \"quoted\"", "z"}});
  write_stream_specs(temp / "streams.json", specs);
  const std::vector<StreamSpec> read = read_stream_specs(temp / "streams.json");
  ASSERT_EQ(read.size(), specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    EXPECT_EQ(read[i].name, specs[i].name);
    EXPECT_EQ(read[i].shape, specs[i].shape);
    EXPECT_EQ(read[i].type, specs[i].type);
    EXPECT_EQ(read[i].labels, specs[i].labels);
    EXPECT_TRUE(read[i].pad == specs[i].pad || (std::isnan(read[i].pad) && std::isnan(specs[i].pad)));
  }
}

}  // namespace
}  // namespace ribo
