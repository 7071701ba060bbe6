#include "predict/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace ribo {
namespace {

TEST(Batches, HoldEverySequenceOnceWithinTheLimits) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<size_t> lengths(random() % 50);
    for (size_t& length : lengths) length = 1 + random() % (round % 2 ? 40 : 4000);
    const BatchLimits limits{1 + random() % 9, 1 + random() % 500, random() % 2 * 900};
    std::vector<size_t> seen;
    size_t before = static_cast<size_t>(-1);
    for (const auto& batch : plan_batches(lengths, limits)) {
      ASSERT_FALSE(batch.empty());
      size_t longest = 0;
      for (const size_t i : batch) {
        EXPECT_LE(lengths[i], before) << "the longest come first";
        longest = std::max(longest, lengths[i]);
        seen.push_back(i);
      }
      before = lengths[batch.back()];
      EXPECT_LE(batch.size(), limits.sequences);
      if (batch.size() == 1) continue;
      EXPECT_LE(batch.size() * longest, limits.residues);
      if (limits.pairs > 0) {
        EXPECT_LE(batch.size() * longest * longest, limits.pairs);
      }
    }
    std::sort(seen.begin(), seen.end());
    ASSERT_EQ(seen.size(), lengths.size());
    for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], i);
  }
}

}  // namespace
}  // namespace ribo
