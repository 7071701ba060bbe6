#include "report/comparison_report.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "rows.h"

namespace ribo {
namespace {

using Json = nlohmann::json;
using testing::error_rows;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::scores_of;
using ::testing::StartsWith;

MetricComparison compared(double a, double b, size_t seeds = 1, double own = 0.01) {
  std::vector<MetricScores> sides[2];
  for (size_t s = 0; s < seeds; ++s) {
    sides[0].push_back(scores_of(error_rows(100, a, 0.1, own, 10 + s)));
    sides[1].push_back(scores_of(error_rows(100, b, 0.1, own, 20 + s)));
  }
  return compare_metric(sides[0], sides[1], {500, 0});
}

TEST(Verdicts, NameTheBetterSide) {
  EXPECT_THAT(verdict(compared(0.40, 0.36)), StartsWith("B is better on mae: 0.3"));
  EXPECT_THAT(verdict(compared(0.36, 0.40)), StartsWith("A is better on mae: 0.3"));
  MetricComparison higher = compared(0.36, 0.40);
  higher.lower_is_better = false;
  EXPECT_THAT(verdict(higher), StartsWith("B is better on mae: 0.4"));
}

TEST(Verdicts, SayWhenTheDataCannotTell) {
  EXPECT_THAT(verdict(compared(0.40, 0.40)),
              StartsWith("The data cannot tell A and B apart on mae"));
  const MetricScores one = scores_of(error_rows(100, 0.4, 0.1, 0, 1));
  EXPECT_EQ(verdict(compare_metric({one}, {one}, {500, 0})), "A and B score the same on mae.");
  const MetricScores few = scores_of(error_rows(1, 0.4, 0.1, 0, 1));
  const MetricScores other = scores_of(error_rows(1, 0.5, 0.1, 0, 1));
  EXPECT_THAT(verdict(compare_metric({few}, {other}, {500, 0})), StartsWith("Too few sequences"));
  MetricScores broken = one;
  broken.rows.sums[0] = NAN;
  EXPECT_THAT(verdict(compare_metric({one}, {broken}, {500, 0})), StartsWith("There is no mae"));
}

TEST(Verdicts, OfOneSeedWarnThatAnotherMayDiffer) {
  EXPECT_THAT(verdict(compared(0.40, 0.36)), HasSubstr("one seed: another one may change this"));
  EXPECT_THAT(verdict(compared(0.40, 0.40)), HasSubstr("one seed: another one may change this"));
  EXPECT_THAT(verdict(compared(0.40, 0.36, 3)), Not(HasSubstr("one seed")));
}

TEST(MostMoved, AreSortedAndNeverUnmeasured) {
  MetricComparison metric;
  metric.a = {0.1, NAN, 0.3, 0.5, 0.2};
  metric.b = {0.2, 0.4, 0.3, 0.1, 0.15};
  EXPECT_EQ(most_moved(metric, 10), (std::vector<size_t>{3, 0, 4}));
  EXPECT_EQ(most_moved(metric, 1), (std::vector<size_t>{3}));
}

TEST(ComparisonReports, TextAndJsonHoldTheSame) {
  ComparisonReport report;
  report.sides[0].resize(2);
  report.sides[1].resize(2);
  report.sides[0][0] = {"runs/a", "runs/a/checkpoints/step-1", 1234, true, 120.5, {}};
  report.sides[0][0].record = {true, "cpu", "finished", 20, 61, 33.3, int64_t{300} << 20};
  report.source = "simulated";
  report.split = "valid";
  report.metrics = {compared(0.40, 0.36, 2)};
  report.pipeline = {{"model.blocks[1].type", "mamba", "transformer"}};
  for (size_t i = 0; i < 100; ++i) report.sequences.push_back({cat("s", i), 50, {}});

  const Json json = Json::parse(to_json(report));
  const Json& metric = json.at("metrics").at(0);
  EXPECT_EQ(metric.at("difference").get<double>(), report.metrics[0].all.difference);
  EXPECT_EQ(metric.at("A_seeds").size(), 2u);
  EXPECT_EQ(metric.at("verdict"), verdict(report.metrics[0]));
  EXPECT_EQ(json.at("A").at(0).at("training").at("updates"), 20);
  EXPECT_TRUE(json.at("B").at(0).at("training").is_null());
  EXPECT_EQ(json.at("moved").size(), 10u);
  EXPECT_EQ(json.at("sequences").at(7).at("values").at("mae").at("B").get<double>(),
            report.metrics[0].b[7]);

  const std::string text = to_text(report);
  for (const char* part :
       {"A  runs/a/checkpoints/step-1  (mean of both directions)\n", "300 MiB", "parameters",
        "model.blocks[1].type: mamba | transformer\n", "seeds, mae", "moved most, mae"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, HasSubstr(verdict(report.metrics[0]) + "\n"));
}

}  // namespace
}  // namespace ribo
