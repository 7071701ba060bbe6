#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string_view>

#include "ribo/log.h"
#include "train/observers.h"
#include "train/progress.h"

namespace ribo {
namespace {

using Clock = std::chrono::steady_clock;

// False when nobody reads `fd` any more.
bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    // A terminal that is too slow loses a frame, not the bar.
    if (n < 0 && errno == EAGAIN) return true;
    if (n < 0 && errno != EINTR) return false;
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

class TerminalBar;

// ribo::log calls plain functions, from any thread that logs, so they need a place to find the bar.
// Both live as long as the process, for a thread that still logs at its end.
std::mutex terminal;  // guards everything below and each bar's state
TerminalBar* current = nullptr;

class TerminalBar final : public Observer {
 public:
  explicit TerminalBar(int fd) : fd_(fd) {
    {
      const std::lock_guard lock(terminal);
      current = this;
    }
    log::set_terminal_hook(&before_log_line, &after_log_line);
  }
  ~TerminalBar() override {
    const std::lock_guard lock(terminal);
    clear();
    // The hooks stay set and find nothing: another thread may be between its two calls.
    if (current == this) current = nullptr;
  }

  void on(const RunStarted& event) override {
    const std::lock_guard lock(terminal);
    progress_.add(event);
    closed_ = false;
    draw();
  }
  void on(const UpdateDone& event) override {
    const std::lock_guard lock(terminal);
    progress_.add(event);
    if (Clock::now() - last_draw_ >= std::chrono::milliseconds(100)) draw();
  }
  void on(const ValidationDone& event) override {
    std::string line;
    {
      const std::lock_guard lock(terminal);
      progress_.add(event);
      line = format_validation(event, progress_.updates());
    }
    log::info(line);  // unlocked: it comes back through the hooks
  }
  void on(const RunFinished&) override {
    const std::lock_guard lock(terminal);
    clear();
    closed_ = true;
  }

 private:
  static void before_log_line() {
    const std::lock_guard lock(terminal);
    if (!current) return;
    current->clear();
    current->aside_ = true;
  }
  static void after_log_line() {
    const std::lock_guard lock(terminal);
    if (!current) return;
    current->aside_ = false;
    current->draw();
  }

  void draw() {
    if (closed_ || aside_) return;
    // Asked anew each time: the user may have resized the window.
    winsize size{};
    const bool known = ::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    put(cat("\r\x1b[2K", progress_.line(known ? size.ws_col : 80)));
    drawn_ = true;
    last_draw_ = Clock::now();
  }
  void clear() {
    if (drawn_) put("\r\x1b[2K");
    drawn_ = false;
  }
  void put(std::string_view text) {
    if (readable_) readable_ = write_all(fd_, text);
  }

  const int fd_;
  Progress progress_;
  bool closed_ = true;  // nothing to show before a run starts and after it
  bool drawn_ = false;  // the line is on the screen now
  bool aside_ = false;  // a log line is being written
  bool readable_ = true;
  Clock::time_point last_draw_{};
};

class PlainProgress final : public Observer {
 public:
  explicit PlainProgress(int fd) : fd_(fd) {}

  void on(const RunStarted& event) override { progress_.add(event); }
  void on(const UpdateDone& event) override {
    progress_.add(event);
    if (!readable_) return;
    const auto now = Clock::now();
    if (!progress_.at_boundary() && now - last_line_ < std::chrono::seconds(10)) return;
    last_line_ = now;
    readable_ = write_all(fd_, progress_.plain_line() + "\n");
  }
  void on(const ValidationDone& event) override {
    progress_.add(event);
    log::info(format_validation(event, progress_.updates()));
  }

 private:
  const int fd_;
  Progress progress_;
  bool readable_ = true;
  Clock::time_point last_line_ = Clock::now();
};

}  // namespace

std::shared_ptr<Observer> make_progress_bar(int fd) {
  const char* term = std::getenv("TERM");
  const bool can_redraw = ::isatty(fd) == 1 && !(term && std::string_view(term) == "dumb");
  if (can_redraw) return std::make_shared<TerminalBar>(fd);
  return std::make_shared<PlainProgress>(fd);
}

}  // namespace ribo
