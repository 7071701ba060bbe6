#include "model/flip.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/blocks.h"

namespace ribo {
namespace {

constexpr const char* kModel = R"(
streams: {single: 8, pair: 4}
blocks:
  - {type: embedding}
  - {type: relative_position, bins: 5}
  - {type: transformer, heads: 2, dropout: 0}
  - {type: conv, kernel: 3, dropout: 0}
  - {type: reactivity_head}
)";

TEST(Flip, ReversesEachSequenceWithinItsOwnLength) {
  const auto model = testing::make_model(kModel);
  const Streams s = testing::make_batch({6, 4});
  const Streams back = reverse_streams(s, model->shapes());
  EXPECT_TRUE(at::equal(back.tokens()[0], s.tokens()[0].flip(0)));
  EXPECT_TRUE(at::equal(back.tokens()[1].narrow(0, 0, 4), s.tokens()[1].narrow(0, 0, 4).flip(0)));
  EXPECT_TRUE(at::equal(back.tokens()[1].narrow(0, 4, 2), s.tokens()[1].narrow(0, 4, 2)));
  EXPECT_TRUE(at::equal(back.mask(), s.mask()));
  EXPECT_TRUE(back.get("reversed").all().item<bool>());
  const Streams again = reverse_streams(back, model->shapes());
  EXPECT_TRUE(at::equal(again.tokens(), s.tokens()));
  EXPECT_FALSE(again.get("reversed").any().item<bool>());
}

TEST(Flip, ReversesBothAxesOfPairs) {
  const auto model = testing::make_model(kModel);
  Streams s = testing::make_batch({6, 4});
  model->eval();
  model->forward(s);
  const at::Tensor pair = s.get("pair"), back = reverse_streams(s, model->shapes()).get("pair");
  EXPECT_TRUE(at::equal(back[0], pair[0].flip({0, 1})));
  EXPECT_TRUE(at::equal(back[1].narrow(0, 0, 4).narrow(1, 0, 4),
                        pair[1].narrow(0, 0, 4).narrow(1, 0, 4).flip({0, 1})));
}

TEST(Flip, ThePredictionIsTheMeanOfBothDirections) {
  const auto model = testing::make_model(kModel);
  model->eval();
  const at::NoGradGuard no_grad;
  const Streams given = testing::make_batch({6, 4});
  Streams both = given, there = given, back = reverse_streams(given, model->shapes());
  forward_both_ways(*model, both);
  model->forward(there);
  model->forward(back);
  const at::Tensor mean =
      (there.get("pred.reactivity") + reverse_streams(back, model->shapes()).get("pred.reactivity")) / 2;
  EXPECT_TRUE(at::equal(both.get("pred.reactivity"), mean));
  EXPECT_FALSE(at::allclose(mean, there.get("pred.reactivity"))) << "the directions differ";

  // Whoever gives the sequence the other way round gets the same, turned round.
  Streams turned = reverse_streams(given, model->shapes());
  forward_both_ways(*model, turned);
  EXPECT_TRUE(at::allclose(reverse_streams(turned, model->shapes()).get("pred.reactivity"), mean,
                           1e-5, 1e-6));
}

}  // namespace
}  // namespace ribo
