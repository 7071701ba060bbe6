#include "train/files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <iterator>

#include "temp_folder.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

int entries(const fs::path& folder) {
  return static_cast<int>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(WriteFileAtomically, ReplacesTheContentAndLeavesNothingElse) {
  TempFolder folder;
  write_file_atomically(folder / "a", "old");
  write_file_atomically(folder / "a", [](const Sink& sink) {
    sink("ne");
    sink("");
    sink("w");
  });
  EXPECT_EQ(read_text(folder / "a"), "new");
  EXPECT_EQ(entries(folder.path()), 1);
}

TEST(WriteFileAtomically, AWriterThatThrowsLeavesTheOldFile) {
  TempFolder folder;
  write_file_atomically(folder / "a", "old");
  const auto write = [&] {
    write_file_atomically(folder / "a", [](const Sink& sink) {
      sink("half");
      throw Error("no more");
    });
  };
  EXPECT_EQ(error_of(write), "no more");
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_EQ(entries(folder.path()), 1);
}

TEST(WriteFileAtomically, NamesThePathAndTheReason) {
  TempFolder folder;
  const fs::path path = folder / "missing" / "a";
  EXPECT_EQ(error_of([&] { write_file_atomically(path, "x"); }),
            "cannot write " + path.string() + ": No such file or directory");
  fs::create_directory(folder / "taken");
  EXPECT_TRUE(
      contains(error_of([&] { write_file_atomically(folder / "taken", "x"); }), "Is a directory"));
  EXPECT_EQ(entries(folder.path()), 1);
}

// A limit on the size of files stands in for a full disk: write() fails half-way.
TEST(WriteFileAtomically, AFullDiskLeavesTheOldFile) {
  TempFolder folder;
  write_file_atomically(folder / "a", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomically(folder / "a", std::string(5000, 'x'));
    } catch (const Error& e) {
      ::_exit(contains(e.what(), "/a: File too large") ? 42 : 1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_EQ(entries(folder.path()), 1);
}

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
