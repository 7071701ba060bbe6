#include "ribo/files.h"

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
using testing::contains;
using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

int entries(const fs::path& folder) {
  return static_cast<int>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
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

}  // namespace
}  // namespace ribo
