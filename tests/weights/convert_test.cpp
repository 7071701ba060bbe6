#include "weights/convert.h"

#include <gtest/gtest.h>

#include "support/blocks.h"
#include "support/ribonanzanet_reference.h"
#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

using testing::RibonanzaNet;

constexpr const char* kMap = RIBO_SOURCE_DIR "/maps/ribonanzanet.yaml";

bool same(const Tensors& a, const Tensors& b) {
  if (names_of(a) != names_of(b)) return false;
  for (const auto& [name, tensor] : a) {
    if (!at::equal(tensor, b.at(name))) return false;
  }
  return true;
}

void expect_there_and_back(const RibonanzaNet& net, const char* file) {
  const auto model = testing::make_model(testing::ribonanzanet_model(net));
  const Tensors ours = named_weights(*model);
  const NameMap map = NameMap::read(file);
  ASSERT_EQ(map.side_of(names_of(ours)), Side::ours);
  const Conversion theirs = convert(ours, map, Side::ours);
  EXPECT_TRUE(theirs.misfits.empty()) << theirs.misfits.str();
  EXPECT_TRUE(same(theirs.tensors, testing::to_reference_names(net, ours)));
  ASSERT_EQ(map.side_of(names_of(theirs.tensors)), Side::theirs);
  const Conversion back = convert(theirs.tensors, map, Side::theirs);
  EXPECT_TRUE(back.misfits.empty()) << back.misfits.str();
  EXPECT_TRUE(same(back.tensors, ours)) << "bit by bit";
}

TEST(Convert, RibonanzaNetThereAndBackIsTheSame) {
  expect_there_and_back({.ninp = 16, .pairwise_dimension = 8, .nhead = 2, .nlayers = 2}, kMap);
  expect_there_and_back({.ninp = 16, .pairwise_dimension = 8, .nhead = 2, .nlayers = 12}, kMap);
}

TEST(Convert, WithTriangularAttentionToo) {
  RibonanzaNet net = {.ninp = 16, .pairwise_dimension = 8, .nhead = 2, .nlayers = 3};
  net.use_triangular_attention = true;
  expect_there_and_back(net, RIBO_SOURCE_DIR "/maps/ribonanzanet_triangular.yaml");
}

TEST(Convert, TellsWhatHasNoPlaceAndWhichPartsAreMissing) {
  const RibonanzaNet net = {.ninp = 16, .pairwise_dimension = 8, .nhead = 2, .nlayers = 2};
  Tensors theirs = testing::to_reference_names(
      net, named_weights(*testing::make_model(testing::ribonanzanet_model(net))));
  theirs.erase("transformer_encoder.0.self_attn.w_ks.weight");
  theirs["extra.weight"] = at::zeros({2});
  const Conversion got = convert(theirs, NameMap::read(kMap), Side::theirs);
  const std::string wrong = got.misfits.str();
  EXPECT_NE(wrong.find("extra.weight"), std::string::npos) << wrong;
  EXPECT_NE(wrong.find("transformer_encoder.0.self_attn.w_ks.weight"), std::string::npos) << wrong;
}

}  // namespace
}  // namespace ribo
