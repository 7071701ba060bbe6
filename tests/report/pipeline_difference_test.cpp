#include "report/pipeline_difference.h"

#include <gtest/gtest.h>

#include "config/yaml_reader.h"

namespace ribo {
namespace {

std::string told(const std::string& a, const std::string& b) {
  std::string text;
  for (const auto& d : differences(read_yaml(a, "a"), read_yaml(b, "b"))) {
    text += cat(d.key, ": ", d.a, " | ", d.b, "\n");
  }
  return text;
}

TEST(PipelineDifferences, AreToldKeyByKey) {
  EXPECT_EQ(
      told("{seed: 1, train: {lr: 1, batch: 4}}", "{train: {batch: 4, lr: 2}, extra: [1, 2]}"),
      "seed: 1 | -\n"
      "train.lr: 1 | 2\n"
      "extra: - | [1, 2]\n");
  EXPECT_EQ(told("{blocks: [{type: mamba, d_state: 8}, {type: conv}]}",
                 "{blocks: [{type: conv}, {type: conv}, {type: head}]}"),
            "blocks[0]: {type: mamba, d_state: 8} | {type: conv}\n"
            "blocks[2]: - | {type: head}\n");
  EXPECT_EQ(told("{clip: [0, 1]}", "{clip: [0, 2]}"), "clip: [0, 1] | [0, 2]\n");
  EXPECT_EQ(told("{a: {b: 1}}", "{a: 1}"), "a: {b: 1} | 1\n");
}

TEST(PipelineDifferences, ABlockMoreOrLessShiftsNoOther) {
  const std::string plain = "[{type: conv}, {type: attention, heads: 4}, {type: pair, ff: 2}]";
  const std::string more =
      "[{type: sepcnn}, {type: mamba}, {type: attention, heads: 8}, {type: pair, ff: 2}]";
  EXPECT_EQ(told("{blocks: " + plain + "}", "{blocks: " + more + "}"),
            "blocks[0]: {type: conv} | {type: sepcnn}\n"
            "blocks[1]: - | {type: mamba}\n"
            "blocks[1].heads: 4 | 8\n");
  EXPECT_EQ(told("{blocks: " + more + "}", "{blocks: " + plain + "}"),
            "blocks[0]: {type: sepcnn} | {type: conv}\n"
            "blocks[1]: {type: mamba} | -\n"
            "blocks[2].heads: 8 | 4\n");
  EXPECT_EQ(told("{blocks: [{repeat: 2, blocks: " + plain + "}]}",
                 "{blocks: [{type: bpp}, {repeat: 3, blocks: " + plain + "}]}"),
            "blocks[0]: - | {type: bpp}\n"
            "blocks[0].repeat: 2 | 3\n");
}

TEST(PipelineDifferences, OfEqualOnesAreNone) {
  EXPECT_EQ(told("{a: {b: [1, {c: 2}]}, d: x}", "{d: 'x', a: {b: [1, {c: 2}]}}"), "");
}

}  // namespace
}  // namespace ribo
