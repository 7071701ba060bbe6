#include "model/model.h"

#include <gtest/gtest.h>

#include <set>

#include "support/blocks.h"
#include "train/temp_folder.h"

namespace ribo {
namespace {

constexpr const char* kNested = R"(
streams: {single: 8}
blocks:
  - {type: embedding}
  - repeat: 2
    blocks:
      - {type: conv, kernel: 3}
      - repeat: 3
        blocks: [{type: mamba, d_state: 2}]
  - {type: reactivity_head}
)";

std::set<std::string> names(const torch::nn::Module& model) {
  std::set<std::string> out;
  for (const auto& item : model.named_parameters()) out.insert(item.key());
  return out;
}

TEST(Model, WeightsAreNamedInTheTermsOfThePipeline) {
  const auto got = names(*testing::make_model(kNested));
  for (const std::string name :
       {"blocks.0.embedding.weight", "blocks.1.0.0.conv.weight", "blocks.1.0.0.norm.bias",
        "blocks.1.1.0.conv.bias", "blocks.1.0.1.2.0.A_log", "blocks.1.1.1.0.0.in_proj.weight",
        "blocks.2.out.weight"}) {
    EXPECT_TRUE(got.contains(name)) << name;
  }
  EXPECT_FALSE(got.contains("blocks.1.2.0.conv.weight")) << "a third turn of two";
  // 1 embedding; 2 turns of a conv (4) and 3 mambas (11); 4 of the head
  EXPECT_EQ(got.size(), 1u + 2 * (4 + 3 * 11) + 4);
}

TEST(Model, TurnsOfARepeatHaveWeightsOfTheirOwn) {
  const auto model = testing::make_model(kNested);
  const auto parameters = model->named_parameters();
  EXPECT_FALSE(
      at::equal(parameters["blocks.1.0.0.conv.weight"], parameters["blocks.1.1.0.conv.weight"]));
  Streams s = testing::make_batch({6, 4});
  model->forward(s);
  EXPECT_EQ(s.get("pred.reactivity").sizes(), (at::IntArrayRef{2, 6, 2}));
}

TEST(Model, ItsSeedDecidesItsWeights) {
  const auto one = testing::make_model(kNested, 1), same = testing::make_model(kNested, 1),
             other = testing::make_model(kNested, 2);
  const auto a = one->parameters(), b = same->parameters(), c = other->parameters();
  bool different = false;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(at::equal(a[i], b[i]));
    different |= !at::equal(a[i], c[i]);
  }
  EXPECT_TRUE(different);
}

TEST(Model, MovesItsBlocksWithItself) {
  const auto model = testing::make_model(kNested);
  model->to(at::kDouble);
  Streams s = testing::make_batch({6});
  model->forward(s);
  EXPECT_EQ(s.get("pred.reactivity").scalar_type(), at::kDouble);
}

TEST(Model, TrainingAndEvaluationReachEveryBlock) {
  const auto model = testing::make_model(
      "streams: {single: 8}\nblocks:\n  - {type: embedding}\n"
      "  - repeat: 2\n    blocks: [{type: conv, dropout: 0.9}]\n");
  const auto changes = [&] {
    Streams a = testing::make_batch({9}), b = testing::make_batch({9});
    model->forward(a);
    model->forward(b);
    return !at::equal(a.single(), b.single());
  };
  model->train();
  EXPECT_TRUE(changes());
  model->eval();
  EXPECT_FALSE(changes());
  model->train();
  EXPECT_TRUE(changes());
}

TEST(Model, AnErrorInABlockNamesItsPlaceAndItsPlugin) {
  const auto model = testing::make_model(kNested);
  Streams s = testing::make_batch({6});
  s.erase("tokens");
  const std::string what = testing::error_of([&] { model->forward(s); });
  EXPECT_NE(what.find("model.blocks[0] (embedding, embedding.so "), std::string::npos) << what;
  EXPECT_NE(what.find("no stream \"tokens\" here"), std::string::npos) << what;
}

}  // namespace
}  // namespace ribo
