#include "train/evaluated_data.h"

#include <gmock/gmock.h>

#include "config/yaml_reader.h"
#include "report/pipeline_difference.h"

namespace ribo {
namespace {

struct FileOptions {
  std::vector<std::string> train, valid, test;
  double valid_fraction = 0.1;
};
struct NumberOptions {
  int64_t train = 10, valid = 10;
};

Schema<FileOptions> files() {
  Schema<FileOptions> s("of files");
  s.param("train", &FileOptions::train, "");
  s.param("valid", &FileOptions::valid, "");
  s.param("test", &FileOptions::test, "");
  s.param("valid_fraction", &FileOptions::valid_fraction, "");
  return s;
}
Schema<NumberOptions> numbers() {
  Schema<NumberOptions> s("of numbers");
  s.param("train", &NumberOptions::train, "");
  s.param("valid", &NumberOptions::valid, "");
  return s;
}

std::string left(const std::string& yaml, const EvaluatedData& evaluated,
                 const SchemaBase& source) {
  Value data = read_yaml(yaml, "x");
  leave_one_split(data, data.find("type")->text, source, evaluated);
  return one_line(data);
}

TEST(EvaluatedData, TrainingFilesAreLeftOutWhereValidationHasItsOwn) {
  EXPECT_EQ(left("{type: f, train: [a], valid: [b], clip: [0, 1]}", {}, files()),
            "{type: f, train: [], valid: [b], clip: [0, 1]}");
  EXPECT_EQ(left("{type: f, train: [a], valid: [b], test: [c]}", {"test", {}}, files()),
            "{type: f, train: [], valid: [], test: [c]}");
}

TEST(EvaluatedData, WhatIsHeldOutOfTheTrainingFilesStays) {
  const std::string yaml = "{type: f, train: [a], valid_fraction: 0.2}";
  EXPECT_EQ(left(yaml, {}, files()), yaml);
  EXPECT_EQ(left(yaml, {"train", {}}, files()), yaml);
  EXPECT_EQ(left(yaml, {"valid", {"/x.csv", "/y.csv"}}, files()),
            "{type: f, train: [], valid: [/x.csv, /y.csv]}");
}

TEST(EvaluatedData, ASourceWithoutFilesIsLeftAlone) {
  EXPECT_EQ(left("{type: n, train: 4}", {}, numbers()), "{type: n, train: 4}");
  try {
    left("{type: n, train: 4}", {"valid", {"/x.csv"}}, numbers());
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("the data source of this run (n) reads no files"));
  }
  EXPECT_THROW(left("{type: f, train: [a]}", {"train", {"/x.csv"}}, files()), ConfigError);
}

TEST(EvaluatedData, FilesOfAPipelineStayWhatTheyAreWhereverItIsKept) {
  const auto placed = [](const std::string& yaml, const SchemaBase& source) {
    Value data = read_yaml(yaml, "x");
    make_files_absolute(data, source, "/home/me");
    return one_line(data);
  };
  const std::string once = placed("{type: f, train: [a.csv, /b.csv], valid: ../c.csv}", files());
  EXPECT_EQ(once, "{type: f, train: [/home/me/a.csv, /b.csv], valid: /home/c.csv}");
  EXPECT_EQ(placed(once, files()), once);
  const std::string others = "{type: f, columns: [a], test: [], valid: ~}";
  EXPECT_EQ(placed(others, files()), placed(others, numbers()));
  EXPECT_EQ(placed("{type: n, train: 4}", numbers()), "{type: n, train: 4}");
}

TEST(EvaluatedData, ASplitWithoutSequencesIsToldWhatItTakes) {
  const Value data = read_yaml("{type: f, train: [a], valid: []}", "x");
  EXPECT_EQ(remedy_for_no_split(data, files(), "valid", false), "; give its files with data.valid");
  EXPECT_EQ(remedy_for_no_split(data, files(), "test", true),
            "; give its files with --data or data.test");
  EXPECT_EQ(remedy_for_no_split(data, files(), "train", true), "");
  EXPECT_EQ(remedy_for_no_split(data, numbers(), "test", true),
            "; choose another one with --split");
  EXPECT_EQ(remedy_for_no_split(data, numbers(), "test", false), "");
}

}  // namespace
}  // namespace ribo
