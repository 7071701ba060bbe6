#include "common/cache_file.h"

#include <gtest/gtest.h>

#include <cstring>

#include "common/hash.h"
#include "train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

const std::vector<float> kNumbers = {1, 2, 3};
const std::string kText = "hello";

std::vector<Bytes> sections() {
  return {as_bytes_of(kNumbers), {}, std::as_bytes(std::span(kText))};
}

TEST(CacheFile, GivesBackWhatWasWritten) {
  TempFolder folder;
  const auto path = folder / "sub" / "c.bin";
  Cached cached;
  EXPECT_EQ(open_cache(path, "key", cached), CacheState::absent);
  write_cache(path, "key", sections());
  ASSERT_EQ(open_cache(path, "key", cached), CacheState::good);
  ASSERT_EQ(cached.sections.size(), 3u);
  ASSERT_EQ(cached.sections[0].size(), kNumbers.size() * sizeof(float));
  EXPECT_EQ(std::memcmp(cached.sections[0].data(), kNumbers.data(), sizeof(float) * 3), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(cached.sections[2].data()) % 64, 0u);
  EXPECT_EQ(cached.sections[1].size(), 0u);
  EXPECT_EQ(open_cache(path, "another key", cached), CacheState::stale);
}

TEST(CacheFile, OutlivesItsReplacement) {
  TempFolder folder;
  const auto path = folder / "c.bin";
  write_cache(path, "one", sections());
  Cached cached;
  ASSERT_EQ(open_cache(path, "one", cached), CacheState::good);
  write_cache(path, "two", {});
  EXPECT_EQ(std::memcmp(cached.sections[2].data(), kText.data(), kText.size()), 0);
}

TEST(CacheFile, NoticesEveryChangedByteAndEveryTruncation) {
  TempFolder folder;
  const auto path = folder / "c.bin";
  write_cache(path, "key", sections());
  const std::string whole = read_text(path);
  Cached cached;
  for (size_t size = 0; size < whole.size(); ++size) {
    write_text(path, whole.substr(0, size));
    ASSERT_EQ(open_cache(path, "key", cached), CacheState::damaged) << size;
  }
  write_text(path, whole + '\0');
  EXPECT_EQ(open_cache(path, "key", cached), CacheState::damaged);
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string bad = whole;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    write_text(path, bad);
    cached = {};
    // The padding behind a section is nobody's data.
    if (open_cache(path, "key", cached) == CacheState::good) {
      ASSERT_EQ(std::memcmp(cached.sections[0].data(), kNumbers.data(), sizeof(float) * 3), 0) << i;
      ASSERT_EQ(std::memcmp(cached.sections[2].data(), kText.data(), kText.size()), 0) << i;
    }
  }
}

TEST(CacheFile, SaysWhyItCannotBeWritten) {
  TempFolder folder;
  write_text(folder / "file", "");
  EXPECT_NE(error_of([&] { write_cache(folder / "file" / "c.bin", "key", {}); }).find("file"),
            std::string::npos);
}

TEST(Hash64, KeepsItsValues) {
  // They decide which samples are held out: another value would mix validation into training.
  EXPECT_EQ(hash64("", 0), 0x28cf63bb74ed8a27u);
  EXPECT_EQ(hash64("GGGAAACCC", 9), 0x34c055cae1d7f11bu);
  EXPECT_EQ(hash64("GGGAAACCC", 9, 1), 0xbe33abdfb092a77fu);
}

TEST(Hash64, FallsIntoFractionsEvenly) {
  int held = 0;
  for (uint64_t i = 0; i < 10000; ++i) held += falls_in_fraction(hash64(&i, sizeof(i)), 0.1);
  EXPECT_NEAR(held, 1000, 100);
  EXPECT_FALSE(falls_in_fraction(0, 0));
  EXPECT_TRUE(falls_in_fraction(UINT64_MAX, 1));
}

}  // namespace
}  // namespace ribo
