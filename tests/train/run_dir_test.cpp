#include "train/run_dir.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "temp_folder.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::TempFolder;
using testing::write_text;

TEST(RunDir, IsNamedAfterTheTime) {
  TempFolder root;
  const fs::path path = create_run_dir(root / "runs", "mamba");
  EXPECT_TRUE(fs::is_directory(path));
  EXPECT_EQ(path.parent_path(), root / "runs/mamba");
  EXPECT_EQ(path.filename().string().size(), std::string("2026-01-31_12-00-00").size());
  EXPECT_EQ(list_run_dirs(root / "runs", "mamba"), std::vector<fs::path>{path});
}

TEST(RunDir, ManyInOneSecondAreListedNewestFirst) {
  TempFolder root;
  std::vector<fs::path> made;
  for (int i = 0; i < 25; ++i) made.push_back(create_run_dir(root.path(), "mamba"));
  std::reverse(made.begin(), made.end());
  EXPECT_EQ(list_run_dirs(root.path(), "mamba"), made);
}

TEST(RunDir, RunsThatStartAtOnceGetFoldersOfTheirOwn) {
  TempFolder root;
  std::vector<std::vector<fs::path>> made(4);
  std::vector<std::thread> threads;
  for (auto& mine : made) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) mine.push_back(create_run_dir(root.path(), "mamba"));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<fs::path> all;
  for (const auto& mine : made) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), 80u);
}

TEST(RunDir, OtherNamesAreNotRuns) {
  TempFolder root;
  EXPECT_TRUE(list_run_dirs(root.path(), "mamba").empty());
  const fs::path run = create_run_dir(root.path(), "mamba");
  for (const char* name : {"notes", "2025-01-01_00-00-00-", "2025-01-01_00-00-00-1",
                           "2025-01-01_00-00-00x2", "2025-01-01_00-00-0", "latest"}) {
    fs::create_directory(root / "mamba" / name);
  }
  write_text(root / "mamba/2025-01-01_00-00-00", "a file");
  EXPECT_EQ(list_run_dirs(root.path(), "mamba"), std::vector<fs::path>{run});
}

TEST(RunDir, RefusesWhatItCannotMake) {
  TempFolder root;
  for (const char* name : {"", ".", "..", "a/b"}) {
    EXPECT_NE(error_of([&] { create_run_dir(root.path(), name); }).find("give a name without `/`"),
              std::string::npos);
  }
  write_text(root / "file", "");
  EXPECT_NE(error_of([&] { create_run_dir(root / "file", "mamba"); }).find("Not a directory"),
            std::string::npos);
}

}  // namespace
}  // namespace ribo
