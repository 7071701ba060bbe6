#include "report/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "rows.h"

namespace ribo {
namespace {

using testing::error_rows;
using testing::mean_error;

TEST(Estimates, HoldTheirValueAndAreTheSameEachTime) {
  for (const size_t n : {2u, 7u, 60u}) {
    const MetricRows rows = error_rows(n, 0.4, 0.1, 0.05, n);
    const Estimate e = estimate(rows, all_of(n), mean_error, {500, 3});
    EXPECT_EQ(e.sequences, n);
    ASSERT_TRUE(e.interval);
    EXPECT_LE(e.interval->low, e.value);
    EXPECT_GE(e.interval->high, e.value);
    const Estimate again = estimate(rows, all_of(n), mean_error, {500, 3});
    EXPECT_EQ(e.interval->low, again.interval->low);
    EXPECT_EQ(e.interval->high, again.interval->high);
  }
}

// A mean of n values of standard deviation s has an interval of about 2 * 1.96 * s / sqrt(n).
TEST(Estimates, TheIntervalIsAsWideAsItShouldBe) {
  const MetricRows rows = error_rows(400, 0.4, 0, 0.1, 5);
  const Estimate e = estimate(rows, all_of(400), mean_error, {2000, 0});
  EXPECT_NEAR(e.interval->high - e.interval->low, 2 * 1.96 * 0.1 / 20, 0.003);
}

TEST(Estimates, WhatWasNotMeasuredDoesNotCount) {
  MetricRows rows = error_rows(20, 0.4, 0.1, 0, 1);
  const Estimate before = estimate(rows, all_of(20), mean_error, {200, 0});
  rows.sums.resize(2 * 30);  // ten more without a value
  const Estimate after = estimate(rows, all_of(30), mean_error, {200, 0});
  EXPECT_EQ(after.sequences, 20u);
  EXPECT_EQ(after.value, before.value);
  EXPECT_EQ(after.interval->low, before.interval->low);

  const Estimate none = estimate(rows, {25, 26}, mean_error, {200, 0});
  EXPECT_EQ(none.sequences, 0u);
  EXPECT_TRUE(std::isnan(none.value));
  EXPECT_FALSE(none.interval);
  EXPECT_FALSE(estimate(rows, {3, 25}, mean_error, {200, 0}).interval);
}

TEST(Estimates, CanBeStopped) {
  struct Stopped {};
  const MetricRows rows = error_rows(20, 0.4, 0.1, 0, 1);
  int64_t left = 150;
  const Resampling resampling{200, 0, [&] {
                                if (left-- == 0) throw Stopped();
                              }};
  EXPECT_THROW(estimate(rows, all_of(20), mean_error, resampling), Stopped);
  left = 300;  // into the permutations
  EXPECT_THROW(compare_paired({rows}, {rows}, mean_error, resampling), Stopped);
}

// Of a model that predicts NaN for one sequence, most resamples would hide that.
TEST(Estimates, WhatIsNotANumberHasNoInterval) {
  const MetricRows good = error_rows(20, 0.4, 0.1, 0, 1);
  MetricRows bad = good;
  bad.sums[4] = NAN;
  EXPECT_TRUE(std::isnan(estimate(bad, all_of(20), mean_error, {200, 0}).value));
  EXPECT_FALSE(estimate(bad, all_of(20), mean_error, {200, 0}).interval);
  const PairedDifference d = compare_paired({good}, {bad}, mean_error, {200, 0});
  EXPECT_TRUE(std::isnan(d.difference));
  EXPECT_FALSE(d.interval);
  EXPECT_EQ(d.p, 1);
}

TEST(PairedDifferences, OfEqualSidesAreNone) {
  const MetricRows rows = error_rows(50, 0.4, 0.1, 0.05, 1);
  const PairedDifference d = compare_paired({rows}, {rows}, mean_error, {500, 0});
  EXPECT_EQ(d.difference, 0);
  EXPECT_EQ(d.interval->low, 0);
  EXPECT_EQ(d.interval->high, 0);
  EXPECT_EQ(d.p, 1);
}

// Pairing is what finds it: the sequences differ far more from each other than the sides do.
TEST(PairedDifferences, FindAKnownShift) {
  const MetricRows a = error_rows(200, 0.40, 0.2, 0.01, 1), b = error_rows(200, 0.39, 0.2, 0.01, 2);
  const PairedDifference d = compare_paired({a}, {b}, mean_error, {1000, 0});
  EXPECT_NEAR(d.difference, -0.01, 0.003);
  EXPECT_LT(d.interval->high, 0);
  EXPECT_LT(d.interval->low, -0.01 + 0.003);
  EXPECT_DOUBLE_EQ(d.p, 1.0 / 1001);
  const PairedDifference back = compare_paired({b}, {a}, mean_error, {1000, 0});
  EXPECT_DOUBLE_EQ(back.difference, -d.difference);
  EXPECT_DOUBLE_EQ(back.interval->low, -d.interval->high);
  EXPECT_DOUBLE_EQ(back.p, d.p);
}

// Where the sides do not differ, p is below x in a share x of all experiments, and the interval
// leaves zero out in one of twenty.
TEST(PairedDifferences, AreRarelySignificantWithoutADifference) {
  constexpr int kExperiments = 400;
  std::vector<double> p;
  int left_out = 0;
  for (uint64_t k = 0; k < kExperiments; ++k) {
    const MetricRows a = error_rows(40, 0.4, 0.1, 0.05, 2 * k + 1, 1000 + k);
    const MetricRows b = error_rows(40, 0.4, 0.1, 0.05, 2 * k + 2, 1000 + k);
    const PairedDifference d = compare_paired({a}, {b}, mean_error, {199, k});
    p.push_back(d.p);
    left_out += d.interval->low > 0 || d.interval->high < 0;
  }
  std::sort(p.begin(), p.end());
  double distance = 0;  // Kolmogorov's; beyond 0.0975 in 1 of 1000
  for (size_t i = 0; i < p.size(); ++i) {
    distance = std::max(distance, std::abs(p[i] - static_cast<double>(i + 1) / kExperiments));
  }
  EXPECT_LT(distance, 0.0975);
  EXPECT_GT(left_out, kExperiments * 0.02);
  EXPECT_LT(left_out, kExperiments * 0.10);
}

// Seeds that scatter widen the interval: sequences alone would call this difference certain.
TEST(PairedDifferences, TakeTheScatterOfSeedsIn) {
  const auto seeds = [](std::vector<double> levels) {
    std::vector<MetricRows> out;
    for (const double level : levels) {
      out.push_back(error_rows(300, level, 0.1, 0.01, out.size() + 1));
    }
    return out;
  };
  const auto a = seeds({0.39, 0.40, 0.41}), b = seeds({0.38, 0.39, 0.42});
  const PairedDifference one = compare_paired({a[0]}, {b[0]}, mean_error, {500, 0});
  EXPECT_LT(one.interval->high, 0);
  const PairedDifference all = compare_paired(a, b, mean_error, {500, 0});
  EXPECT_EQ(all.a_seeds.size(), 3u);
  EXPECT_NEAR(all.a, 0.40, 0.02);
  EXPECT_LT(all.interval->low, 0);
  EXPECT_GT(all.interval->high, 0);
  EXPECT_LE(all.interval->low, all.difference);
  EXPECT_GE(all.interval->high, all.difference);
  // A difference that is larger than the scatter is seen in spite of it.
  const PairedDifference far = compare_paired(a, seeds({0.28, 0.29, 0.31}), mean_error, {500, 0});
  EXPECT_LT(far.interval->high, 0);
}

// Sides that differ in nothing but the scatter of their seeds are rarely called different, however
// few the seeds are.
TEST(PairedDifferences, FewSeedsAreNotMistakenForADifference) {
  constexpr int kExperiments = 300;
  std::mt19937_64 generator(7);
  std::normal_distribution<double> normal;
  for (const size_t count : {2u, 3u, 5u}) {
    int left_out = 0;
    for (uint64_t k = 0; k < kExperiments; ++k) {
      std::vector<MetricRows> sides[2];
      for (auto& side : sides) {
        for (size_t s = 0; s < count; ++s) {
          side.push_back(
              error_rows(10, 0.4 + 0.03 * normal(generator), 0.1, 0.001, generator(), k));
        }
      }
      const PairedDifference d = compare_paired(sides[0], sides[1], mean_error, {200, k});
      left_out += d.interval->low > 0 || d.interval->high < 0;
    }
    EXPECT_LT(left_out, kExperiments * 0.11) << count;
  }
}

}  // namespace
}  // namespace ribo
