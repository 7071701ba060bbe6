#include "train/detach.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace ribo {
namespace {

// Owns a descriptor above 2, which dup2() onto 0, 1 and 2 cannot hit even if the caller closed
// those.
struct HighFd {
  int fd;
  explicit HighFd(int low) : fd(low < 0 ? -1 : ::fcntl(low, F_DUPFD_CLOEXEC, 3)) {
    const int saved_errno = errno;
    if (low >= 0) ::close(low);
    errno = saved_errno;
  }
  HighFd(const HighFd&) = delete;
  ~HighFd() { reset(); }
  void reset() {
    if (fd >= 0) ::close(std::exchange(fd, -1));
  }
};

void close_others_on_exec() {
  if (::close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) == 0) return;
  // Linux before 5.11. The limit may be huge, but descriptors are given out from below.
  const int end = static_cast<int>(std::min(::sysconf(_SC_OPEN_MAX), 65536L));
  for (int fd = 3; fd < end; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

// Between fork and exec of a program with threads: async-signal-safe calls only.
[[noreturn]] void become(char* const* argv, int null, int log, int report) {
  sigset_t none;
  ::sigemptyset(&none);
  // A shell starts background jobs with SIGINT ignored, and that would outlive the exec.
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  if (::setsid() >= 0 && ::dup2(null, STDIN_FILENO) >= 0 && ::dup2(log, STDOUT_FILENO) >= 0 &&
      ::dup2(log, STDERR_FILENO) >= 0 && ::sigprocmask(SIG_SETMASK, &none, nullptr) == 0) {
    close_others_on_exec();
    ::execv("/proc/self/exe", argv);
  }
  const int error = errno;
  [[maybe_unused]] const ssize_t n = ::write(report, &error, sizeof error);
  ::_exit(127);
}

}  // namespace

int detach(const std::vector<std::string>& argv, const std::string& log_path) {
  if (argv.empty()) throw Error("cannot start a run in the background: it has no command line");
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);

  const HighFd log(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (log.fd < 0) throw Error(cat("cannot write ", log_path, ": ", std::strerror(errno)));
  const HighFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  int ends[2] = {-1, -1};
  if (null.fd < 0 || ::pipe2(ends, O_CLOEXEC) != 0) {
    throw Error(cat("cannot start a run in the background: ", std::strerror(errno)));
  }
  HighFd read_end(ends[0]), write_end(ends[1]);
  const bool ready = read_end.fd >= 0 && write_end.fd >= 0;

  const pid_t child = ready ? ::fork() : -1;
  if (child < 0) {
    throw Error(cat("cannot start a run in the background: ", std::strerror(errno)));
  }
  if (child == 0) become(arguments.data(), null.fd, log.fd, write_end.fd);

  // A successful exec closes the pipe without a word.
  write_end.reset();
  int error = 0;
  ssize_t n;
  do {
    n = ::read(read_end.fd, &error, sizeof error);
  } while (n < 0 && errno == EINTR);
  if (n == sizeof error) {
    ::waitpid(child, nullptr, 0);
    throw Error(cat("cannot start ", argv[0], " in the background: ", std::strerror(error)));
  }
  return child;
}

}  // namespace ribo
