#include "train/detach.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

// Run by the tests below as a detached process.
TEST(DetachedProcess, DISABLED_Body) {
  const bool leads = ::getsid(0) == ::getpid();
  char byte;
  const bool no_input = ::read(STDIN_FILENO, &byte, 1) == 0;
  const bool closed = ::fcntl(std::atoi(std::getenv("RIBO_TEST_FD")), F_GETFD) == -1;
  std::printf("out %d %d %d\n", leads, no_input, closed);
  std::fflush(stdout);
  std::fprintf(stderr, "err\n");
}

TEST(Detach, RunsThisProgramOnItsOwn) {
  TempFolder folder;
  const std::string log = folder / "log";
  write_text(log, "before\n");
  const int open_here = ::open("/dev/null", O_RDONLY);  // not close-on-exec
  ASSERT_GE(open_here, 0);
  ::setenv("RIBO_TEST_FD", std::to_string(open_here).c_str(), 1);
  const int child =
      detach({"test", "--gtest_filter=DetachedProcess.*", "--gtest_also_run_disabled_tests"}, log);
  ::close(open_here);
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const std::string text = read_text(log);
  EXPECT_EQ(text.rfind("before\n", 0), 0u);
  EXPECT_NE(text.find("out 1 1 1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("err\n"), std::string::npos) << text;
}

TEST(Detach, TellsWhyItFailed) {
  TempFolder folder;
  EXPECT_NE(error_of([&] { detach({"test"}, folder / "none/log"); }).find("No such file"),
            std::string::npos);
  // An argument longer than the kernel takes: fork succeeds, exec fails.
  EXPECT_EQ(error_of([&] {
              detach({"test", std::string(1 << 20, 'x')}, folder / "log");
            }),
            "cannot start test in the background: Argument list too long");
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a zombie is left";
}

}  // namespace
}  // namespace ribo
