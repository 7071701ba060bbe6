#include "weights/initial.h"

#include <gtest/gtest.h>

#include "support/blocks.h"
#include "tests/train/temp_folder.h"
#include "weights/fit.h"

namespace ribo {
namespace {

using testing::error_of;

constexpr const char* kModel = R"(
streams: {single: 8}
blocks: [{type: embedding}, {type: conv, kernel: 3}, {type: reactivity_head}]
)";
constexpr const char* kWider = R"(
streams: {single: 8}
blocks: [{type: embedding}, {type: conv, kernel: 5}, {type: reactivity_head}]
)";

class Initial : public ::testing::Test {
 protected:
  Initial() {
    weights_ = named_weights(*testing::make_model(kModel, 7));
    write_safetensors(temp_ / "w.safetensors", weights_);
  }
  // The section as a pipeline says it, with the file's path.
  void read(const std::string& more = "") {
    section_ = read_yaml(cat("path: ", (temp_ / "w.safetensors").string(), "\n", more), "p.yaml");
    Diagnostics diagnostics;
    init_ = {};
    init_from_schema().parse(section_, "init_from", {}, diagnostics, &init_);
    diagnostics.throw_if_any();
  }
  testing::TempFolder temp_;
  Tensors weights_;
  Value section_;
  InitFrom init_;
};

TEST_F(Initial, LoadsEveryWeight) {
  const auto model = testing::make_model(kModel, 1);
  read();
  load_initial_weights(*model, init_, section_);
  for (const auto& [name, tensor] : named_weights(*model)) {
    EXPECT_TRUE(at::equal(tensor, weights_.at(name))) << name;
  }
}

TEST_F(Initial, StrictListsAllThatDoesNotFitAndChangesNothing) {
  const auto model = testing::make_model(kWider, 1);
  const at::Tensor before = named_weights(*model).at("blocks.0.embedding.weight").clone();
  Tensors given = weights_;
  given.erase("blocks.2.out.bias");
  given["blocks.9.x"] = at::zeros({1});
  write_safetensors(temp_ / "w.safetensors", given);
  read();
  const std::string what = error_of([&] { load_initial_weights(*model, init_, section_); });
  for (const char* part : {"p.yaml:1:1: init_from", "blocks.1.conv.weight", "blocks.2.out.bias",
                           "blocks.9.x", "strict: false"}) {
    EXPECT_NE(what.find(part), std::string::npos) << part << " in: " << what;
  }
  EXPECT_TRUE(at::equal(named_weights(*model).at("blocks.0.embedding.weight"), before));
}

TEST_F(Initial, NotStrictTakesWhatFits) {
  const auto model = testing::make_model(kWider, 1);
  const at::Tensor conv = named_weights(*model).at("blocks.1.conv.weight").clone();
  read("strict: false\n");
  load_initial_weights(*model, init_, section_);
  const Tensors got = named_weights(*model);
  EXPECT_TRUE(at::equal(got.at("blocks.1.conv.weight"), conv));
  EXPECT_TRUE(at::equal(got.at("blocks.2.out.weight"), weights_.at("blocks.2.out.weight")));
}

TEST_F(Initial, SkippedWeightsKeepTheirStart) {
  const auto model = testing::make_model(kWider, 1);
  const at::Tensor conv = named_weights(*model).at("blocks.1.conv.weight").clone();
  read("skip: [\"blocks.1.conv.weight\"]\n");
  load_initial_weights(*model, init_, section_);
  EXPECT_TRUE(at::equal(named_weights(*model).at("blocks.1.conv.weight"), conv));
}

TEST_F(Initial, FreezesByPattern) {
  const auto model = testing::make_model(kModel, 1);
  read("freeze: [\"blocks.0.*\", \"*.conv.*\"]\n");
  freeze_weights(*model, init_, section_);
  for (const auto& item : model->named_parameters()) {
    const bool frozen = item.key().starts_with("blocks.0.") ||
                        item.key().find(".conv.") != std::string::npos;
    EXPECT_EQ(item.value().requires_grad(), !frozen) << item.key();
  }
}

TEST_F(Initial, APatternThatMatchesNothingOrAllIsAMistake) {
  const auto model = testing::make_model(kModel, 1);
  read("freeze: [\"block.0.*\"]\n");
  EXPECT_NE(error_of([&] { freeze_weights(*model, init_, section_); }).find("block.0.*"),
            std::string::npos);
  read("freeze: [\"*\"]\n");
  EXPECT_NE(error_of([&] { freeze_weights(*model, init_, section_); }).find("nothing is left"),
            std::string::npos);
}

}  // namespace
}  // namespace ribo
