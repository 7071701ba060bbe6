// Reading, joining, caching and selecting profiles; the samples are ribonanza_test.cpp's.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "ribonanza/profile_cache.h"
#include "ribonanza/selection.h"
#include "train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

constexpr const char* kHeader =
    "sequence_id,sequence,experiment_type,signal_to_noise,SN_filter,reactivity_0001,"
    "reactivity_0002,reactivity_0003\n";

std::vector<std::string> contents(const ProfileTable& table) {
  std::vector<std::string> result;
  for (const Bytes section : table.cache_sections()) {
    result.emplace_back(reinterpret_cast<const char*>(section.data()), section.size());
  }
  return result;
}

class RibonanzaTable : public ::testing::Test {
 protected:
  std::filesystem::path file(const std::string& text, const std::string& name = "t.csv") {
    write_text(folder_ / name, text);
    return folder_ / name;
  }
  ProfileTable read(const std::string& rows, size_t block = CsvReader::kBlock) {
    return read_profiles({file(kHeader + rows)}, {.block = block});
  }
  std::string failure(const std::string& text) {
    const std::string message = error_of([&] { read_profiles({file(text)}); });
    const std::string name = (folder_ / "t.csv").string();
    EXPECT_TRUE(message.starts_with(name)) << message;
    return message.substr(std::min(message.size(), name.size()));
  }
  std::string row_failure(const std::string& row) { return failure(kHeader + row + "\n"); }
  TempFolder folder_;
};

TEST_F(RibonanzaTable, JoinsTheTwoRowsOfASequence) {
  const ProfileTable t = read(
      "a,ACG,2A3_MaP,2.5,1,,0.25,\n"
      "b,UNT,DMS_MaP,,0,,,\n"
      "a,acg,DMS_MaP,0.5,0,1,,-3\n");
  ASSERT_EQ(t.size(), 2u);
  EXPECT_EQ(t.id(0), "a");
  EXPECT_EQ(std::vector<uint8_t>(t.tokens(1).begin(), t.tokens(1).end()),
            (std::vector<uint8_t>{3, 4, 3}));
  EXPECT_EQ(t[0].profiles[k2a3].first, 1u);
  ASSERT_EQ(t.values(0, k2a3).size(), 1u) << "only the measured span is kept";
  EXPECT_EQ(t.values(0, k2a3)[0], 0.25f);
  ASSERT_EQ(t.values(0, kDms).size(), 3u);
  EXPECT_TRUE(std::isnan(t.values(0, kDms)[1]));
  EXPECT_EQ(t.values(0, kDms)[2], -3);
  EXPECT_FALSE(t[1].profiles[k2a3].present);
  EXPECT_TRUE(std::isnan(t[1].profiles[kDms].signal_to_noise));
  EXPECT_EQ(t.counts().rows, 3u);
  EXPECT_EQ(t.counts().without_twin, 1u);
  EXPECT_EQ(t.counts().without_value, 1u);
}

TEST_F(RibonanzaTable, OfRepeatedProfilesTheCleanerOneStays) {
  for (const char* rows : {"a,ACG,2A3_MaP,1,1,1,1,1\na,ACG,2A3_MaP,9,1,9,9,9\n",
                           "a,ACG,2A3_MaP,9,1,9,9,9\na,ACG,2A3_MaP,1,1,1,1,1\n",
                           "a,ACG,2A3_MaP,,1,1,1,1\na,ACG,2A3_MaP,9,1,9,9,9\n"}) {
    const ProfileTable t = read(rows);
    EXPECT_EQ(t.counts().duplicates, 1u);
    EXPECT_EQ(t.values(0, k2a3)[0], 9) << rows;
  }
}

TEST_F(RibonanzaTable, ColumnsComeInAnyOrderFromAnyNumberOfFiles) {
  const auto a = file(
      "reactivity_0002,extra,SN_filter,id,reactivity_error_0001,experiment_type,"
      "sequence,signal_to_noise,reactivity_0001\n"
      ".5,\"x,\ny\",1,k,7,2A3_MaP,ACG,3,.25\n",
      "a.csv");
  const auto b = file(std::string(kHeader) + "k,ACG,DMS_MaP,1,0,,,1\n", "b.csv");
  const ProfileTable t = read_profiles({a, b});
  ASSERT_EQ(t.size(), 1u);
  EXPECT_EQ(t.values(0, k2a3)[0], .25f);
  EXPECT_EQ(t.values(0, k2a3)[1], .5f);
  EXPECT_EQ(t.counts().without_twin, 0u);
}

