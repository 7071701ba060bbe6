#include "predict/take_picture.h"

#include <gmock/gmock.h>

#include "ribo/predictor.h"
#include "tests/support/tiny_run.h"
#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

using ::testing::HasSubstr;
using testing::error_of;
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
        "    - {type: transformer, heads: 2}\n    - {type: conv}\n    - {type: transformer, heads: 4}\n");
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
  PicturePage page;
  take_picture(ensemble, "a", sample_, std::nullopt, page);
  const Picture& picture = page.pictures.at(0);
  EXPECT_EQ(picture.letters, "ACGUN");
  ASSERT_EQ(picture.profile.size(), 1u);
  EXPECT_EQ(picture.profile[0].target, "DMS");
  EXPECT_EQ(picture.profile[0].measured, (std::vector<float>{1, 3, 5, 7, 9}));
  EXPECT_EQ(picture.profile[0].error, (std::vector<float>{10, 12, 14, 16, 18}));
  const auto predicted = Predictor({temp_ / "run"}).predict({"ACGUN"});
  EXPECT_EQ(picture.profile[0].predicted, numbers(predicted[0]));

  take_picture(ensemble, "b", sequence_batch({"GG"}), std::nullopt, page);
  EXPECT_TRUE(page.pictures.at(1).profile[0].measured.empty());
}

TEST_F(TakePicture, ShowsTheLayerAskedForAndElseTheLast) {
  const Ensemble ensemble({temp_ / "run"}, {});
  PicturePage page;
  take_picture(ensemble, "a", sample_, std::nullopt, page);
  EXPECT_EQ(page.layer, 2);
  EXPECT_EQ(page.layers, 2);
  EXPECT_EQ(page.pictures.back().attention.size(), 4u);
  EXPECT_EQ(page.pictures.back().attention[3].size, 5u);
  EXPECT_FALSE(page.pictures.back().pairing.has_value());
  EXPECT_FALSE(page.pictures.back().pair_strength.has_value());
  take_picture(ensemble, "a", sample_, 1, page);
  EXPECT_EQ(page.layer, 1);
  EXPECT_EQ(page.pictures.back().attention.size(), 2u);
  for (const int64_t layer : {0, 3}) {
    EXPECT_THAT(error_of([&] { take_picture(ensemble, "a", sample_, layer, page); }),
                HasSubstr(": the layers that show their attention are 1 to 2"));
  }
  EXPECT_EQ(page.pictures.size(), 2u);
}

}  // namespace
}  // namespace ribo
