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
            "blocks[0].type: mamba | conv\n"
            "blocks[0].d_state: 8 | -\n"
            "blocks[2]: - | {type: head}\n");
  EXPECT_EQ(told("{clip: [0, 1]}", "{clip: [0, 2]}"), "clip: [0, 1] | [0, 2]\n");
  EXPECT_EQ(told("{a: {b: 1}}", "{a: 1}"), "a: {b: 1} | 1\n");
}

TEST(PipelineDifferences, OfEqualOnesAreNone) {
  EXPECT_EQ(told("{a: {b: [1, {c: 2}]}, d: x}", "{d: 'x', a: {b: [1, {c: 2}]}}"), "");
}

}  // namespace
}  // namespace ribo