TEST_F(RibonanzaTable, ErrorsNameFileLineAndRemedy) {
  EXPECT_EQ(failure(std::string(kHeader) + "a,ACG,2A3_MaP,1,1,,,\nb,\"AX\nG\",DMS_MaP,1,1,,,\n"),
            ":3: `X` at position 2 of the sequence is not one of A C G U T N; write a modified or "
            "unknown residue as N");
  EXPECT_EQ(row_failure("a,ACG,2A3_MaP,1,1,,0.1.2,"),
            ":2: `0.1.2` in column `reactivity_0002` is not a number; leave the field empty where "
            "nothing was measured");
  EXPECT_EQ(
      row_failure("a,ACG,1M7,1,1,,,"),
      ":2: experiment_type `1M7` is unknown; 2A3_MaP and DMS_MaP are read, remove other rows");
  EXPECT_EQ(row_failure("a,AC,2A3_MaP,1,1,,,1"),
            ":2: `reactivity_0003` has a value, but the sequence has 2 residues; empty the field");
  EXPECT_EQ(row_failure("a,ACG,2A3_MaP,1,1,,,\na,ACC,DMS_MaP,1,1,,,"),
            ":3: `a` is already the id of another sequence; give each sequence an id of its own");
  EXPECT_EQ(row_failure("a,ACG,2A3_MaP,1,maybe,,,"), ":2: SN_filter is `maybe`; write 0 or 1");
  EXPECT_EQ(row_failure("a,ACG,2A3_MaP,1,1,,"),
            ":2: 7 fields where the header has 8; every row needs one for each column");
  EXPECT_EQ(failure(kHeader), ":1: there is no row below the header; give a file with data");
  EXPECT_TRUE(failure("id,sequence,experiment_typ,signal_to_noise,SN_filter,reactivity_0001\n")
                  .starts_with(":1: there is no column `experiment_type`; did you mean"));
  EXPECT_TRUE(failure("id,sequence\na,ACG\n").starts_with(":1: there is no column `experiment"));
}

TEST_F(RibonanzaTable, AListOfSequencesIsEnoughForPrediction) {
  const ProfileTable t =
      read_profiles({file("sequence_id,sequence\na,ACGU\n")}, {.labels_optional = true});
  ASSERT_EQ(t.size(), 1u);
  EXPECT_EQ(t.counts().rows, 0u);
  EXPECT_EQ(t[0].profiles[k2a3].count, 0u);
}

TEST_F(RibonanzaTable, BlockSizeNeverMatters) {
  const std::string rows =
      "a,ACG,2A3_MaP,2.5,1,,0.25,\r\nb,\"UNT\",DMS_MaP,,0,,,\r\na,ACG,DMS_MaP,0.5,0,1,,-3\r\n";
  const auto whole = contents(read(rows));
  for (const size_t block : {1u, 7u, 100u}) EXPECT_EQ(contents(read(rows, block)), whole);
}

TEST_F(RibonanzaTable, TheCacheHoldsTheSameTableAndIsRebuiltWhenDamaged) {
  const Paths files = {file(std::string(kHeader) + "a,ACG,2A3_MaP,2.5,1,,0.25,\n")};
  const auto cache = folder_ / "cache";
  const auto load = [&](std::vector<std::string>& notes) {
    notes.clear();
    return contents(load_profiles(files, cache, {}, notes));
  };
  std::vector<std::string> notes;
  const auto parsed = load(notes);
  EXPECT_EQ(notes, std::vector<std::string>{
                       "t.csv: 1 sequences, 1 profiles, 1 sequences with one profile of the two"});
  EXPECT_EQ(load(notes), parsed);
  EXPECT_TRUE(notes.at(0).ends_with("(from the cache)"));

  const auto path = profile_cache_path(files, cache);
  std::string damaged = read_text(path);
  damaged[damaged.size() / 2] ^= 1;
  write_text(path, damaged);
  EXPECT_EQ(load(notes), parsed);
  EXPECT_EQ(notes.at(0), path.string() + " was damaged; it is made again");
  EXPECT_EQ(load(notes), parsed);
  EXPECT_TRUE(notes.at(0).ends_with("(from the cache)"));

  file(std::string(kHeader) + "a,ACG,2A3_MaP,2.5,1,,0.75,0\n");
  EXPECT_NE(load(notes), parsed) << "the file has changed";
}

TEST_F(RibonanzaTable, WorksWhereNoCacheCanBeWritten) {
  const Paths files = {file(std::string(kHeader) + "a,ACG,2A3_MaP,2.5,1,,0.25,\n")};
  std::vector<std::string> notes;
  EXPECT_EQ(load_profiles(files, folder_ / "t.csv" / "x", {}, notes).size(), 1u);
  EXPECT_TRUE(notes.at(1).starts_with("no cache for the next start: ")) << notes.at(1);
}

TEST_F(RibonanzaTable, RulesAreAppliedAndCounted) {
  const ProfileTable t = read(
      "a,ACG,2A3_MaP,2,1,1,1,1\na,ACG,DMS_MaP,0.5,1,1,1,1\n"  // one profile passes
      "b,ACC,2A3_MaP,0.1,0,1,1,1\n"                           // none
      "c,AC,2A3_MaP,3,1,1,1,\nc,AC,DMS_MaP,3,1,1,1,\n"        // both
      "d,AG,2A3_MaP,3,1,,,\nd,AG,DMS_MaP,3,1,,,\n");          // no value
  const Selection noise = select(t, {.min_signal_to_noise = 1});
  ASSERT_EQ(noise.samples.size(), 2u);
  EXPECT_EQ(noise.samples[0].use, (std::array{true, false}));
  EXPECT_EQ(noise.describe(),
            "2 of 4 sequences; dropped: 2 without a profile that passes; 1 single "
            "profiles left out");
  EXPECT_EQ(select(t, {.both_need_sn_filter = true}).describe(),
            "2 of 4 sequences; dropped: 1 without SN_filter = 1 in both profiles, 1 without a "
            "profile that passes");
  EXPECT_EQ(select(t, {.max_length = 2}).samples.size(), 1u);
  EXPECT_EQ(select(t, {.limit = 1}).over_limit, 2u);
  EXPECT_EQ(select(t, {.needs_profile = false}).samples.size(), 4u);
}

}  // namespace
}  // namespace ribo
