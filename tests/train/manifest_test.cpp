#include "train/manifest.h"

#include <gtest/gtest.h>

#include "temp_folder.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using testing::contains;
using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

TEST(Sha256, KnownValues) {
  TempFolder folder;
  write_text(folder / "empty", "");
  write_text(folder / "abc", "abc");
  EXPECT_EQ(sha256_hex(folder / "empty"),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex(folder / "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_TRUE(contains(error_of([&] { sha256_hex(folder / "none"); }), "No such file"));
  EXPECT_TRUE(contains(error_of([&] { sha256_hex(folder.path()); }), "Is a directory"));
}

struct ManifestTest : ::testing::Test {
  ManifestTest() {
    write_text(folder / "weights", "some weights");
    fs::create_directory(folder / "below");
    write_text(folder / "below/state", "state");
    write_manifest(folder.path());
  }
  std::string problem() {
    return error_of([&] { verify_manifest(folder.path()); });
  }
  TempFolder folder;
};

TEST_F(ManifestTest, AcceptsWhatItDescribes) {
  verify_manifest(folder.path());
  write_manifest(folder.path());  // does not list itself
  write_text(folder / "new", "unlisted");
  verify_manifest(folder.path());
}

TEST_F(ManifestTest, NoticesEveryFlippedBit) {
  const std::string original = read_text(folder / "weights");
  for (size_t bit = 0; bit < original.size() * 8; ++bit) {
    std::string flipped = original;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    write_text(folder / "weights", flipped);
    EXPECT_TRUE(contains(problem(), "weights has changed (its SHA-256 differs)"));
  }
}

TEST_F(ManifestTest, SaysOfEachFileWhatIsWrong) {
  write_text(folder / "weights", "some");
  fs::remove(folder / "below/state");
  EXPECT_EQ(problem(), folder.path().string() +
                           " is damaged:\n  below/state is missing"
                           "\n  weights is too short (4 bytes instead of 12)");
}

TEST_F(ManifestTest, ADamagedManifestIsAnError) {
  const std::string text = read_text(folder / "manifest.json");
  for (size_t size = 0; size + 2 < text.size(); ++size) {
    write_text(folder / "manifest.json", text.substr(0, size));
    EXPECT_TRUE(contains(problem(), "manifest.json is damaged"));
  }
  fs::remove(folder / "manifest.json");
  EXPECT_TRUE(contains(problem(), "is not complete: manifest.json is missing"));
}

TEST_F(ManifestTest, MayNotNameFilesElsewhere) {
  for (const char* name : {"../secret", "/etc/passwd", "below/../../x", ""}) {
    write_text(folder / "manifest.json",
               cat(R"({"files": {")", name, R"(": {"bytes": 1, "sha256": "0"}}})"));
    EXPECT_TRUE(contains(problem(), "names a file outside its folder"));
  }
}

}  // namespace
}  // namespace ribo
