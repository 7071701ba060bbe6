#include "train/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace ribo {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();

ValidationDone validation(double mae) {
  ValidationDone e;
  e.update = 400;
  e.epoch = 2;
  e.loss = 0.1931;
  e.scores = {{"mae", mae, {{"mean", 0.2861}, {"3-mer median", 0.255}}}};
  return e;
}

UpdateDone update(int64_t n, double loss = 0.25) {
  UpdateDone e;
  e.update = n;
  e.epoch = static_cast<double>(n) / 10;
  e.loss = loss;
  e.sequences = 8;
  e.seconds = 100 + static_cast<double>(n);
  return e;
}

Progress half_way() {
  Progress progress;
  RunStarted start;
  start.updates = 1000;
  start.resumed_at = 400;
  progress.add(start);
  for (int64_t n = 401; n <= 500; ++n) progress.add(update(n));
  progress.add(validation(0.3));
  progress.add(validation(0.2431));
  return progress;
}

int columns(const std::string& text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

TEST(Format, Numbers) {
  EXPECT_EQ(format_score(0.19312), "0.1931");
  EXPECT_EQ(format_score(0), "0.0000");
  EXPECT_EQ(format_score(-3e-5), "-3.000e-05");
  EXPECT_EQ(format_score(1e6), "1.000e+06");
  EXPECT_EQ(format_score(-nan), "nan");
  EXPECT_EQ(format_score(-inf), "-inf");
}

TEST(Format, Durations) {
  EXPECT_EQ(format_duration(7.4), "0:07");
  EXPECT_EQ(format_duration(192), "3:12");
  EXPECT_EQ(format_duration(3753), "1:02:33");
  EXPECT_EQ(format_duration(2 * 86400 + 3 * 3600 + 4 * 60 + 5), "2d 03:04:05");
  for (const double none : {nan, inf, -1.0}) EXPECT_EQ(format_duration(none), "?");
}

TEST(Format, ValidationShowsTheFloorsAndAlignsItsColumns) {
  ValidationDone e = validation(0.2431);
  e.best = true;
  EXPECT_EQ(format_validation(e, 999),
            "  update 400  epoch 2.0  loss 0.1931  valid mae 0.2431  (mean 0.2861, 3-mer median "
            "0.2550)  * best");
  e.best = false;
  EXPECT_EQ(format_validation(e, 4000),
            "  update  400  epoch  2.0  loss 0.1931  valid mae 0.2431  (mean 0.2861, 3-mer median "
            "0.2550)");
  e.scores = {{"mae", nan, {}}};
  EXPECT_EQ(format_validation(e, 400), "  update 400  epoch 2.0  loss 0.1931  valid mae nan");
  e.update = 0;
  e.scores.clear();
  EXPECT_EQ(format_validation(e, 400), "  update   0  epoch 2.0  loss 0.1931");
}

TEST(ProgressLine, OfAResumedRun) {
  EXPECT_EQ(half_way().line(120),
            " 50% ▕███████████████               ▏ 500/1000  loss 0.2500  8.0 seq/s  ETA 8:20  "
            "valid mae 0.2431 ↓");
}

TEST(ProgressLine, FitsEveryWidth) {
  const Progress progress = half_way();
  for (int width = 0; width <= 200; ++width) {
    EXPECT_LE(columns(progress.line(width)), std::max(width - 1, 0)) << width;
  }
  EXPECT_NE(progress.line(40).find("500/1000"), std::string::npos);
  EXPECT_EQ(progress.line(40).find("valid"), std::string::npos);
}

TEST(ProgressLine, ANanIsShownAndForgotten) {
  Progress progress = half_way();
  progress.add(update(501, nan));
  EXPECT_NE(progress.line(120).find("loss nan"), std::string::npos);
  progress.add(update(502));
  EXPECT_NE(progress.line(120).find("loss 0.2500"), std::string::npos);
}

TEST(ProgressLine, MakesSenseBeforeAnythingIsKnown) {
  Progress progress;
  EXPECT_NE(progress.line(80).find("  0% "), std::string::npos);
  progress.add(RunStarted());
  EXPECT_EQ(progress.line(80).find("nan"), std::string::npos);
  progress.add(update(3));  // more than the 0 planned
  EXPECT_NE(progress.line(80).find("  0% "), std::string::npos);
}

TEST(Progress, KnowsWhereEpochsEnd) {
  Progress progress;
  RunStarted start;
  start.updates = 25;
  progress.add(start);
  std::vector<int64_t> ends;
  for (int64_t n = 1; n <= 25; ++n) {
    progress.add(update(n));
    if (progress.at_boundary()) ends.push_back(n);
  }
  EXPECT_EQ(ends, (std::vector<int64_t>{10, 20, 25}));
  start.resumed_at = 10;
  progress.add(start);
  progress.add(update(11));
  EXPECT_FALSE(progress.at_boundary());
}

}  // namespace
}  // namespace ribo
