#include <ATen/ops/allclose.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "openvaccine/openvaccine_source.h"
#include "train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::TempFolder;
using testing::write_text;
using Options = OpenVaccineSource::Options;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

std::string row(const std::string& id, int sn_filter = 1) {
  std::string text = cat(R"({"id": ")", id, R"(", "sequence": "ACGU", "seq_length": 4, )",
                         R"("seq_scored": 2, "signal_to_noise": 3.5, "SN_filter": )", sn_filter);
  double value = 0.25;
  for (const auto key : kOpenVaccineTargets) {
    text += cat(", \"", key, "\": [", value, ", null]");
    value += 1;
  }
  return text + "}\n";
}

class OpenVaccine : public ::testing::Test {
 protected:
  OpenVaccine() {
    std::string text;
    for (int i = 0; i < 60; ++i) text += row(cat("id_", i), i % 3 > 0);
    write_text(folder_ / "train.json", text);
    options_.train = {"train.json"};
    context_ = {folder_.path(), folder_.path(), 0};
  }
  std::set<std::string> ids(const char* name) {
    const auto split = OpenVaccineSource(options_, context_).split(name);
    std::set<std::string> result;
    for (int64_t i = 0; i < split->size(); ++i) result.insert(split->id(i));
    return result;
  }
  std::string failure(const std::string& text) {
    write_text(folder_ / "bad.json", text);
    const std::string message = error_of([&] { read_openvaccine({folder_ / "bad.json"}, true); });
    const std::string name = (folder_ / "bad.json").string();
    EXPECT_TRUE(message.starts_with(name)) << message;
    return message.substr(std::min(message.size(), name.size()));
  }
  TempFolder folder_;
  Options options_;
  DataContext context_;
};

