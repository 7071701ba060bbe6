#include "train/floors.h"

#include <gmock/gmock.h>

#include "tests/support/tiny_split.h"
#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

using ::testing::HasSubstr;
using testing::TempFolder;
using testing::TinySplit;

// Compares one target's columns, all that are predicted.
class AnyMetric final : public Metric {
 public:
  void shapes(Shapes&) override {}
  at::Tensor accumulate(const Streams&) const override { return at::zeros({1}, at::kDouble); }
  double finish(const at::Tensor& sums) const override { return sums[0].item<double>(); }
  std::string target() const override { return "reactivity"; }
};

class Floors : public ::testing::Test {
 protected:
  static Shapes shapes(std::vector<std::string> predicted) {
    Shapes s;
    s.produce("target.reactivity", {dim::batch, dim::length, 2}, {"2a3", "dms"});
    const auto width = static_cast<int64_t>(predicted.size());
    s.produce("pred.reactivity", {dim::batch, dim::length, width}, std::move(predicted));
    return s;
  }
  // What the floors predict for a batch.
  std::vector<at::Tensor> predictions(const FloorTables& tables, const Shapes& shapes) {
    std::vector<at::Tensor> out;
    for (const Floor& floor : make_floors(tables, metrics_, shapes)) {
      Streams streams;
      streams.set("tokens", at::tensor({0, 1, 2, 3, 4, 2, 1, 0}, at::kLong).view({2, 4}));
      streams.set("mask", at::tensor({1, 1, 1, 1, 1, 1, 1, 0}).view({2, 4}).to(at::kBool));
      floor.predict(streams);
      out.push_back(streams.get("pred.reactivity"));
    }
    return out;
  }

  const std::vector<NamedMetric> metrics_ = {{"any", std::make_shared<AnyMetric>()}};
  const TempFolder temp_;
};

TEST_F(Floors, ComeBackFromAFileAsTheyWere) {
  const TinySplit train({30, 40, 50});
  const FloorTables fitted = fit_floors(train, metrics_, shapes({"2a3", "dms"}));
  write_floors(temp_ / "floors.json", fitted);
  const FloorTables read = read_floors(temp_ / "floors.json");
  EXPECT_EQ(read.at("reactivity").columns, (std::vector<std::string>{"2a3", "dms"}));
  EXPECT_TRUE(at::equal(read.at("reactivity").mean, fitted.at("reactivity").mean));
  EXPECT_TRUE(at::equal(read.at("reactivity").median, fitted.at("reactivity").median));
}

TEST_F(Floors, AreThoseOfTheColumnsThatAreCompared) {
  const FloorTables tables = fit_floors(TinySplit({30, 40}), metrics_, shapes({"2a3", "dms"}));
  const auto both = predictions(tables, shapes({"2a3", "dms"}));
  const auto turned = predictions(tables, shapes({"dms", "2a3"}));
  const auto one = predictions(tables, shapes({"dms"}));
  for (size_t f = 0; f < both.size(); ++f) {
    EXPECT_TRUE(at::equal(turned[f], both[f].flip(-1)));
    EXPECT_TRUE(at::equal(one[f], both[f].narrow(-1, 1, 1)));
  }
  EXPECT_THROW(make_floors(tables, metrics_, shapes({"deg"})), Error);
  EXPECT_THROW(make_floors({}, metrics_, shapes({"dms"})), Error);
}

TEST_F(Floors, ADamagedFileIsToldAsThat) {
  for (const char* text : {"", "{}",
                           "{\"targets\": {\"reactivity\": {\"columns\": [], \"mean\": [1], "
                           "\"median\": [1, 2]}}}"}) {
    testing::write_text(temp_ / "floors.json", text);
    try {
      read_floors(temp_ / "floors.json");
      FAIL() << text;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("floors.json: not the floors of a run: "));
    }
  }
}

}  // namespace
}  // namespace ribo
