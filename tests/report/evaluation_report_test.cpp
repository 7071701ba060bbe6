#include "report/evaluation_report.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "rows.h"

namespace ribo {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class EvaluationReports : public ::testing::Test {
 protected:
  EvaluationReports() {
    report_.source = "simulated";
    report_.split = "valid";
    report_.resampling = {200, 0};
    report_.floors = {"mean"};
    MetricScores scores = testing::scores_of(testing::error_rows(30, 0.2, 0.05, 0, 1));
    for (size_t k = 40; k < 60; ++k) scores.rows.sums[k] = 0;  // ten without a value
    scores.floors = {{"mean", testing::error_rows(30, 0.5, 0.05, 0, 1)}};
    scores.columns = {testing::scores_of(testing::error_rows(30, 0.1, 0.05, 0, 1), "2a3")};
    for (size_t i = 0; i < 30; ++i) {
      report_.sequences.push_back({cat("s", i), i < 10 ? 50 : 120, {i < 5 ? NAN : 3.0, 1.5}});
    }
    add_metrics(report_, {scores});
  }
  EvaluationReport report_;
};

TEST_F(EvaluationReports, TablesAddUpToTheWhole) {
  const MetricReport& metric = report_.metrics[0];
  EXPECT_EQ(metric.all.model.sequences, 20u);
  for (const EvaluationTable& table : metric.tables) {
    if (table.by == "column") continue;
    size_t sequences = 0;
    for (const EvaluationRow& row : table.rows) sequences += row.model.sequences;
    EXPECT_EQ(sequences, 20u) << table.by;
  }
}

TEST(EvaluationTables, SequencesWithoutQualityAreUnknownAndMoveNoOthers) {
  EvaluationReport report;
  report.resampling = {200, 0};
  for (size_t i = 0; i < 4; ++i) report.sequences.push_back({cat("s", i), 50, {}});
  report.sequences[3].signal_to_noise = {10};
  MetricScores scores = testing::scores_of(testing::error_rows(4, 0.2, 0.05, 0, 1));
  add_metrics(report, {scores});
  const EvaluationTable& table = report.metrics[0].tables.back();
  ASSERT_EQ(table.by, "signal_to_noise");
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0].model.value, report.metrics[0].by_sequence[3]);
  EXPECT_EQ(table.rows[1].label, "unknown");
  EXPECT_EQ(table.rows[1].model.sequences, 3u);

  report.sequences[3].signal_to_noise.clear();
  report.metrics.clear();
  add_metrics(report, {scores});
  EXPECT_EQ(report.metrics[0].tables.back().by, "length");
}

TEST_F(EvaluationReports, JsonIsReadBack) {
  const Json json = Json::parse(to_json(report_));
  const Json& metric = json.at("metrics").at(0);
  const EvaluationRow& all = report_.metrics[0].all;
  EXPECT_EQ(metric.at("value").get<double>(), all.model.value);
  EXPECT_EQ(metric.at("interval").at(0).get<double>(), all.model.interval->low);
  EXPECT_EQ(metric.at("interval").at(1).get<double>(), all.model.interval->high);
  EXPECT_EQ(metric.at("floors").at("mean").at("value").get<double>(), all.floors[0].value);
  EXPECT_EQ(metric.at("tables").at("column").at(0).at("label"), "2a3");
  EXPECT_EQ(metric.at("tables").at("length").at(0).at("below"), 65);
  const Json& sequences = json.at("sequences");
  ASSERT_EQ(sequences.size(), 30u);
  EXPECT_EQ(sequences[3].at("id"), "s3");
  EXPECT_TRUE(sequences[3].at("signal_to_noise").at(0).is_null());
  EXPECT_EQ(sequences[3].at("values").at("mae").get<double>(), report_.metrics[0].by_sequence[3]);
  EXPECT_TRUE(sequences[25].at("values").at("mae").is_null());
  EXPECT_FALSE(json.contains("no_floors"));
}

TEST_F(EvaluationReports, TextShowsTheFloorsOrWhyThereAreNone) {
  const std::string text = to_text(report_);
  EXPECT_THAT(text, HasSubstr("valid (simulated): 30 sequences\n"));
  EXPECT_THAT(text, HasSubstr("mae (lower is better)"));
  EXPECT_THAT(text, HasSubstr("  length 97..128"));
  EXPECT_THAT(text, HasSubstr("  signal_to_noise 1..2"));
  EXPECT_THAT(text, HasSubstr("  column 2a3"));
  EXPECT_THAT(text, Not(HasSubstr("no floors")));
  report_.floors_note = "the training data is gone";
  EXPECT_THAT(to_text(report_), HasSubstr("\nno floors: the training data is gone\n"));
}

}  // namespace
}  // namespace ribo
