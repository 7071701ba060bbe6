#include "base_pairing/pairings.h"

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "folding/partition_function.h"

namespace ribo::pairing {
namespace {

constexpr std::size_t kPlenty = 1 << 20;

std::vector<std::string> random_sequences(int count, int length) {
  std::mt19937 random(5);
  std::vector<std::string> out(count, std::string(length, ' '));
  for (std::string& sequence : out) {
    for (char& letter : sequence) letter = "ACGU"[random() % 4];
  }
  return out;
}

TEST(Pairings, AreTheLikelyPairsOfThePartitionFunction) {
  const std::string sequence = random_sequences(1, 60)[0];
  const auto all = fold::partition_function(sequence).pair_probability;
  std::vector<Pair> want;
  for (std::uint16_t i = 0; i < 60; ++i) {
    for (std::uint16_t j = i; j < 60; ++j) {
      if (all[i * 60 + j] >= kLeastProbability) want.push_back({i, j, all[i * 60 + j]});
    }
  }
  ASSERT_GT(want.size(), 10u);
  EXPECT_EQ(*Pairings(kPlenty).of({sequence})[0], want);
}

TEST(Pairings, EachSequenceIsFoldedOnce) {
  Pairings pairings(kPlenty);
  std::vector<std::string> sequences = random_sequences(6, 40);
  sequences.push_back(sequences[2]);
  const auto first = pairings.of(sequences);
  EXPECT_EQ(pairings.folded(), 6u);
  EXPECT_EQ(first[2], first[6]);
  EXPECT_EQ(pairings.of(sequences), first);
  EXPECT_EQ(pairings.folded(), 6u);
  EXPECT_TRUE(pairings.of({}).empty());
  EXPECT_TRUE(pairings.of({""})[0]->empty());
}

TEST(Pairings, WhatDoesNotFitIsFoldedAgainWithTheSameResult) {
  Pairings some(2000), none(0), all(kPlenty);
  const auto sequences = random_sequences(12, 40);
  const auto want = all.of(sequences);
  for (int visit = 1; visit <= 3; ++visit) {
    const auto a = some.of(sequences), b = none.of(sequences);
    for (std::size_t k = 0; k < sequences.size(); ++k) {
      EXPECT_EQ(*a[k], *want[k]);
      EXPECT_EQ(*b[k], *want[k]);
    }
  }
  EXPECT_EQ(none.folded(), 36u);
  EXPECT_GT(some.folded(), 12u);
  EXPECT_LT(some.folded(), 36u);
}

TEST(Pairings, ManyThreadsMayAsk) {
  Pairings pairings(kPlenty);
  const auto sequences = random_sequences(8, 50);
  const auto want = Pairings(kPlenty).of(sequences);
  std::vector<std::vector<Pairings::Pairs>> got(4);
  {
    std::vector<std::jthread> threads;
    for (auto& result : got) threads.emplace_back([&] { result = pairings.of(sequences); });
  }
  for (const auto& result : got) {
    for (std::size_t k = 0; k < sequences.size(); ++k) EXPECT_EQ(*result[k], *want[k]);
  }
}

TEST(Pairings, AFailureOnAnyThreadReachesTheCaller) {
  Pairings pairings(kPlenty);
  auto sequences = random_sequences(8, 30);
  sequences[5][3] = 'X';
  EXPECT_THROW(pairings.of(sequences), std::invalid_argument);
  EXPECT_THROW(pairings.of({std::string(70'000, 'A')}), std::overflow_error);
  EXPECT_EQ(pairings.of({sequences[0]}).size(), 1u);
}

}  // namespace
}  // namespace ribo::pairing
