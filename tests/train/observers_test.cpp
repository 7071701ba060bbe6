#include "train/observers.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "ribo/log.h"
#include "temp_folder.h"

namespace ribo {
namespace {

using nlohmann::json;
using testing::contains;
using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

RunStarted started(int64_t updates, int64_t resumed_at = 0) {
  RunStarted e;
  e.name = "mamba";
  e.updates = updates;
  e.resumed_at = resumed_at;
  return e;
}

UpdateDone update(int64_t n, double loss = 0.5) {
  UpdateDone e;
  e.update = n;
  e.epoch = static_cast<double>(n) / 100;
  e.loss = loss;
  e.sequences = 32;
  e.seconds = static_cast<double>(n) * 0.1;
  return e;
}

ValidationDone validation(int64_t n) {
  ValidationDone e;
  e.update = n;
  e.loss = 0.2;
  e.scores = {{"mae", 0.2431, {{"mean", 0.2861}, {"3-mer median", 0.255}}}};
  e.best = true;
  return e;
}

std::vector<json> lines_of(const std::filesystem::path& path) {
  std::istringstream in(read_text(path));
  std::vector<json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
  return lines;
}

TEST(MetricsJsonl, EveryEventIsALineThatParses) {
  TempFolder folder;
  const auto observer = make_metrics_jsonl(folder / "m.jsonl");
  observer->on(started(10));
  observer->on(update(1, std::numeric_limits<double>::quiet_NaN()));
  observer->on(update(2, std::numeric_limits<double>::infinity()));
  observer->on(validation(2));
  observer->on(CheckpointWritten{2, "a \"quoted\" \xff path"});
  RunFinished finish;
  finish.reason = "interrupted";
  observer->on(finish);  // flushed: the observer still lives
  const auto lines = lines_of(folder / "m.jsonl");
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0]["event"], "start");
  EXPECT_TRUE(lines[1]["loss"].is_null());
  EXPECT_TRUE(lines[2]["loss"].is_null());
  EXPECT_EQ(lines[2]["sequences"], 32);
  EXPECT_EQ(lines[3]["scores"][0]["metric"], "mae");
  EXPECT_EQ(lines[3]["scores"][0]["floors"]["3-mer median"], 0.255);
  EXPECT_EQ(lines[4]["event"], "checkpoint");
  EXPECT_EQ(lines[5]["reason"], "interrupted");
}

TEST(MetricsJsonl, AResumedRunDropsWhatLiesBeyondAndATornLine) {
  TempFolder folder;
  const auto path = folder / "m.jsonl";
  {
    const auto observer = make_metrics_jsonl(path);
    observer->on(started(10));
    for (int64_t n = 1; n <= 5; ++n) observer->on(update(n));
    observer->on(validation(3));
    observer->on(validation(5));
  }
  write_text(path, read_text(path) + R"({"event":"update","upd)");
  const auto observer = make_metrics_jsonl(path);
  observer->on(started(10, 3));
  observer->on(update(4));
  observer->on(RunFinished());
  std::string story;
  for (const json& line : lines_of(path)) {
    const std::string event = line["event"];
    story += cat(event[0], line.contains("update") ? line["update"].dump() : "", " ");
  }
  EXPECT_EQ(story, "s u1 u2 u3 v3 s u4 f0 ");
}

TEST(MetricsJsonl, AFullDiskDoesNotEndTheRun) {
  const auto observer = make_metrics_jsonl("/dev/full");
  observer->on(started(10));
  observer->on(update(1));
  observer->on(RunFinished());
  EXPECT_NE(error_of([] { make_metrics_jsonl("/none/m.jsonl"); }).find("No such file"),
            std::string::npos);
}

// A pseudo-terminal whose screen is what was written to it so far.
struct Terminal {
  Terminal() {
    winsize size{24, 100, 0, 0};
    if (::openpty(&master, &slave, nullptr, nullptr, &size) != 0) master = slave = -1;
    ::setenv("TERM", "xterm", 1);
  }
  ~Terminal() {
    ::close(master);
    ::close(slave);
  }
  // Bare containers mount no /dev/pts.
  bool works() const { return master >= 0; }
  // What has come since the last call; the kernel hands it over with a small delay.
  std::string take() {
    std::string text;
    char buffer[4096];
    for (pollfd ready{master, POLLIN, 0}; ::poll(&ready, 1, 100) == 1;) {
      const ssize_t n = ::read(master, buffer, sizeof buffer);
      if (n <= 0) break;
      text.append(buffer, static_cast<size_t>(n));
    }
    return text;
  }
  int master = -1, slave = -1;
};

