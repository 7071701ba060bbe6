#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "plugins/losses/reactivity/losses.h"
#include "plugins/losses/reactivity/metrics.h"

namespace ribo::reactivity {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Shapes make_shapes(std::vector<std::string> predicted = {"2a3", "dms"},
                   std::vector<std::string> measured = {"2a3", "dms"}) {
  Shapes s;
  const auto width = [](const auto& labels) { return static_cast<int64_t>(labels.size()); };
  s.produce("mask", {dim::batch, dim::length});
  s.produce("pred.reactivity", {dim::batch, dim::length, width(predicted)}, predicted);
  s.produce("target.reactivity", {dim::batch, dim::length, width(measured)}, measured);
  return s;
}

// Two sequences, of three and two residues. Values that must not count are NaN or huge: padding on
// both sides, the unmeasured DMS value of (0, 1).
//   errors 2A3: 1, -2, 0 | 2, 1     DMS: 0.5, -, -1 | 0, 0
Streams make_streams() {
  Streams s;
  s.set("mask", at::tensor({1, 1, 1, 1, 1, 0}).view({2, 3}).to(at::kBool));
  s.set(
      "target.reactivity",
      at::tensor({0.f, 0.f, 0.f, kNaN, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 1e30f, kNaN}).view({2, 3, 2}));
  s.set("pred.reactivity",
        at::tensor({1.f, 0.5f, -2.f, 1e30f, 0.f, -1.f, 2.f, 0.f, 1.f, 0.f, kNaN, 1e30f})
            .view({2, 3, 2})
            .set_requires_grad(true));
  return s;
}

template <class T>
double value_of(T loss, const Streams& streams, Shapes shapes = make_shapes()) {
  loss.shapes(shapes);
  return loss.forward(streams).template item<double>();
}

template <class T>
double score_of(T metric, const Streams& streams, Shapes shapes = make_shapes()) {
  metric.shapes(shapes);
  return metric.finish(metric.accumulate(streams));
}

template <class Options>
Options with_columns(std::vector<std::string> columns) {
  Options o;
  o.columns = std::move(columns);
  return o;
}

template <class Options>
Options with_both() {
  Options o;
  o.both = true;
  return o;
}

constexpr double kNear = 1e-6;

TEST(ReactivityLosses, AreMeansOverWhatWasMeasured) {
  const Streams s = make_streams();
  EXPECT_NEAR(value_of(MaeLoss({}), s), 7.5 / 9, kNear);
  EXPECT_NEAR(value_of(MseLoss({}), s), 11.25 / 9, kNear);
  HuberLoss::Options huber;
  huber.delta = 0.5;
  // Beyond delta: delta (|e| - delta / 2). 1 2 2 1 1 -> .375 .875 .875 .375 .375; 0.5 -> .125.
  EXPECT_NEAR(value_of(HuberLoss(huber), s), 3.0 / 9, kNear);
  EXPECT_NEAR(value_of(McrmseLoss({}), s), (std::sqrt(10. / 5) + std::sqrt(1.25 / 4)) / 2, kNear);
}

TEST(ReactivityLosses, SelectColumnsByName) {
  const Streams s = make_streams();
  EXPECT_NEAR(value_of(MaeLoss(with_columns<MaeLoss::Options>({"dms"})), s), 1.5 / 4, kNear);
  EXPECT_NEAR(value_of(MseLoss(with_columns<MseLoss::Options>({"2a3"})), s), 10. / 5, kNear);
}

TEST(ReactivityLosses, BothCountsPositionsWithAllColumns) {
  const Streams s = make_streams();
  EXPECT_NEAR(value_of(MaeLoss(with_both<MaeLoss::Options>()), s), 5.5 / 8, kNear);
  EXPECT_NEAR(score_of(RibonanzaMae({}), s), 5.5 / 8, kNear);
}

TEST(ReactivityLosses, MatchAHeadThatPredictsSomeOfTheColumns) {
  Streams s = make_streams();
  s.set("pred.reactivity", s.get("pred.reactivity").narrow(-1, 1, 1));
  const Shapes shapes = make_shapes({"dms"});
  EXPECT_NEAR(value_of(MaeLoss({}), s, shapes), 1.5 / 4, kNear);
  EXPECT_NEAR(score_of(Mae({}), s, shapes), 1.5 / 4, kNear);
}

template <class T>
class EveryLoss : public ::testing::Test {};
using Losses = ::testing::Types<MaeLoss, MseLoss, HuberLoss, McrmseLoss>;
TYPED_TEST_SUITE(EveryLoss, Losses);

TYPED_TEST(EveryLoss, GradientsAreFiniteAndZeroWhereNothingWasMeasured) {
  const Streams s = make_streams();
  Shapes shapes = make_shapes();
  TypeParam loss({});
  loss.shapes(shapes);
  loss.forward(s).backward();
  const at::Tensor grad = s.get("pred.reactivity").grad();
  EXPECT_TRUE(grad.isfinite().all().template item<bool>());
  EXPECT_EQ(grad[0][1][1].template item<float>(), 0);
  EXPECT_EQ(grad[1][2].abs().sum().template item<float>(), 0);
  EXPECT_NE(grad[0][1][0].template item<float>(), 0);
}

TYPED_TEST(EveryLoss, IsExactlyZeroWithoutValuesAndSoAreItsGradients) {
  Streams s = make_streams();
  s.set("target.reactivity", at::full({2, 3, 2}, kNaN));
  Shapes shapes = make_shapes();
  TypeParam loss({});
  loss.shapes(shapes);
  const at::Tensor value = loss.forward(s);
  EXPECT_EQ(value.dim(), 0);
  EXPECT_EQ(value.scalar_type(), at::kFloat);
  EXPECT_EQ(value.template item<float>(), 0);
  value.backward();
  const at::Tensor grad = s.get("pred.reactivity").grad();
  ASSERT_TRUE(grad.defined());
  EXPECT_EQ(grad.abs().sum().template item<float>(), 0);
}

TYPED_TEST(EveryLoss, HasNoNaNGradientForAPerfectPrediction) {
  Streams s = make_streams();
  s.set("pred.reactivity", at::zeros({2, 3, 2}).set_requires_grad(true));
  Shapes shapes = make_shapes();
  TypeParam loss({});
  loss.shapes(shapes);
  const at::Tensor value = loss.forward(s);
  EXPECT_EQ(value.template item<float>(), 0);
  value.backward();
  EXPECT_TRUE(s.get("pred.reactivity").grad().isfinite().all().template item<bool>());
}

TYPED_TEST(EveryLoss, ComputesInFloat32ForNarrowPredictions) {
  Streams s = make_streams();
  const double want = value_of(TypeParam({}), s);
  s.set("pred.reactivity", s.get("pred.reactivity").to(at::kBFloat16));  // exact for these values
  EXPECT_NEAR(value_of(TypeParam({}), s), want, kNear);
}

TEST(ReactivityMetrics, AgreeWithHandComputedScores) {
  const Streams s = make_streams();
  EXPECT_NEAR(score_of(Mae({}), s), 7.5 / 9, kNear);
  EXPECT_NEAR(score_of(Mse({}), s), 11.25 / 9, kNear);
  EXPECT_NEAR(score_of(Rmse({}), s), std::sqrt(11.25 / 9), kNear);
  EXPECT_NEAR(score_of(Mcrmse({}), s), (std::sqrt(10. / 5) + std::sqrt(1.25 / 4)) / 2, kNear);
}

// 2A3: x = 1 2 3 4, y = 2 1 4 3 -> 0.6; DMS: y = -x -> -1.
TEST(ReactivityMetrics, PearsonIsTheMeanOverColumnsThatVary) {
  Streams s;
  s.set("mask", at::ones({1, 4}, at::kBool));
  const at::Tensor x = at::tensor({1.f, 2.f, 3.f, 4.f});
  s.set("pred.reactivity", at::stack({x, x}, -1).unsqueeze(0));
  s.set("target.reactivity",
        at::stack({at::tensor({2.f, 1.f, 4.f, 3.f}), -x + 1000}, -1).unsqueeze(0));
  EXPECT_NEAR(score_of(Pearson({}), s), -0.2, kNear);
  s.set("pred.reactivity", at::stack({x, at::full({4}, 0.1f)}, -1).unsqueeze(0));
  EXPECT_NEAR(score_of(Pearson({}), s), 0.6, kNear);
  EXPECT_FALSE(Pearson({}).lower_is_better());
}

template <class T>
class EveryMetric : public ::testing::Test {};
using Metrics = ::testing::Types<Mae, Mse, Rmse, Mcrmse, RibonanzaMae, Pearson>;
TYPED_TEST_SUITE(EveryMetric, Metrics);

// A score depends neither on the batches nor on their padding.
TYPED_TEST(EveryMetric, AddsUpOverBatches) {
  at::manual_seed(7);
  const at::Tensor pred = at::rand({6, 9, 2}), target = at::rand({6, 9, 2});
  target.masked_fill_(at::rand({6, 9, 2}) < 0.3, kNaN);
  TypeParam metric({});
  Shapes shapes = make_shapes();
  metric.shapes(shapes);
  const auto part = [&](int64_t start, int64_t count, int64_t padding) {
    Streams s;
    const auto pad = [&](const at::Tensor& x, double value) {
      return at::constant_pad_nd(x.narrow(0, start, count), {0, 0, 0, padding}, value);
    };
    s.set("mask", at::constant_pad_nd(at::ones({count, 9}, at::kBool), {0, padding}, 0));
    s.set("pred.reactivity", pad(pred, 5));
    s.set("target.reactivity", pad(target, 3));
    return metric.accumulate(s);
  };
  const at::Tensor whole = part(0, 6, 0);
  EXPECT_EQ(whole.dim(), 1);
  EXPECT_EQ(whole.scalar_type(), at::kDouble);
  EXPECT_NEAR(metric.finish(part(0, 1, 4) + part(1, 5, 1)), metric.finish(whole), 1e-12);
}

TYPED_TEST(EveryMetric, IsNaNWhenNothingWasMeasured) {
  Streams s = make_streams();
  s.set("target.reactivity", at::full({2, 3, 2}, kNaN));
  EXPECT_TRUE(std::isnan(score_of(TypeParam({}), s)));
}

TEST(ReactivityColumns, AnUnknownColumnIsToldWithTheKnownOnes) {
  Shapes shapes = make_shapes();
  try {
    MaeLoss(with_columns<MaeLoss::Options>({"dsm"})).shapes(shapes);
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_STREQ(e.what(),
                 "columns: \"target.reactivity\" has no column \"dsm\"; did you mean \"dms\"?; it "
                 "has: 2a3, dms");
  }
}

TEST(ReactivityColumns, AColumnThatNoHeadPredictsIsAnError) {
  Shapes shapes = make_shapes({"2a3"});
  EXPECT_THROW(MaeLoss(with_columns<MaeLoss::Options>({"dms"})).shapes(shapes), ConfigError);
}

TEST(ReactivityColumns, WithoutNamesAreMatchedByTheirPlaces) {
  Shapes s;
  s.produce("mask", {dim::batch, dim::length});
  s.produce("pred.reactivity", {dim::batch, dim::length, 2});
  s.produce("target.reactivity", {dim::batch, dim::length, 2});
  EXPECT_NEAR(value_of(MaeLoss({}), make_streams(), s), 7.5 / 9, kNear);
  s.produce("target.reactivity", {dim::batch, dim::length, 3});
  EXPECT_THROW(MaeLoss({}).shapes(s), ConfigError);
}

}  // namespace
}  // namespace ribo::reactivity
