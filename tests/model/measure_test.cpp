#include "model/measure.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/blocks.h"
#include "support/memory.h"

namespace ribo {
namespace {

constexpr int64_t B = 3, L = 20, C = 16, Z = 8;

ModelCost cost_of(const std::string& blocks, bool training = true, const char* pair = "") {
  static std::vector<std::shared_ptr<Model>> kept;  // BlockCost points into their plans
  const auto model = testing::make_model(
      cat("streams: {single: ", C, pair, "}\nblocks:\n", "  - {type: embedding}\n", blocks));
  kept.push_back(model);
  model->train(training);
  Streams batch = testing::make_batch(std::vector<int64_t>(B, L));
  return measure(*model, batch);
}

TEST(Measure, CountsALinearLayer) {
  const ModelCost cost = cost_of("  - {type: reactivity_head, norm: false}\n");
  ASSERT_EQ(cost.blocks.size(), 2u);
  EXPECT_EQ(cost.blocks[0].flops, 0) << "a look-up computes nothing";
  EXPECT_EQ(cost.blocks[1].flops, 2 * B * L * C * 2 + B * L * 2);  // and the bias
  EXPECT_EQ(cost.blocks[0].parameters, 5 * C);
  EXPECT_EQ(cost.blocks[1].parameters, 2 * C + 2);
  EXPECT_EQ(cost.parameters, 5 * C + 2 * C + 2);
  EXPECT_EQ(cost.flops, cost.blocks[1].flops);
  EXPECT_EQ(cost.batch, B);
  EXPECT_EQ(cost.length, L);
}

TEST(Measure, CountsAConvolution) {
  const ModelCost cost =
      cost_of("  - {type: conv, kernel: 5, norm: none, activation: none, dropout: 0}\n");
  EXPECT_EQ(cost.blocks[1].flops, 2 * B * L * C * C * 5 + B * L * C);  // and the residual sum
  EXPECT_EQ(cost.blocks[1].parameters, C * C * 5 + C);
}

TEST(Measure, CountsADepthwiseConvolution) {
  const ModelCost cost = cost_of(
      "  - {type: sepcnn, kernels: [7], expand: 2, norm: none, activation: none, dropout: 0}\n");
  EXPECT_EQ(cost.blocks[1].flops, 2 * B * L * C * 7 + 2 * 2 * B * L * C * 2 * C + B * L * 3 * C +
                                      B * L * C);  // and two biases, the residual sum
}

TEST(Measure, CountsTheOperatorsOfThePairTrack) {
  const ModelCost cost = cost_of(
      "  - {type: outer_product_mean, hidden: 4}\n"
      "  - {type: pair_transition}\n"
      "  - {type: triangle_multiply, dropout: 0}\n",
      true, ", pair: 8");
  const int64_t pair = B * L * L * Z;
  // Beside the products, the projection and what of the weights is prepared.
  EXPECT_GE(cost.blocks[1].flops, 2 * B * L * C * 4 + 2 * B * L * Z * 16 + 2 * B * L * L * 4 * Z);
  EXPECT_EQ(cost.blocks[2].flops, 4 * pair * 4 * Z);
  EXPECT_GE(cost.blocks[3].flops, 12 * pair * Z + 2 * pair * L);
  EXPECT_LT(cost.flops, 1.1 * (4 * pair * 4 * Z + 12 * pair * Z + 2 * pair * L) + 4e5);
}

TEST(Measure, CountsAttention) {
  for (const bool training : {false, true}) {
    const ModelCost cost = cost_of(
        "  - {type: transformer, heads: 4, ff_mult: 3, norm: none, activation: none, "
        "position: none, dropout: 0}\n",
        training);
    const int64_t projections = 2 * B * L * C * C * (3 + 1 + 3 + 3);
    const int64_t attention = 4 * B * L * L * C;  // queries with keys, weights with values
    const int64_t biases = B * L * C * (1 + 3 + 1), sums = 2 * B * L * C;
    EXPECT_EQ(cost.blocks[1].flops, projections + attention + biases + sums);
  }
}

TEST(Measure, CountsEachTurnOfARepeat) {
  const ModelCost cost = cost_of("  - repeat: 3\n    blocks: [{type: conv, norm: none}]\n");
  ASSERT_EQ(cost.blocks.size(), 4u);
  EXPECT_EQ(cost.blocks[1].flops, cost.blocks[2].flops);
  EXPECT_EQ(cost.flops, 3 * cost.blocks[1].flops);
  EXPECT_EQ(cost.parameters, 5 * C + 3 * cost.blocks[1].parameters);
}

TEST(Measure, ActivationsAreWhatAForwardPassLeavesBehind) {
  for (const std::string checkpoint : {"false", "true"}) {
    const auto model = testing::make_model(
        "streams: {single: 16}\nblocks:\n  - {type: embedding}\n  - repeat: 2\n"
        "    checkpoint: " +
        checkpoint +
        "\n    blocks: [{type: transformer, heads: 2}, "
        "{type: conv, checkpoint: " +
        checkpoint + "}]\n  - {type: reactivity_head}\n");
    model->train();
    Streams batch = testing::make_batch({L, L, L}), again = testing::make_batch({L, L, L});
    const ModelCost cost = measure(*model, batch);
    const testing::MemoryCounter memory;
    model->forward(again);
    EXPECT_EQ(cost.activation_bytes, memory.live());
    if (checkpoint == "false") {
      EXPECT_GT(cost.blocks[1].activation_bytes, 10 * cost.blocks[0].activation_bytes);
    }
  }
}

TEST(Measure, CheckpointedBlocksKeepLittle) {
  const auto bytes = [](const std::string& block, const std::string& repeat) {
    return cost_of(cat("  - repeat: 4\n", repeat, "    blocks: [{type: transformer, heads: 4",
                       block, "}, {type: sepcnn", block, "}]\n"))
        .activation_bytes;
  };
  const int64_t plain = bytes("", "");
  EXPECT_LT(bytes(", checkpoint: true", ""), plain / 4) << plain;
  EXPECT_LT(bytes("", "    checkpoint: true\n"), plain / 4) << plain;
}

TEST(Measure, LeavesTheModelAsItWas) {
  const auto model =
      testing::make_model("streams: {single: 8}\nblocks: [{type: embedding}, {type: conv}]\n");
  Streams a = testing::make_batch({5}), b = testing::make_batch({5});
  model->eval();
  (void)measure(*model, a);
  model->forward(b);
  EXPECT_TRUE(at::equal(a.single(), b.single()));
  for (const at::Tensor& p : model->parameters()) EXPECT_FALSE(p.grad().defined());
}

TEST(Measure, TheTableHasARowForEachPlaceInThePipeline) {
  const Plan plan = testing::make_plan(
      "streams: {single: 8}\nblocks:\n  - {type: embedding}\n"
      "  - repeat: 3\n    blocks: [{type: conv, checkpoint: true}]\n  - {type: reactivity_head}\n");
  Model model(plan);
  Streams batch = testing::make_batch({5});
  const std::string table = format_table(plan, measure(model, batch));
  EXPECT_NE(table.find("blocks[1].blocks[0] x3"), std::string::npos) << table;
  EXPECT_NE(table.find("conv (checkpoint)"), std::string::npos) << table;
  EXPECT_NE(table.find("pred.reactivity [B, L, 2]"), std::string::npos) << table;
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 7) << table;
}

TEST(Measure, NumbersAreShort) {
  EXPECT_EQ(short_count(17), "17");
  EXPECT_EQ(short_count(34'000), "34.0 k");
  EXPECT_EQ(short_count(1.2e6), "1.20 M");
  EXPECT_EQ(short_count(2.5e9), "2.50 G");
  EXPECT_EQ(short_bytes(512), "0.5 KiB");
  EXPECT_EQ(short_bytes(3 << 20), "3.0 MiB");
}

}  // namespace
}  // namespace ribo
