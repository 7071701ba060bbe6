#include "report/bins.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ribo {
namespace {

TEST(Bins, EverySequenceIsInOne) {
  std::vector<int64_t> lengths;
  for (int64_t length = 1; length < 5000; length = length * 5 / 4 + 1) lengths.push_back(length);
  lengths.push_back(int64_t{1} << 22);
  size_t members = 0;
  double end = 0;
  for (const Bin& bin : bins_by_length(lengths)) {
    EXPECT_GE(bin.lower.value_or(0), end) << bin.label;
    end = bin.upper.value_or(end);
    for (const size_t i : bin.members) {
      EXPECT_GE(static_cast<double>(lengths[i]), bin.lower.value_or(0)) << bin.label;
      EXPECT_LT(static_cast<double>(lengths[i]), bin.upper.value_or(1e9)) << bin.label;
    }
    members += bin.members.size();
  }
  EXPECT_EQ(members, lengths.size());
}

TEST(Bins, OfLengthsAreNamedByTheirEnds) {
  const auto bins = bins_by_length({107, 128, 129, 32});
  ASSERT_EQ(bins.size(), 3u);
  EXPECT_EQ(bins[0].label, "1..32");
  EXPECT_EQ(bins[1].label, "97..128");
  EXPECT_EQ(bins[1].members, (std::vector<size_t>{0, 1}));
  EXPECT_EQ(bins[2].label, "129..192");
}

TEST(Bins, OfQualityKeepTheUnknownApart) {
  const auto bins = bins_by_signal_to_noise({0.1, NAN, 1, 1.99, 400});
  ASSERT_EQ(bins.size(), 4u);
  EXPECT_EQ(bins[0].label, "< 0.5");
  EXPECT_EQ(bins[1].label, "1..2");
  EXPECT_EQ(bins[1].members, (std::vector<size_t>{2, 3}));
  EXPECT_EQ(bins[2].label, ">= 16");
  EXPECT_EQ(bins[3].label, "unknown");
  EXPECT_EQ(bins[3].members, (std::vector<size_t>{1}));
}

}  // namespace
}  // namespace ribo
