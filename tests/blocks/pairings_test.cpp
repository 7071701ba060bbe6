#include "base_pairing/pairings.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "folding/partition_function.h"
#include "train/temp_folder.h"

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

void expect_same(const std::vector<Pairs>& got, const std::vector<Pairs>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t k = 0; k < want.size(); ++k) EXPECT_EQ(*got[k], *want[k]) << k;
}

TEST(Pairings, TheNextOneReadsThemFromTheFile) {
  testing::TempFolder folder;
  const auto file = folder / "new/base_pairing.bin";
  const auto sequences = random_sequences(kWorthAFile + 10, 20);
  const auto want = Pairings(kPlenty).of(sequences);
  expect_same(Pairings(kPlenty, file).of(sequences), want);
  Pairings next(kPlenty, file);
  expect_same(next.of(sequences), want);
  EXPECT_EQ(next.folded(), 0u);

  Pairings small(5000, file);  // takes of it what it may keep
  expect_same(small.of(sequences), want);
  EXPECT_GT(small.folded(), 0u);
  EXPECT_LT(small.folded(), sequences.size());
}

TEST(Pairings, AFileIsAddedToAndNotMadeForAFew) {
  testing::TempFolder folder;
  const auto file = folder / "base_pairing.bin";
  const auto all = random_sequences(2 * kWorthAFile, 20);
  const std::vector<std::string> first(all.begin(), all.begin() + kWorthAFile);
  const std::vector<std::string> second(all.begin() + kWorthAFile, all.end());
  Pairings(kPlenty, file).of({first[0], first[1]});
  EXPECT_FALSE(std::filesystem::exists(file));
  Pairings(0, file).of(first);
  EXPECT_FALSE(std::filesystem::exists(file));
  {
    Pairings a(kPlenty, file), b(kPlenty, file);
    a.of({});  // both have seen that there is no file yet
    b.of({});
    a.of(first);
    b.of(second);
  }
  Pairings next(kPlenty, file);
  next.of(all);
  EXPECT_EQ(next.folded(), 0u);
}

TEST(Pairings, ADamagedFileIsMadeAgain) {
  testing::TempFolder folder;
  const auto file = folder / "base_pairing.bin";
  const auto sequences = random_sequences(kWorthAFile, 20);
  const auto want = Pairings(kPlenty, file).of(sequences);
  const auto size = static_cast<std::streamoff>(std::filesystem::file_size(file));
  for (const std::streamoff at : {std::streamoff{0}, std::streamoff{70}, size / 2, size - 70}) {
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary)
        .seekp(at)
        .write("ruined", 6);
    Pairings again(kPlenty, file);
    expect_same(again.of(sequences), want);
    EXPECT_EQ(again.folded(), sequences.size()) << at;
  }
  Pairings repaired(kPlenty, file);
  repaired.of(sequences);
  EXPECT_EQ(repaired.folded(), 0u);
}

TEST(Pairings, AFileThatCannotBeWrittenChangesNothing) {
  testing::TempFolder folder;
  std::ofstream(folder / "file") << "not a folder";
  const auto sequences = random_sequences(kWorthAFile, 20);
  expect_same(Pairings(kPlenty, folder / "file/base_pairing.bin").of(sequences),
              Pairings(kPlenty).of(sequences));
}

TEST(Pairings, ManyThreadsMayAsk) {
  Pairings pairings(kPlenty);
  const auto sequences = random_sequences(8, 50);
  const auto want = Pairings(kPlenty).of(sequences);
  std::vector<std::vector<Pairs>> got(4);
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
