#include "train/signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <string>
#include <thread>

namespace ribo {
namespace {

struct Outcome {
  int status = 0;
  std::string said;
};

// Runs `body` in a child whose stderr is a pipe; signals change a process for good.
Outcome in_child(const std::function<void()>& body) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(signal, SIG_DFL);
    body();
    ::_exit(0);
  }
  ::close(ends[1]);
  Outcome outcome;
  char buffer[256];
  for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
    outcome.said.append(buffer, static_cast<size_t>(n));
  }
  ::close(ends[0]);
  ::waitpid(child, &outcome.status, 0);
  return outcome;
}

TEST(RunSignals, TheFirstCtrlCAsksTheRunToStop) {
  const Outcome outcome = in_child([] {
    install_run_signals();
    if (stop_requested() || stop_signal() != 0) ::_exit(1);
    ::raise(SIGINT);
    ::_exit(stop_requested() && stop_signal() == SIGINT ? 42 : 2);
  });
  EXPECT_EQ(WEXITSTATUS(outcome.status), 42);
  EXPECT_EQ(outcome.said, "\nstopping after this update; press Ctrl-C again to stop at once\n");
}

TEST(RunSignals, TheSecondCtrlCEndsTheProcess) {
  const Outcome outcome = in_child([] {
    install_run_signals();
    ::raise(SIGINT);
    install_run_signals();  // may not forget the first one
    std::this_thread::sleep_for(std::chrono::milliseconds(1050));
    ::raise(SIGINT);
    ::_exit(1);
  });
  EXPECT_TRUE(WIFSIGNALED(outcome.status));
  EXPECT_EQ(WTERMSIG(outcome.status), SIGINT);
}

TEST(RunSignals, OneRequestThatComesTwiceAtOnceIsOne) {
  const Outcome outcome = in_child([] {
    install_run_signals();
    ::raise(SIGINT);
    ::raise(SIGINT);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ::raise(SIGINT);
    ::_exit(stop_signal() == SIGINT ? 42 : 1);
  });
  EXPECT_EQ(WEXITSTATUS(outcome.status), 42);
  EXPECT_EQ(outcome.said, "\nstopping after this update; press Ctrl-C again to stop at once\n");
}

TEST(RunSignals, TerminationIsRememberedAndMayComeOften) {
  const Outcome outcome = in_child([] {
    install_run_signals();
    ::raise(SIGTERM);
    ::raise(SIGTERM);
    ::raise(SIGINT);
    ::_exit(stop_signal() == SIGTERM ? 42 : 1);
  });
  EXPECT_EQ(WEXITSTATUS(outcome.status), 42);
}

TEST(RunSignals, AClosedTerminalOrPipeDoesNotEndTheRun) {
  const Outcome outcome = in_child([] {
    install_run_signals();
    ::raise(SIGHUP);
    ::raise(SIGPIPE);
    ::_exit(stop_requested() ? 1 : 42);
  });
  EXPECT_EQ(WEXITSTATUS(outcome.status), 42);
  EXPECT_EQ(outcome.said, "");
}

TEST(RunSignals, ABackgroundJobStaysDeafToCtrlC) {
  const Outcome outcome = in_child([] {
    std::signal(SIGINT, SIG_IGN);
    install_run_signals();
    ::raise(SIGINT);
    ::_exit(stop_requested() ? 1 : 42);
  });
  EXPECT_EQ(WEXITSTATUS(outcome.status), 42);
}

}  // namespace
}  // namespace ribo
