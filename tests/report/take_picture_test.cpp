#include "report/take_picture.h"

#include <gmock/gmock.h>

#include "ribo/predictor.h"
#include "tests/support/tiny_run.h"
#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TempFolder;

std::vector<float> numbers(const at::Tensor& x) {
  const at::Tensor y = x.contiguous();
  return {y.const_data_ptr<float>(), y.const_data_ptr<float>() + y.numel()};
}

// A model of DMS alone, with two layers of attention, and a run of it.
class TakePicture : public ::testing::Test {
 protected:
  TakePicture() {
    std::string pipeline = testing::pipeline_with(
        "    - {type: transformer, heads: 2}\n    - {type: conv}\n    - {type: transformer, heads: "
        "4}\n");
    pipeline.replace(pipeline.find("reactivity_head"), 15, "reactivity_head, targets: [dms]");
    auto specs = testing::reactivity_streams();
    specs.push_back({"error.reactivity", {dim::length, 2}, at::kFloat, NAN, {"dms", "2a3"}});
    testing::write_run(temp_ / "run", pipeline, specs);
    sample_ = sequence_batch({"ACGUN"});
    sample_.set("target.reactivity", at::arange(10, at::kFloat).view({1, 5, 2}));
    sample_.set("error.reactivity", at::arange(10, 20, at::kFloat).view({1, 5, 2}));
  }
  TempFolder temp_;
  Streams sample_;
};

TEST_F(TakePicture, MeasurementsStandBesideTheTargetOfTheirName) {
  const Ensemble ensemble({temp_ / "run"}, {});
  const Picture picture = take_picture(ensemble, "a", sample_, std::nullopt);
  EXPECT_EQ(picture.letters, "ACGUN");
  ASSERT_EQ(picture.profile.size(), 1u);
  EXPECT_EQ(picture.profile[0].target, "DMS");
  EXPECT_EQ(picture.profile[0].measured, (std::vector<float>{1, 3, 5, 7, 9}));
  EXPECT_EQ(picture.profile[0].error, (std::vector<float>{10, 12, 14, 16, 18}));
  const auto predicted = Predictor({temp_ / "run"}).predict({"ACGUN"});
  EXPECT_EQ(picture.profile[0].predicted, numbers(predicted[0]));

  const Picture bare = take_picture(ensemble, "b", sequence_batch({"GG"}), std::nullopt);
  EXPECT_TRUE(bare.profile.at(0).measured.empty());
}

TEST_F(TakePicture, ShowsTheLayerAskedForAndElseTheLast) {
  const Ensemble ensemble({temp_ / "run"}, {});
  const Picture last = take_picture(ensemble, "a", sample_, std::nullopt);
  EXPECT_EQ(last.layer, 2);
  EXPECT_EQ(last.layers, 2);
  ASSERT_EQ(last.attention.size(), 4u);
  EXPECT_EQ(last.attention[3].size, 5u);
  EXPECT_FALSE(last.pairing.has_value());
  EXPECT_FALSE(last.pair_strength.has_value());
  const Picture first = take_picture(ensemble, "a", sample_, 1);
  EXPECT_EQ(first.layer, 1);
  EXPECT_EQ(first.attention.size(), 2u);
  for (const int64_t layer : {0, 3}) {
    EXPECT_THAT(error_of([&] { take_picture(ensemble, "a", sample_, layer); }),
                HasSubstr(": the layers that show their attention are 1 to 2"));
  }
}

}  // namespace
}  // namespace ribo
