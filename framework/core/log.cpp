// The one file that sees spdlog: its fmt does not compile beside the fmt in torch's headers.
#include "ribo/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>

namespace ribo::log {
namespace {

std::atomic<void (*)()> hook_before{nullptr};
std::atomic<void (*)()> hook_after{nullptr};

// Lets a progress bar step aside for a line of text.
class TerminalSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  TerminalSink() { inner_.set_pattern("%^%v%$"); }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (auto hook = hook_before.load()) hook();
    spdlog::details::log_msg shown = message;
    std::string text;
    if (message.level >= spdlog::level::warn) {
      text = message.level == spdlog::level::warn ? "warning: " : "error: ";
      text.append(message.payload.data(), message.payload.size());
      shown.payload = text;
    }
    inner_.log(shown);
    inner_.flush();
    if (auto hook = hook_after.load()) hook();
  }
  void flush_() override { inner_.flush(); }

 private:
  spdlog::sinks::stderr_color_sink_st inner_;
};

struct Loggers {
  std::shared_ptr<TerminalSink> terminal = std::make_shared<TerminalSink>();
  std::shared_ptr<spdlog::logger> logger = std::make_shared<spdlog::logger>("ribo", terminal);
  Loggers() {
    logger->set_level(spdlog::level::debug);
    terminal->set_level(spdlog::level::info);
    logger->flush_on(spdlog::level::info);
  }
};

Loggers& loggers() {
  static Loggers instance;
  return instance;
}

spdlog::string_view_t view(std::string_view s) { return {s.data(), s.size()}; }

}  // namespace

void debug(std::string_view m) { loggers().logger->log(spdlog::level::debug, view(m)); }
void info(std::string_view m) { loggers().logger->log(spdlog::level::info, view(m)); }
void warn(std::string_view m) { loggers().logger->log(spdlog::level::warn, view(m)); }
void error(std::string_view m) { loggers().logger->log(spdlog::level::err, view(m)); }

void add_file(const std::string& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    sink->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
    loggers().logger->sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& e) {
    throw Error(cat("cannot write the log: ", e.what()));
  }
}

void set_level(Level level) {
  loggers().terminal->set_level(level == Level::quiet     ? spdlog::level::warn
                                : level == Level::verbose ? spdlog::level::debug
                                                          : spdlog::level::info);
}

void set_terminal_hook(void (*before)(), void (*after)()) {
  hook_before = before;
  hook_after = after;
}

}  // namespace ribo::log
