// The block base_pairing, and what others make of its stream `bpp`.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base_pairing/pairings.h"
#include "folding/partition_function.h"
#include "support/blocks.h"
#include "train/temp_folder.h"
#include "train/trainer.h"

namespace ribo {
namespace {

const std::string kHairpin = "GGGAAACGCUUCGGCGAAGGCGAAAGCCUUUCCC";
const std::string kOther = "ACGGGCAUAGNCUUCGUAUGCCCGA";

// A padded batch of these, with `reversed` if it is given.
Streams batch_of(const std::vector<std::string>& sequences, const std::vector<bool>& reversed = {},
                 int64_t padding = 0) {
  size_t longest = 0;
  for (const std::string& s : sequences) longest = std::max(longest, s.size());
  const std::vector<int64_t> sizes = {static_cast<int64_t>(sequences.size()),
                                 static_cast<int64_t>(longest) + padding};
  const at::Tensor tokens = at::full(sizes, kPadToken, at::kLong);
  const at::Tensor mask = at::zeros(sizes, at::kBool);
  for (size_t row = 0; row < sequences.size(); ++row) {
    std::string s = sequences[row];
    if (!reversed.empty() && reversed[row]) std::reverse(s.begin(), s.end());
    for (size_t i = 0; i < s.size(); ++i) {
      tokens[static_cast<int64_t>(row)][static_cast<int64_t>(i)] = token_of(s[i]);
      mask[static_cast<int64_t>(row)][static_cast<int64_t>(i)] = true;
    }
  }
  Streams out;
  out.set("tokens", tokens);
  out.set("mask", mask);
  if (!reversed.empty()) {
    const at::Tensor flags = at::zeros({sizes[0]}, at::kBool);
    for (size_t row = 0; row < reversed.size(); ++row)
      flags[static_cast<int64_t>(row)] = reversed[row];
    out.set("reversed", flags);
  }
  return out;
}

std::vector<StreamSpec> with_direction() {
  std::vector<StreamSpec> out = testing::data_streams();
  out.push_back({"reversed", {}, at::kBool});
  return out;
}

const std::string kAlone =
    "streams: {single: 8}\n"
    "blocks: [{type: embedding}, {type: base_pairing, single: false}]\n";

Streams run(Model& model, Streams streams) {
  at::NoGradGuard no_grad;
  model.eval();
  model.forward(streams);
  return streams;
}

at::Tensor bpp_of(const Streams& in, const std::string& text = kAlone) {
  Model model(
      testing::make_plan(text, in.has("reversed") ? with_direction() : testing::data_streams()));
  return run(model, in).get("bpp");
}

// The partition function's, without what is too unlikely to be kept.
at::Tensor expected(const std::string& sequence) {
  const auto n = static_cast<int64_t>(sequence.size());
  const at::Tensor p =
      at::tensor(fold::partition_function(sequence).pair_probability, at::kFloat).view({n, n});
  return p.masked_fill(p < pairing::kLeastProbability, 0);
}

TEST(BasePairing, IsThePartitionFunctionOfEachSequence) {
  const at::Tensor bpp = bpp_of(batch_of({kHairpin, "A", kOther}, {}, 3));
  ASSERT_EQ(bpp.sizes(), (std::vector<int64_t>{3, 37, 37}));
  EXPECT_EQ(bpp.scalar_type(), at::kFloat);
  EXPECT_FALSE(bpp.requires_grad());
  const at::Tensor want = at::zeros_like(bpp);
  want[0].narrow(0, 0, 34).narrow(1, 0, 34).copy_(expected(kHairpin));
  want[2].narrow(0, 0, 25).narrow(1, 0, 25).copy_(expected(kOther));
  EXPECT_TRUE(at::equal(bpp, want));
  EXPECT_GT(bpp[0][0][33].item<float>(), 0.5);               // a helix
  EXPECT_EQ(bpp[2][10].count_nonzero().item<int64_t>(), 0);  // N
}

TEST(BasePairing, ALetterBeyondTheAlphabetPairsWithNothing) {
  Streams odd = batch_of({kHairpin});
  const at::Tensor tokens = odd.tokens().clone();
  tokens[0][3] = 4;
  odd.set("tokens", tokens);
  std::string sequence = kHairpin;
  sequence[3] = 'N';
  EXPECT_TRUE(at::equal(bpp_of(odd)[0], expected(sequence)));
}

TEST(BasePairing, AReversedSampleHasBothAxesReversed) {
  const std::vector<std::string> sequences = {kHairpin, kOther, kOther, "G"};
  const at::Tensor forward = bpp_of(batch_of(sequences));
  const at::Tensor mixed = bpp_of(batch_of(sequences, {true, false, true, true}));
  EXPECT_TRUE(at::equal(mixed[0], forward[0].flip({0, 1})));
  EXPECT_TRUE(at::equal(mixed[1], forward[1]));
  const auto inside = [](const at::Tensor& x) { return x.narrow(0, 0, 25).narrow(1, 0, 25); };
  EXPECT_TRUE(at::equal(inside(mixed[2]), inside(forward[2]).flip({0, 1})));
  // Read backwards it would be another molecule.
  EXPECT_FALSE(at::equal(bpp_of(batch_of({kHairpin}, {true}))[0],
                         expected(std::string(kHairpin.rbegin(), kHairpin.rend()))));
}

TEST(BasePairing, WhatIsRememberedChangesNothing) {
  const std::string model =
      "streams: {single: 8, pair: 4}\n"
      "blocks: [{type: embedding}, {type: base_pairing, cache_mib: ";
  const auto with = testing::make_model(model + "64}]\n"),
             without = testing::make_model(model + "0}]\n");
  for (int visit = 0; visit < 2; ++visit) {
    for (const auto& sequences : {std::vector{kHairpin, kOther, kHairpin}, {kOther}}) {
      const Streams a = run(*with, batch_of(sequences)), b = run(*without, batch_of(sequences));
      for (const char* name : {"bpp", "single", "pair"}) {
        EXPECT_TRUE(at::equal(a.get(name), b.get(name))) << name;
      }
    }
  }
}

TEST(BasePairing, GoesIntoSingleByDirection) {
  const auto model = testing::make_model(
      "streams: {single: 8}\nblocks: [{type: embedding}, {type: base_pairing}]\n");
  const auto plain = testing::make_model("streams: {single: 8}\nblocks: [{type: embedding}]\n");
  const Streams in = batch_of({kHairpin});
  const at::Tensor update = run(*model, in).single() - run(*plain, in).single();
  const at::Tensor p = expected(kHairpin);
  const at::Tensor features = 4 * at::stack({p.triu().sum(1), p.tril().sum(1)}, 1);
  const at::Tensor weight = named_weights(*model).at("blocks.1.to_single.weight");
  EXPECT_LE(testing::relative_error(update[0], features.matmul(weight.t())), 1e-5);
}

TEST(BasePairing, MakesPairWhereItIsDeclaredOrAddsToIt) {
  const Streams in = batch_of({kHairpin, kOther});
  const auto model = testing::make_model(
      "streams: {single: 8, pair: 4}\n"
      "blocks: [{type: embedding}, {type: base_pairing}, {type: base_pairing, single: false}]\n");
  const auto weights = named_weights(*model);
  const at::Tensor p = bpp_of(in);
  const at::Tensor features =
      4 * at::stack({p, at::log(p.clamp_min(1e-4) / 1e-4) / std::log(1e4)}, 3);
  const at::Tensor want = features.matmul(
      (weights.at("blocks.1.to_pair.weight") + weights.at("blocks.2.to_pair.weight")).t());
  EXPECT_LE(testing::relative_error(run(*model, in).get("pair"), want), 1e-5);

  const auto never = testing::make_model(
      "streams: {single: 8}\nblocks: [{type: embedding}, {type: base_pairing}]\n");
  EXPECT_FALSE(run(*never, in).has("pair"));
  EXPECT_NE(testing::error_of([] {
              testing::make_plan(
                  "streams: {single: 8}\n"
                  "blocks: [{type: embedding}, {type: base_pairing, pair: always}]\n");
            }).find("streams: {pair: 64}"),
            std::string::npos);
}

// An ablation is the pipeline without the block; nothing else has to change.
TEST(BasePairing, AttentionReadsItWhereItIsThere) {
  const auto text = [](const std::string& block, const std::string& options) {
    return "streams: {single: 8}\nblocks: [{type: embedding}" + block +
           ", {type: transformer, heads: 4, dropout: 0" + options + "}]\n";
  };
  const std::string block = ", {type: base_pairing, single: false}";
  const auto with = testing::make_model(text(block, "")),
             without = testing::make_model(text("", ""));
  const auto ignores = testing::make_model(text(block, ", bias_from_bpp: never"));
  EXPECT_TRUE(named_weights(*with).contains("blocks.2.bpp_bias.weight"));
  EXPECT_EQ(ignores->count_parameters(), without->count_parameters());
  EXPECT_EQ(with->count_parameters(), without->count_parameters() + 2 * 4);

  const Streams in = batch_of({kHairpin, kOther});
  const at::Tensor a = run(*with, in).single();
  at::NoGradGuard no_grad;
  at::Tensor weight = named_weights(*with).at("blocks.2.bpp_bias.weight");
  EXPECT_GT((weight[0] - weight[1]).abs().max().item<double>(), 0);  // heads differ
  weight.zero_();
  const at::Tensor b = run(*with, in).single();
  EXPECT_GT((a - b).abs().max().item<double>(), 1e-3);
}

TEST(BasePairing, AttentionTakesItBesidePairIfToldTo) {
  const auto count = [](const std::string& options) {
    return testing::make_model(
               "streams: {single: 8, pair: 4}\nblocks: [{type: embedding}, {type: base_pairing}, "
               "{type: transformer, heads: 4" +
               options + "}]\n")
        ->count_parameters();
  };
  EXPECT_EQ(count(", bias_from_bpp: never"), count(""));
  EXPECT_EQ(count(", bias_from_bpp: always"), count("") + 2 * 4);
}

// Attention's bias is computed twice, its weight's gradient by hand.
TEST(BasePairing, TheGradientOfTheBiasIsThatOfTheLoss) {
  const auto model = testing::make_model(
      "streams: {single: 8, pair: 4}\nblocks: [{type: embedding}, {type: base_pairing}, "
      "{type: transformer, heads: 2, dropout: 0, bias_from_bpp: always}]\n");
  const Streams in = batch_of({kHairpin, kOther});
  at::manual_seed(3);
  const at::Tensor cotangent = at::randn({2, 34, 8}, at::kDouble);
  const auto loss = [&] {
    Streams s = in;
    model->forward(s);
    return (s.single().to(at::kDouble) * cotangent).sum();
  };
  model->to(at::kDouble);
  loss().backward();
  at::Tensor weight = model->named_parameters()["blocks.2.bpp_bias.weight"];
  const at::Tensor grad = weight.grad().clone();
  at::NoGradGuard no_grad;
  for (int64_t k = 0; k < weight.numel(); ++k) {
    const at::Tensor entry = weight.view({-1})[k];
    entry.add_(1e-5);
    const double above = loss().item<double>();
    entry.sub_(2e-5);
    const double below = loss().item<double>();
    entry.add_(1e-5);
    const double want = (above - below) / 2e-5;
    EXPECT_NEAR(grad.view({-1})[k].item<double>(), want, 1e-5 * (1 + std::abs(want)));
  }
}

}  // namespace
}  // namespace ribo