const std::string cleared = "\r\x1b[2K";

TEST(ProgressBar, DrawsOnATerminalAndClearsInTheEnd) {
  Terminal terminal;
  if (!terminal.works()) GTEST_SKIP() << "skipped: there is no pseudo-terminal here (/dev/pts)";
  const auto bar = make_progress_bar(terminal.slave);
  bar->on(started(100));
  EXPECT_TRUE(contains(terminal.take(), "0/100"));
  bar->on(validation(0));
  for (int64_t n = 1; n <= 50; ++n) bar->on(update(n));
  const std::string drawn = terminal.take();
  EXPECT_LE(std::count(drawn.begin(), drawn.end(), '\r'), 2) << "more than 10 redraws a second";
  bar->on(update(51));
  const std::string line = terminal.take();
  EXPECT_EQ(line.rfind(cleared + " 51% ▕", 0), 0u) << line;
  EXPECT_TRUE(contains(line, "51/100  loss 0.5000  320 seq/s  ETA 0:05  valid mae 0.2431")) << line;
  EXPECT_FALSE(contains(line, "\n"));
  bar->on(RunFinished());
  EXPECT_EQ(terminal.take(), cleared);
  log::info("after the run");
  EXPECT_EQ(terminal.take(), "");
}

TEST(ProgressBar, StepsAsideForALogLine) {
  Terminal terminal;
  if (!terminal.works()) GTEST_SKIP() << "skipped: there is no pseudo-terminal here (/dev/pts)";
  const auto bar = make_progress_bar(terminal.slave);
  bar->on(started(100));
  terminal.take();
  log::info("a line");
  const std::string text = terminal.take();
  EXPECT_EQ(text.rfind(cleared + cleared + "  0%", 0), 0u) << text;
}

TEST(ProgressBar, LogsEachValidation) {
  Terminal terminal;
  if (!terminal.works()) GTEST_SKIP() << "skipped: there is no pseudo-terminal here (/dev/pts)";
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  for (const int fd : {terminal.slave, ends[1]}) {
    const auto bar = make_progress_bar(fd);
    bar->on(started(400));
    ::testing::internal::CaptureStderr();
    bar->on(validation(400));
    EXPECT_EQ(::testing::internal::GetCapturedStderr(),
              "  update 400  epoch 0.0  loss 0.2000  valid mae 0.2431  (mean 0.2861, 3-mer median "
              "0.2550)  * best\n");
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(ProgressBar, LogsOfOtherThreadsMayComeAnyTime) {
  Terminal terminal;
  if (!terminal.works()) GTEST_SKIP() << "skipped: there is no pseudo-terminal here (/dev/pts)";
  ::fcntl(terminal.slave, F_SETFL, O_NONBLOCK);  // nobody reads the other end
  ::testing::internal::CaptureStderr();
  std::thread chatter([] {
    for (int i = 0; i < 2000; ++i) log::warn("");
  });
  for (int i = 0; i < 20; ++i) {
    const auto bar = make_progress_bar(terminal.slave);
    bar->on(started(100));
    for (int64_t n = 1; n <= 20; ++n) bar->on(update(n));
  }
  chatter.join();
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2000);
}

TEST(ProgressBar, IsPlainLinesElsewhere) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const auto bar = make_progress_bar(ends[1]);
  bar->on(started(250));
  for (int64_t n = 1; n <= 250; ++n) bar->on(update(n));
  ::close(ends[1]);
  std::string text(10000, '\0');
  text.resize(static_cast<size_t>(std::max<ssize_t>(::read(ends[0], text.data(), text.size()), 0)));
  ::close(ends[0]);
  EXPECT_EQ(text,
            "update 100/250  epoch 1.00  loss 0.5000  320 seq/s  ETA 0:15\n"
            "update 200/250  epoch 2.00  loss 0.5000  320 seq/s  ETA 0:05\n"
            "update 250/250  epoch 2.50  loss 0.5000  320 seq/s  ETA 0:00\n");
}

TEST(ProgressBar, AClosedPipeOrTerminalIsNoError) {
  std::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  const auto plain = make_progress_bar(ends[1]);
  plain->on(started(2));
  plain->on(update(1));
  plain->on(update(2));
  ::close(ends[1]);

  Terminal terminal;
  if (!terminal.works()) GTEST_SKIP() << "skipped: there is no pseudo-terminal here (/dev/pts)";
  const auto bar = make_progress_bar(terminal.slave);
  ::close(terminal.master);
  terminal.master = -1;
  bar->on(started(2));
  bar->on(update(1));
  bar->on(RunFinished());
}

}  // namespace
}  // namespace ribo