TEST_F(OpenVaccine, LabelsEndAtSeqScored) {
  const Streams sample = OpenVaccineSource(options_, context_).split("train")->get(0, 7);
  const at::Tensor& y = sample.get("target.reactivity");
  ASSERT_EQ(y.sizes(), (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(y[0][0].item<float>(), 0.25f);
  EXPECT_EQ(y[0][4].item<float>(), 4.25f);
  for (int p = 1; p < 4; ++p) EXPECT_TRUE(std::isnan(y[p][2].item<float>()));
  EXPECT_EQ(sample.get("tokens")[3].item<int64_t>(), 3);
  EXPECT_EQ(sample.get("signal_to_noise")[0].item<float>(), 3.5f);
  options_.clip = {0, 1};
  const Streams clipped = OpenVaccineSource(options_, context_).split("train")->get(0, 0);
  EXPECT_EQ(clipped.get("target.reactivity")[0][4].item<float>(), 1);
}

TEST_F(OpenVaccine, ErrorsStandBesideTheirTargetsWhereTheFileHasThem) {
  options_.valid_fraction = 0;
  write_text(folder_ / "train.json",
             row("a") + replaced(row("b"), "\"SN_filter\"",
                                 R"("reactivity_error": [0.5, 0.25], "deg_error_50C": [null, 2], )"
                                 "\"SN_filter\""));
  const auto split = OpenVaccineSource(options_, context_).split("train");
  EXPECT_TRUE(split->get(0, 0).get("error.reactivity").isnan().all().item<bool>());
  const at::Tensor error = split->get(1, 0).get("error.reactivity");
  ASSERT_EQ(error.sizes(), (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(error[0][0].item<float>(), 0.5f);
  EXPECT_EQ(error[1][0].item<float>(), 0.25f);
  EXPECT_EQ(error[1][4].item<float>(), 2);
  EXPECT_EQ(error.isfinite().sum().item<int64_t>(), 3);
  EXPECT_TRUE(testing::contains(
      failure(replaced(row("b"), "\"SN_filter\"", "\"deg_error_pH10\": [1], \"SN_filter\"")),
      "`deg_error_pH10` has 1 values, but seq_scored is 2"));
}

TEST_F(OpenVaccine, HoldsOutExactlyTheShareAndAlwaysTheSameRows) {
  const auto valid = ids("valid"), train = ids("train");
  EXPECT_EQ(valid.size(), 4u) << "a tenth of the 40 rows with SN_filter = 1";
  EXPECT_EQ(train.size(), 36u);
  for (const std::string& id : valid) EXPECT_FALSE(train.contains(id)) << id;
  context_.seed = 5;
  EXPECT_EQ(ids("valid"), valid) << "whatever the run's seed";
  options_.train_require_sn_filter = false;
  EXPECT_EQ(ids("valid"), valid);
  EXPECT_EQ(ids("train").size(), 56u);
  options_.split_seed = 1;
  EXPECT_NE(ids("valid"), valid);
  options_.valid_fraction = 0;
  EXPECT_EQ(OpenVaccineSource(options_, context_).split("valid"), nullptr);
}

TEST_F(OpenVaccine, ReportsRowsFiltersAndSharedSequences) {
  EXPECT_EQ(OpenVaccineSource(options_, context_).report(),
            (std::vector<std::string>{"train.json: 60 sequences, 40 with SN_filter = 1",
                                      "valid: 4 sequences",
                                      "train: 36 sequences; dropped: 20 without SN_filter = 1",
                                      "valid: 4 sequences also occur in train"}));
}

TEST_F(OpenVaccine, TestRowsNeedNoLabels) {
  write_text(folder_ / "test.json",
             R"({"seq_id": "t", "sequence": "GGCC", "seq_length": 4, "seq_scored": 3})");
  options_.test = {"test.json"};
  const auto test = OpenVaccineSource(options_, context_).split("test");
  ASSERT_EQ(test->size(), 1);
  EXPECT_EQ(test->id(0), "t");
  EXPECT_TRUE(test->get(0, 0).get("target.reactivity").isnan().all().item<bool>());
  EXPECT_TRUE(std::isnan(test->get(0, 0).get("signal_to_noise")[0].item<float>()));
}

TEST_F(OpenVaccine, ErrorsNameFileLineAndRemedy) {
  const std::string good = row("a"), bad = row("b");
  EXPECT_TRUE(failure(good + "\n{\"id\": }\n").starts_with(":3: not valid JSON at column 8: "));
  EXPECT_EQ(failure(good + "[1]\n"), ":2: not a JSON object; write one object {...} on each line");
  EXPECT_TRUE(failure(good + replaced(bad, "deg_pH10", "deg_pH1O"))
                  .starts_with(":2: the key `deg_pH10` is missing; did you mean"));
  EXPECT_EQ(failure(replaced(bad, "ACGU", "ACXU")),
            ":1: `X` at position 3 of the sequence is not one of A C G U T N; write a modified or "
            "unknown residue as N");
  EXPECT_EQ(failure(replaced(bad, "ACGU", "ACG")),
            ":1: the sequence has 3 letters, but seq_length is 4");
  EXPECT_EQ(
      failure(replaced(bad, "\"seq_scored\": 2", "\"seq_scored\": 3")),
      ":1: `reactivity` has 2 values, but seq_scored is 3; give one for each scored position");
  EXPECT_EQ(failure(replaced(bad, "\"seq_scored\": 2", "\"seq_scored\": 5")),
            ":1: seq_scored is 5, more than the 4 letters");
  EXPECT_EQ(failure(replaced(bad, "null", "\"x\"")),
            ":1: `\"x\"` in `reactivity` is not a number; write null where nothing was measured");
  EXPECT_EQ(failure(good + good), ":2: the id `a` stands already at " +
                                      (folder_ / "bad.json").string() +
                                      ":1; remove one of the two");
  EXPECT_EQ(failure("\n"), ":1: the file is empty; it needs one JSON object a line");
}

TEST(OpenVaccineData, HasTheRowsThatItsReadmeStates) {
  const char* root = std::getenv("RIBO_DATA");
  if (!root) GTEST_SKIP() << "RIBO_DATA is not set";
  Options options;
  options.train = {"openvaccine/train.json"};
  options.test = {"openvaccine/test.json"};
  const OpenVaccineSource source(options, {root, {}, 0});
  EXPECT_EQ(source.report()[0], "train.json: 2097 sequences, 1587 with SN_filter = 1");
  EXPECT_EQ(source.split("valid")->size(), 159);
  EXPECT_EQ(source.split("train")->size(), 1428);
  EXPECT_EQ(source.split("test")->size(), 3634);
  const auto train = source.split("train");
  for (int64_t i = 0; i < train->size(); ++i) {
    const at::Tensor y = train->get(i, 0).get("target.reactivity");
    ASSERT_EQ(y.size(0), 107);
    ASSERT_FALSE(y.slice(0, 0, 68).isnan().any().item<bool>());
    ASSERT_TRUE(y.slice(0, 68).isnan().all().item<bool>());
  }
}

}  // namespace
}  // namespace ribo
