#include "train/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "support/blocks.h"
#include "support/tiny_split.h"
#include "temp_folder.h"

namespace ribo {
namespace {

using testing::TinySplit;

using Order = std::vector<std::vector<int64_t>>;

std::shared_ptr<TinySplit> split(int64_t count = 50) {
  return std::make_shared<TinySplit>(testing::mixed_lengths(count));
}

LoaderOptions training(int64_t batch = 4, uint64_t seed = 1) {
  LoaderOptions o;
  o.batch = batch;
  o.seed = seed;
  o.training = true;
  return o;
}

LoaderOptions validating(int64_t batch = 4) {
  LoaderOptions o = training(batch);
  o.training = false;
  return o;
}

Loader make(const LoaderOptions& o, int64_t count = 50) {
  return {split(count), testing::data_streams(), o};
}

std::vector<int64_t> flat(const Order& order) {
  std::vector<int64_t> out;
  for (const auto& batch : order) out.insert(out.end(), batch.begin(), batch.end());
  return out;
}

std::vector<Batch> batches(Loader& loader, int64_t epoch, int64_t first = 0) {
  std::vector<Batch> out;
  loader.start(epoch, first);
  for (Batch batch; loader.next(batch);) out.push_back(batch);
  return out;
}

bool same(const Batch& a, const Batch& b) {
  if (a.indices != b.indices) return false;
  for (const auto& [name, tensor] : a.streams) {
    if (!at::equal(tensor.nan_to_num(-1), b.streams.get(name).nan_to_num(-1))) return false;
  }
  return true;
}

TEST(Loader, TheOrderFollowsFromSeedAndEpochAlone) {
  for (const bool bucket : {false, true}) {
    LoaderOptions o = training();
    o.bucket = bucket;
    Loader one = make(o), other = make(o);
    (void)batches(other, 7);  // what was read before doesn't matter
    EXPECT_EQ(one.order(3), other.order(3));
    EXPECT_NE(one.order(3), one.order(4));
    o.seed = 2;
    EXPECT_NE(one.order(3), make(o).order(3));
  }
}

TEST(Loader, AnEpochVisitsNoSampleTwiceAndFewNever) {
  for (const bool bucket : {false, true}) {
    LoaderOptions o = training(4);
    o.bucket = bucket;
    std::set<int64_t> left_out;
    for (int64_t epoch = 0; epoch < 20; ++epoch) {
      const Loader loader = make(o);
      const auto visited = flat(loader.order(epoch));
      const std::set<int64_t> once(visited.begin(), visited.end());
      EXPECT_EQ(once.size(), visited.size());
      EXPECT_EQ(visited.size(), 48u);  // 12 batches of 4 from 50
      for (int64_t i = 0; i < 50; ++i) {
        if (!once.contains(i)) left_out.insert(i);
      }
    }
    EXPECT_GT(left_out.size(), 20u) << "the same ones are left out each time, bucket " << bucket;
  }
}

TEST(Loader, RanksShareEachBatch) {
  for (const bool bucket : {false, true}) {
    LoaderOptions together = training(12);
    together.bucket = bucket;
    const Order whole = make(together).order(5);
    for (size_t b = 0; b < whole.size(); ++b) {
      std::vector<int64_t> parts;
      for (int64_t rank = 0; rank < 3; ++rank) {
        LoaderOptions o = together;
        o.batch = 4;
        o.rank = rank;
        o.world_size = 3;
        const Loader loader = make(o);
        ASSERT_EQ(loader.batches_per_epoch(), static_cast<int64_t>(whole.size()));
        const auto own = loader.order(5)[b];
        EXPECT_EQ(own.size(), 4u);
        parts.insert(parts.end(), own.begin(), own.end());
      }
      std::vector<int64_t> want = whole[b];
      std::sort(want.begin(), want.end());
      std::sort(parts.begin(), parts.end());
      EXPECT_EQ(parts, want);
    }
  }
}

// 50 = 6 * 8 + 2: in the last batch, two of four ranks have nothing.
TEST(Loader, ValidationSeesEverySampleOnceOverAllRanks) {
  std::vector<int64_t> seen;
  for (int64_t rank = 0; rank < 4; ++rank) {
    LoaderOptions o = validating(2);
    o.rank = rank;
    o.world_size = 4;
    Loader loader = make(o);
    const auto own = batches(loader, 0);
    EXPECT_EQ(own.size(), 7u) << "every rank takes part in every step";
    for (const Batch& batch : own) {
      EXPECT_EQ(batch.streams.tokens().size(0), static_cast<int64_t>(batch.indices.size()));
      seen.insert(seen.end(), batch.indices.begin(), batch.indices.end());
    }
  }
  std::sort(seen.begin(), seen.end());
  ASSERT_EQ(seen.size(), 50u);
  for (int64_t i = 0; i < 50; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

TEST(Loader, AnEpochGoesOnInItsMiddle) {
  Loader loader = make(training());
  const auto whole = batches(loader, 2);
  ASSERT_EQ(whole.size(), 12u);
  for (int64_t first : {0, 1, 5, 11, 12}) {
    const auto rest = batches(loader, 2, first);
    ASSERT_EQ(rest.size(), whole.size() - static_cast<size_t>(first));
    for (size_t i = 0; i < rest.size(); ++i) {
      EXPECT_TRUE(same(rest[i], whole[i + static_cast<size_t>(first)]));
    }
  }
}

TEST(Loader, ANewStartDropsWhatWasPrefetched) {
  Loader loader = make(training());
  const auto want = batches(loader, 1);
  Batch batch;
  loader.start(0);
  ASSERT_TRUE(loader.next(batch));
  loader.start(1);
  ASSERT_TRUE(loader.next(batch));
  EXPECT_TRUE(same(batch, want[0]));
}

TEST(Loader, AugmentationIsDrawnAnewEachEpochAndNeverInValidation) {
  LoaderOptions o = training(50);
  Loader loader = make(o);
  const auto tokens_of_3 = [](const Batch& batch) {
    const auto row = std::find(batch.indices.begin(), batch.indices.end(), 3);
    return batch.streams.tokens()[row - batch.indices.begin()].clone();
  };
  const at::Tensor first = tokens_of_3(batches(loader, 0)[0]);
  EXPECT_FALSE(at::equal(first, tokens_of_3(batches(loader, 1)[0])));
  EXPECT_TRUE(at::equal(first, tokens_of_3(batches(loader, 0)[0])));
  o.training = false;
  Loader still = make(o);
  const at::Tensor measured = tokens_of_3(batches(still, 0)[0]);
  const at::Tensor plain = split()->get(3, 0).tokens();
  EXPECT_TRUE(at::equal(measured.narrow(0, 0, plain.size(0)), plain));
}

TEST(Loader, PadsToTheLongestOfTheBatch) {
  const TinySplit data({7, 4, 9});
  const Batch batch = collate(data, testing::data_streams(), {0, 1, 2}, {0, 0, 0});
  EXPECT_TRUE(at::equal(batch.streams.mask().sum(1), at::tensor({7, 4, 9}, at::kLong)));
  EXPECT_EQ(batch.streams.mask().size(1), 9);
  const at::Tensor &tokens = batch.streams.tokens(),
                   &target = batch.streams.get("target.reactivity");
  EXPECT_TRUE(at::equal(tokens[1].narrow(0, 0, 4), data.get(1, 0).tokens()));
  EXPECT_TRUE(tokens[1].narrow(0, 4, 5).eq(kPadToken).all().item<bool>());
  EXPECT_EQ(target.sizes(), (at::IntArrayRef{3, 9, 2}));
  EXPECT_TRUE(target[1].narrow(0, 4, 5).isnan().all().item<bool>()) << "padding is not measured";
  EXPECT_FALSE(target[2].isnan().any().item<bool>());
  EXPECT_EQ(collate(data, testing::data_streams(), {1}, {0}, 20).streams.mask().size(1), 20);
}

TEST(Loader, BucketsWasteLessPadding) {
  const auto positions = [](bool bucket) {
    LoaderOptions o = training(5);
    o.bucket = bucket;
    Loader loader = make(o);
    int64_t n = 0;
    for (const Batch& batch : batches(loader, 0)) n += batch.streams.mask().numel();
    return n;
  };
  const int64_t needed = 50 * 21 / 2;  // lengths 6..15
  EXPECT_GE(positions(true), needed);
  EXPECT_LT(positions(true) - needed, (positions(false) - needed) / 4);
}

TEST(Loader, ABatchLargerThanTheSplitBecomesTheSplit) {
  Loader loader = make(training(64), 10);
  EXPECT_EQ(loader.batches_per_epoch(), 1);
  EXPECT_EQ(batches(loader, 0)[0].indices.size(), 10u);
}

class Broken final : public Split {
 public:
  int64_t size() const override { return 8; }
  int64_t length(int64_t) const override { return 5; }
  std::string id(int64_t) const override { return "x"; }
  Streams get(int64_t i, uint64_t) const override {
    if (i == 5) throw Error("data.csv:7: not a number");
    return TinySplit({5}).get(0, 0);
  }
};

TEST(Loader, HandsOnWhatTheDataSourceThrows) {
  Loader loader(std::make_shared<Broken>(), testing::data_streams(), validating(2));
  loader.start(0);
  Batch batch;
  EXPECT_TRUE(loader.next(batch));
  EXPECT_TRUE(loader.next(batch));
  EXPECT_EQ(testing::error_of([&] { loader.next(batch); }), "data.csv:7: not a number");
}

}  // namespace
}  // namespace ribo
