// Mistakes in a `model` section, and how they are told.
#include "model/plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ribo/version.h"
#include "support/blocks.h"
#include "train/temp_folder.h"

namespace ribo {
namespace {

using testing::make_plan;

std::string wrong(const std::string& model) {
  return testing::error_of([&] { make_plan(model, testing::data_streams(), "m.yaml"); });
}

void expect_says(const std::string& model, const std::string& part) {
  const std::string what = wrong(model);
  EXPECT_NE(what.find(part), std::string::npos) << part << "\nis not in\n" << what;
}

TEST(Plan, AMissingStreamIsToldWithThoseThatAreThere) {
  expect_says("streams: {single: 8}\nblocks:\n  - {type: conv}\n  - {type: embedding}\n",
              "m.yaml:3:5: model.blocks[0] (conv, conv.so " RIBO_VERSION
              "): needs the stream \"single\", which "
              "nothing before it makes; here are: mask [B, L], target.reactivity [B, L, 2], tokens "
              "[B, L]");
}

TEST(Plan, AWidthThatDoesNotFitIsToldAtItsBlock) {
  expect_says(
      "streams: {single: 10}\nblocks:\n"
      "  - {type: embedding}\n  - repeat: 2\n    blocks:\n"
      "      - {type: transformer, heads: 4}\n",
      "m.yaml:6:9: model.blocks[1].blocks[0] (transformer, transformer.so " RIBO_VERSION
      "): heads: "
      "4 does not divide the width of \"single\", 10");
}

TEST(Plan, AnUndeclaredWidthIsTold) {
  expect_says("blocks: [{type: embedding}]\n", "m.yaml:1:10: model.blocks[0]");
  expect_says("blocks: [{type: embedding}]\n", "single");
}

TEST(Plan, AMisspeltBlockOptionOrStreamIsGuessed) {
  expect_says(
      "streams: {single: 8}\nblocks: [{type: embedding}, {type: mambo}]\n",
      "m.yaml:2:36: model.blocks[1].type: unknown block \"mambo\"; did you mean \"mamba\"?");
  expect_says("streams: {single: 8}\nblocks: [{type: embedding}, {type: conv, kernle: 3}]\n",
              "m.yaml:2:42: model.blocks[1]: unknown key \"kernle\"; did you mean \"kernel\"?");
  expect_says("streams: {single: 8, singel: 9}\nblocks: [{type: embedding}]\n",
              "m.yaml:1:22: model.streams: no block makes a stream \"singel\"; did you mean "
              "\"single\"?");
  expect_says("stream: {single: 8}\nblocks: []\n",
              "m.yaml:1:1: model: unknown key \"stream\"; did you mean \"streams\"?");
  expect_says(
      "streams: {single: 8}\nblocks: [{type: embedding}, {type: reactivity_head, targets: "
      "[dsm]}]\n",
      "targets: \"target.reactivity\" has no column \"dsm\"; did you mean \"dms\"?; it has: 2a3, "
      "dms");
}

TEST(Plan, ARepeatIsCheckedBeforeItIsExpanded) {
  const auto repeat = [](const std::string& lines) {
    return "streams: {single: 8}\nblocks:\n  - {type: embedding}\n  - " + lines;
  };
  expect_says(repeat("repeat: 0\n    blocks: [{type: conv}]\n"),
              "m.yaml:4:13: model.blocks[1].repeat: must lie in 1..1000, got 0");
  expect_says(repeat("repeat: six\n    blocks: [{type: conv}]\n"),
              "m.yaml:4:13: model.blocks[1].repeat: expected an integer, got \"six\"");
  expect_says(repeat("repeat: 2\n"), "m.yaml:4:5: model.blocks[1]: repeat needs \"blocks\"");
  expect_says(repeat("repeat: 2\n    block: [{type: conv}]\n"),
              "m.yaml:5:5: model.blocks[1]: unknown key \"block\" beside repeat; did you mean "
              "\"blocks\"?");
  expect_says(repeat("repeat: 2\n    blocks: {type: conv}\n"),
              "model.blocks[1].blocks: expected a list of blocks, got a map");
  expect_says(repeat("repeat: 1000\n    blocks:\n      - repeat: 1000\n        blocks: "
                     "[{type: conv}]\n"),
              "the model has more than 10000 blocks; lower a repeat");
}

TEST(Plan, EveryMistakeOfTheOptionsIsToldAtOnce) {
  const std::string what = wrong(
      "streams: {single: none}\n"
      "blocks:\n"
      "  - {type: embeding}\n"
      "  - {type: conv, kernel: 4, checkpoint: maybe}\n"
      "  - conv\n");
  EXPECT_EQ(std::count(what.begin(), what.end(), '\n') + 1, 5) << what;
  for (const char* part : {"m.yaml:1:19: model.streams.single: expected an integer, got \"none\"",
                           "m.yaml:3:12: model.blocks[0].type: unknown block \"embeding\"",
                           "m.yaml:4:26: model.blocks[1].kernel: must be odd, got 4",
                           "model.blocks[1].checkpoint: expected true or false, got \"maybe\"",
                           "m.yaml:5:5: model.blocks[2]: expected a block such as {type: conv}"}) {
    EXPECT_NE(what.find(part), std::string::npos) << part << "\nis not in\n" << what;
  }
}

TEST(Plan, KnowsEveryShape) {
  const Plan plan = make_plan(
      "streams: {single: 8}\nblocks:\n  - {type: embedding}\n"
      "  - repeat: 2\n    checkpoint: true\n    blocks: [{type: conv}]\n"
      "  - {type: reactivity_head, targets: [dms]}\n");
  ASSERT_EQ(plan.nodes.size(), 3u);
  EXPECT_EQ(plan.nodes[1].children.size(), 2u);
  EXPECT_FALSE(plan.nodes[1].checkpoint) << "each turn is recomputed on its own";
  EXPECT_TRUE(plan.nodes[1].children[1].checkpoint);
  EXPECT_EQ(to_string(plan.result.streams().at("single").shape), "[B, L, 8]");
  EXPECT_EQ(to_string(plan.result.streams().at("pred.reactivity").shape), "[B, L, 1]");
  EXPECT_EQ(plan.result.labels("pred.reactivity"), std::vector<std::string>{"dms"});
}

}  // namespace
}  // namespace ribo
