#include "train/signals.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>

namespace ribo {
namespace {

// `timeout` and some schedulers signal a process and then its group: one request, two signals.
constexpr int64_t kSameRequest = 1'000'000'000;  // ns

constexpr char kRunHint[] = "\nstopping after this update; press Ctrl-C again to stop at once\n";
constexpr char kVerbHint[] = "\nstopping; press Ctrl-C again to stop at once\n";

std::atomic<const char*> hint{kRunHint};
std::atomic<int> first_signal{0};
std::atomic<int64_t> first_interrupt{0};  // when, in ns; 0 = none yet
static_assert(std::atomic<int64_t>::is_always_lock_free, "a signal handler may not lock");

// on_signal() and what it calls must be async-signal-safe.
int64_t now() {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void on_interrupt() {
  int64_t first = 0;
  if (first_interrupt.compare_exchange_strong(first, now())) {
    const char* const text = hint;
    // Nobody to tell if this fails.
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, text, std::strlen(text));
  } else if (now() - first >= kSameRequest) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);  // ends the process when this handler returns
  }
}

void on_signal(int signal) {
  const int saved_errno = errno;
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
  if (signal == SIGINT) on_interrupt();
  errno = saved_errno;
}

void set(int signal, void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigemptyset(&action.sa_mask);
  if (::sigaction(signal, &action, nullptr) != 0) {
    throw Error(cat("cannot handle signal ", signal, ": ", std::strerror(errno)));
  }
}

bool is_ignored(int signal) {
  struct sigaction current {};
  return ::sigaction(signal, nullptr, &current) == 0 && current.sa_handler == SIG_IGN;
}

}  // namespace

void install_run_signals() {
  static const bool installed = [] {
    if (!is_ignored(SIGINT)) set(SIGINT, on_signal, SA_RESTART);
    set(SIGTERM, on_signal, SA_RESTART);
    set(SIGHUP, SIG_IGN, 0);
    set(SIGPIPE, SIG_IGN, 0);
    return true;
  }();
  static_cast<void>(installed);
}

void install_verb_signals() {
  hint = kVerbHint;
  if (!is_ignored(SIGINT)) set(SIGINT, on_signal, SA_RESTART);
  if (!is_ignored(SIGHUP)) set(SIGHUP, on_signal, SA_RESTART);
  set(SIGTERM, on_signal, SA_RESTART);
  set(SIGPIPE, SIG_IGN, 0);
}

bool stop_requested() { return stop_signal() != 0; }

int stop_signal() { return first_signal.load(std::memory_order_relaxed); }

}  // namespace ribo
