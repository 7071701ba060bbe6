#include "train/signals.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace ribo {
namespace {

std::atomic<int> first_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not lock");

// Everything in here must be async-signal-safe.
void on_signal(int signal) {
  const int saved_errno = errno;
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
  if (signal == SIGINT) {
    constexpr char hint[] = "\nstopping after this update; press Ctrl-C again to stop at once\n";
    // Nobody to tell if this fails.
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, hint, sizeof hint - 1);
  }
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
  // Once: a second call after the first Ctrl-C would take the default action away again.
  static const bool installed = [] {
    if (!is_ignored(SIGINT)) set(SIGINT, on_signal, SA_RESTART | SA_RESETHAND);
    set(SIGTERM, on_signal, SA_RESTART);
    set(SIGHUP, SIG_IGN, 0);
    set(SIGPIPE, SIG_IGN, 0);
    return true;
  }();
  static_cast<void>(installed);
}

bool stop_requested() { return stop_signal() != 0; }

int stop_signal() { return first_signal.load(std::memory_order_relaxed); }

}  // namespace ribo
