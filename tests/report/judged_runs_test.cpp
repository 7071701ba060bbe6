// evaluate_run() and compare_runs() on runs with random weights and small files.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "report/compare_runs.h"
#include "tests/support/tiny_run.h"
#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::pipeline_with;
using testing::TempFolder;

// Ribonanza's table: `n` sequences of 20 to 39 nt, both profiles measured but for the last 4 bases.
std::string table_of(size_t n, const std::string& prefix = "s", bool measured = true) {
  std::string text = "id,sequence,experiment_type,dataset_name,reads,signal_to_noise,SN_filter";
  for (int p = 1; p <= 40; ++p) text += cat(",reactivity_00", p < 10 ? "0" : "", p);
  for (size_t i = 0; i < n; ++i) {
    const size_t length = 20 + i * 7 % 20;
    std::string letters;
    for (size_t p = 0; p < length; ++p) letters += "ACGU"[(i * i + p * (i + 3)) / 3 % 4];
    for (const char* experiment : {"2A3_MaP", "DMS_MaP"}) {
      text += cat("\n", prefix, i, ",", letters, ",", experiment, ",x,100,", 0.4 * (i + 1), ",1");
      for (size_t p = 0; p < 40; ++p) {
        text += measured && p + 4 < length ? cat(",0.", (i + p * 13) % 90 + 10) : ",";
      }
    }
  }
  return text + "\n";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

class JudgedRuns : public ::testing::Test {
 protected:
  JudgedRuns() {
    setenv("RIBO_CACHE", (temp_ / "cache").c_str(), 1);
    testing::write_text(temp_ / "x.csv", table_of(12));
    testing::write_text(temp_ / "y.csv", table_of(12, "t"));
    const std::vector<StreamSpec> specs = {
        {"tokens", {dim::length}, at::kLong, kPadToken, {}},
        {"target.reactivity", {dim::length, 2}, at::kFloat, NAN, {"2a3", "dms"}},
        {"signal_to_noise", {2}, at::kFloat, NAN, {"2a3", "dms"}}};
    testing::write_run(temp_ / "a", pipeline_with("", 1), specs);
    testing::write_run(temp_ / "b", pipeline_with("", 2), specs);
    testing::write_run(temp_ / "c", pipeline_with("    - {type: conv, kernel: 3}\n", 3), specs);
    options_.data.files = {temp_ / "x.csv"};
    options_.device = "cpu";
    options_.resampling.count = 200;
  }
  EvaluationReport evaluated(const std::string& run) { return evaluate_run(temp_ / run, options_); }
  ComparisonReport compared(const std::vector<std::string>& a, const std::vector<std::string>& b) {
    std::vector<fs::path> sides[2];
    for (const auto& run : a) sides[0].push_back(temp_ / run);
    for (const auto& run : b) sides[1].push_back(temp_ / run);
    return compare_runs(sides[0], sides[1], options_, 5);
  }
  template <class Kind, class Call>
  std::string refusal(Call call) {
    try {
      call();
    } catch (const Kind& e) {
      return e.what();
    }
    return "done";
  }

  const TempFolder temp_;
  JudgeOptions options_;
};

TEST_F(JudgedRuns, NeedNoTrainingFiles) {
  const EvaluationReport report = evaluated("a");
  EXPECT_EQ(report.sequences.size(), 12u);
  EXPECT_EQ(report.sequences[2].id, "s2");
  EXPECT_NEAR(report.sequences[2].lowest_signal_to_noise(), 1.2, 1e-6);
  EXPECT_THAT(report.floors_note, HasSubstr("its training data does not open"));
  EXPECT_TRUE(report.floors.empty());
}

// The floors of the run's own data, on data from elsewhere.
TEST_F(JudgedRuns, TakeTheFloorsThatTheTrainingWrote) {
  FloorTables tables;
  tables["reactivity"] = {
      {"2a3", "dms"}, at::full({2}, 0.5f), at::full({kTokens * kTokens * kTokens, 2}, 0.25f)};
  write_floors(temp_ / "a/floors.json", tables);
  const EvaluationReport report = evaluated("a");
  EXPECT_EQ(report.floors_note, "");
  EXPECT_EQ(report.floors, (std::vector<std::string>{"mean", "3-mer median"}));
  EXPECT_NE(report.metrics[0].all.floors[0].value, report.metrics[0].all.floors[1].value);
}

TEST_F(JudgedRuns, ValuesDoNotDependOnBatches) {
  const EvaluationReport one = evaluated("a");
  options_.sets = {"train.valid_batch=5"};
  const EvaluationReport other = evaluated("a");
  for (size_t i = 0; i < 12; ++i) {
    EXPECT_NEAR(one.metrics[0].by_sequence[i], other.metrics[0].by_sequence[i], 1e-6);
  }
  EXPECT_NEAR(one.metrics[0].all.model.value, other.metrics[0].all.model.value, 1e-6);
}

TEST_F(JudgedRuns, ColumnsOfAMeanErrorHaveTheWholeAsTheirMean) {
  const EvaluationReport report = evaluated("a");
  const EvaluationTable& columns = report.metrics[0].tables[0];
  ASSERT_EQ(columns.by, "column");
  ASSERT_EQ(columns.rows.size(), 2u);
  EXPECT_EQ(columns.rows[0].label, "2a3");
  EXPECT_NEAR((columns.rows[0].model.value + columns.rows[1].model.value) / 2,
              report.metrics[0].all.model.value, 1e-9);
}

TEST_F(JudgedRuns, DataWithoutProfilesIsRefused) {
  testing::write_text(temp_ / "x.csv", table_of(12, "s", false));
  options_.data.split = "test";
  EXPECT_THAT(refusal<Error>([&] { evaluated("a"); }),
              HasSubstr("no sequence of the split \"test\" has a measured value for mae"));
  options_.data = {"test", {}};
  EXPECT_THAT(refusal<Error>([&] { evaluated("a"); }), HasSubstr("gone.csv"));
}

TEST_F(JudgedRuns, OfAnotherModelAreRefused) {
  options_.sets = {"model.streams.single=16"};
  EXPECT_THAT(refusal<Error>([&] { evaluated("a"); }),
              HasSubstr("these weights are of another model"));
}

TEST_F(JudgedRuns, ARunComparedWithItselfIsEqual) {
  const ComparisonReport report = compared({"a"}, {"a"});
  EXPECT_EQ(report.metrics[0].all.difference, 0);
  EXPECT_EQ(report.metrics[0].all.p, 1);
  EXPECT_TRUE(most_moved(report.metrics[0], 10).empty());
  EXPECT_TRUE(report.pipeline.empty());
  EXPECT_GT(report.sides[0][0].sequences_per_second, 0);
}

TEST_F(JudgedRuns, AComparisonHasTheValuesOfEachEvaluation) {
  const ComparisonReport report = compared({"a", "b"}, {"c"});
  const PairedDifference& d = report.metrics[0].all;
  ASSERT_EQ(d.a_seeds.size(), 2u);
  EXPECT_NEAR(d.a_seeds[0], evaluated("a").metrics[0].all.model.value, 1e-6);
  EXPECT_NEAR(d.a_seeds[1], evaluated("b").metrics[0].all.model.value, 1e-6);
  EXPECT_NEAR(d.b, evaluated("c").metrics[0].all.model.value, 1e-6);
  EXPECT_NEAR(d.difference, d.b - d.a, 1e-12);
  EXPECT_EQ(report.sequences.size(), report.metrics[0].a.size());
  ASSERT_FALSE(report.pipeline.empty());
  for (const PipelineDifference& p : report.pipeline) EXPECT_NE(p.key, "seed");
}

TEST_F(JudgedRuns, OnOtherDataOrMetricsAreNotCompared) {
  options_.data.files.clear();
  const auto judge_on = [&](const char* run, const std::string& yaml) {
    testing::write_text(temp_ / run / "pipeline.yaml",
                        cat("extends: ", (temp_ / run / "old.yaml").string(), "\n", yaml));
  };
  for (const char* run : {"a", "b"}) {
    fs::copy(temp_ / run / "pipeline.yaml", temp_ / run / "old.yaml");
  }
  const std::string x = (temp_ / "x.csv").string(), y = (temp_ / "y.csv").string();
  const auto refused = [&] { return refusal<ConfigError>([&] { compared({"a"}, {"b"}); }); };
  judge_on("a", cat("data: {valid: [", x, "]}\n"));

  judge_on("b", cat("data: {valid: [", y, "]}\n"));
  EXPECT_THAT(refused(),
              AllOf(HasSubstr("sequence 1 is s0 (20 nt) and t0 (20 nt)"), HasSubstr("--data")));
  judge_on("b", cat("data: {valid: [", x, "], limit: 7}\n"));
  EXPECT_THAT(refused(), HasSubstr("12 and 7 sequences"));
  judge_on("b", cat("data: {valid: [", x, "], clip: [0, 0.5]}\n"));
  EXPECT_THAT(refused(),
              AllOf(HasSubstr("the measured values"), HasSubstr("--set data.KEY=VALUE")));
  judge_on("b", cat("data: {valid: [", x, "]}\nmetrics: [{type: rmse}]\n"));
  EXPECT_THAT(refused(), AllOf(HasSubstr("their metrics differ: [{type: mae}] and [{type: rmse}]"),
                               HasSubstr("--set 'metrics=[{type: mae}]'")));
  judge_on("b", cat("data: {valid: [", x, "]}\n"));
  EXPECT_EQ(refused(), "done");
}

// Batches are read in turns, every other one from the last run on.
TEST_F(JudgedRuns, ThoseThatDifferAreNamed) {
  options_.data.files.clear();
  options_.sets = {"train.valid_batch=1"};
  const auto judge_on = [&](const char* run, const char* file) {
    testing::write_text(temp_ / run / "pipeline.yaml",
                        replaced(pipeline_with("", 1), "valid: [gone.csv]",
                                 cat("valid: [", (temp_ / file).string(), "]")));
  };
  judge_on("a", "x.csv");
  judge_on("b", "z.csv");
  testing::write_text(temp_ / "x.csv", table_of(2));
  // The first value of one of the two sequences, behind its quality.
  for (const std::string value : {"0.4,1,0.10", "0.8,1,0.11"}) {
    testing::write_text(temp_ / "z.csv",
                        replaced(table_of(2), value, value.substr(0, 8) + "55"));
    const std::string told = refusal<ConfigError>([&] { compared({"a"}, {"b"}); });
    EXPECT_THAT(told, HasSubstr("the measured values"));
    for (const char* run : {"a", "b"}) EXPECT_THAT(told, HasSubstr((temp_ / run).string()));
  }
}

TEST_F(JudgedRuns, StopWhileTheyAreScoredBesideTheirFloors) {
  FloorTables tables;
  tables["reactivity"] = {
      {"2a3", "dms"}, at::full({2}, 0.5f), at::full({kTokens * kTokens * kTokens, 2}, 0.25f)};
  write_floors(temp_ / "a/floors.json", tables);
  struct Stopped {};
  int64_t done = 0;
  options_.advance = [&](int64_t sequences, int64_t) {
    if (sequences == 0) throw Stopped();
    done += sequences;
  };
  EXPECT_THROW(evaluated("a"), Stopped);
  EXPECT_EQ(done, 12);
}

TEST_F(JudgedRuns, OfOtherTargetsAreComparedOnCommonColumns) {
  testing::write_run(temp_ / "d", replaced(pipeline_with("", 2), "{type: reactivity_head}",
                                           "{type: reactivity_head, targets: [dms]}"));
  EXPECT_THAT(refusal<ConfigError>([&] { compared({"a"}, {"d"}); }),
              AllOf(HasSubstr("they predict other targets, 2a3, dms and dms"),
                    HasSubstr("--set 'metrics[0].columns=[...]'")));
  options_.sets = {"metrics[0].columns=[dms]"};
  EXPECT_EQ(compared({"a"}, {"d"}).metrics[0].all.sequences, 12u);
}

// What the comparison itself leaves out or changes is no difference between the trainings.
TEST_F(JudgedRuns, DifferencesAreThoseOfTheTrainings) {
  testing::write_text(temp_ / "b/pipeline.yaml",
                      replaced(pipeline_with("", 2), "train: [gone.csv]", "train: [other.csv]"));
  options_.sets = {"train.valid_batch=3"};
  const auto differences = compared({"a"}, {"b"}).pipeline;
  ASSERT_EQ(differences.size(), 2u);
  EXPECT_EQ(differences[0].key, "seed");
  EXPECT_EQ(differences[1].key, "data.train");
  EXPECT_EQ(differences[1].b, "[other.csv]");
}

}  // namespace
}  // namespace ribo
