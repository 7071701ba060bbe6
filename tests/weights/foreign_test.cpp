#include "weights/foreign.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::read_text;
using testing::write_text;

const std::string kStateDict = RIBO_SOURCE_DIR "/tests/fixtures/state_dict.pt";

// What torch.save of Python wrote: a.weight = arange(12) [3, 4], its transpose, halves, a count, a part.
void expect_the_tensors(const Tensors& got) {
  ASSERT_EQ(got.size(), 5u);
  const at::Tensor weight = at::arange(12, at::kFloat).view({3, 4});
  EXPECT_TRUE(at::equal(got.at("a.weight"), weight));
  EXPECT_TRUE(at::equal(got.at("a.transposed"), weight.t()));
  EXPECT_TRUE(at::equal(got.at("b.half"), at::tensor({1.5, -2.0}).to(at::kHalf)));
  EXPECT_EQ(got.at("b.count").item<int64_t>(), 7);
  EXPECT_TRUE(at::equal(got.at("b.part"), weight.narrow(0, 1, 2).narrow(1, 2, 2)));
}

TEST(Foreign, ReadsWhatTorchSaveWrites) {
  expect_the_tensors(read_weights(kStateDict));
  expect_the_tensors(read_weights(RIBO_SOURCE_DIR "/tests/fixtures/training_checkpoint.pt"));
}

TEST(Foreign, ReadsSafetensorsWithoutTheWrappersPrefixes) {
  testing::TempFolder temp;
  write_safetensors(temp / "w.safetensors", {{"module._orig_mod.x", at::ones({2})},
                                             {"module._orig_mod.y", at::zeros({1})}});
  const Tensors got = read_weights(temp / "w.safetensors");
  EXPECT_TRUE(got.contains("x") && got.contains("y"));
}

TEST(Foreign, DamagedFilesAreErrorsThatNameTheFile) {
  testing::TempFolder temp;
  const auto path = temp / "cut.pt";
  const std::string whole = read_text(kStateDict);
  for (size_t size = 0; size < whole.size(); size += 61) {
    write_text(path, whole.substr(0, size));
    const std::string what = error_of([&] { (void)read_weights(path); });
    EXPECT_NE(what.find(path.string()), std::string::npos) << size << ": " << what;
  }
  // Any other change is an error or still some tensors, never anything worse.
  std::mt19937 random(1);
  for (int i = 0; i < 500; ++i) {
    std::string bytes = whole;
    for (int n = 0; n < 3; ++n) bytes[random() % bytes.size()] = static_cast<char>(random());
    write_text(path, bytes);
    try {
      (void)read_weights(path);
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(path.string()), std::string::npos) << e.what();
    }
  }
}

TEST(Foreign, WhatIsNotThereIsTold) {
  EXPECT_NE(error_of([] { (void)read_weights("/nowhere/w.pt"); }).find("/nowhere/w.pt"),
            std::string::npos);
}

}  // namespace
}  // namespace ribo
