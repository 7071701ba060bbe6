#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "config/yaml_reader.h"
#include "temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;

constexpr int64_t kTotal = 20, kPerEpoch = 5;

std::shared_ptr<Schedule> make(const std::string& yaml) {
  const Value map = read_yaml(yaml, "t");
  const ScheduleFactory& factory = schedules().at(map.find("type")->text);
  Diagnostics diagnostics;
  const auto options = factory.schema->make_options();
  factory.schema->parse(map, "schedule", {"type"}, diagnostics, options.get());
  diagnostics.throw_if_any();
  return factory.make(options.get());
}

double factor(const std::string& yaml, int64_t update) {
  return make(yaml)->factor(update, kTotal, kPerEpoch);
}

TEST(Schedule, WarmsUpLinearlyAndMovesFromTheFirstUpdateOn) {
  for (const std::string type : {"constant", "cosine", "flat_cosine"}) {
    const std::string yaml = "{type: " + type + ", warmup: 4u}";
    EXPECT_DOUBLE_EQ(factor(yaml, 0), 0.25) << type;
    EXPECT_DOUBLE_EQ(factor(yaml, 1), 0.50) << type;
    EXPECT_DOUBLE_EQ(factor(yaml, 3), 1.00) << type;
    EXPECT_DOUBLE_EQ(factor("{type: " + type + "}", 0), 1.0) << type << " without a warm-up";
    EXPECT_DOUBLE_EQ(factor("{type: " + type + ", warmup: 2e}", 4), 0.5) << type << " in epochs";
  }
}

TEST(Schedule, ConstantStays) { EXPECT_DOUBLE_EQ(factor("{type: constant, warmup: 4u}", 19), 1); }

TEST(Schedule, CosineFallsFromTheEndOfTheWarmUpToItsFinalFactor) {
  const std::string yaml = "{type: cosine, warmup: 4u, final: 0.1}";
  EXPECT_DOUBLE_EQ(factor(yaml, 4), 1);
  EXPECT_NEAR(factor(yaml, 8), 0.1 + 0.9 * 0.5 * (1 + std::sqrt(0.5)), 1e-12);
  EXPECT_NEAR(factor(yaml, 12), 0.55, 1e-12);
  EXPECT_NEAR(factor(yaml, 20), 0.1, 1e-12);
  EXPECT_NEAR(factor(yaml, 30), 0.1, 1e-12) << "never rises again";
}

TEST(Schedule, FlatCosineHoldsItsRateBeforeItFalls) {
  const std::string yaml = "{type: flat_cosine, flat: 0.5, final: 0}";
  for (int64_t u : {0, 5, 9, 10}) EXPECT_DOUBLE_EQ(factor(yaml, u), 1) << u;
  EXPECT_NEAR(factor(yaml, 15), 0.5, 1e-12);
  EXPECT_NEAR(factor(yaml, 20), 0, 1e-12);
  EXPECT_DOUBLE_EQ(factor("{type: flat_cosine, flat: 1}", 19), 1);
}

// Found when the first update asks for its rate, a time would waste the start-up.
TEST(Schedule, RefusesAWarmUpInMinutesAtOnce) {
  for (const std::string type : {"constant", "cosine", "flat_cosine"}) {
    const std::string what = error_of([&] { make("{type: " + type + ", warmup: 2m}"); });
    EXPECT_NE(what.find("warmup"), std::string::npos) << what;
    EXPECT_NE(what.find("updates (100u) or epochs (0.1e)"), std::string::npos) << what;
  }
}

TEST(Schedule, IntervalsBecomeUpdates) {
  EXPECT_EQ(to_updates({30, Interval::Unit::updates}, 7), 30);
  EXPECT_EQ(to_updates({2.5, Interval::Unit::epochs}, 10), 25);
  EXPECT_EQ(to_updates({0.001, Interval::Unit::epochs}, 10), 1) << "at least one";
  EXPECT_THROW(to_updates({30, Interval::Unit::seconds}, 10), ConfigError);
}

}  // namespace
}  // namespace ribo
