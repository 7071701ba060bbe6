// A file that a run appends records to, as metrics.jsonl and TensorBoard's events are.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

namespace ribo {

/// Buffers whole records and hands them to the file at most once a second, so that a reader sees
/// them soon and a training step costs no system call. A full disk must not end a run of days: the
/// first failed write is reported by log::warn, and what follows is dropped. Not thread-safe.
class AppendFile {
 public:
  /// Opens or creates the file, and with `must_be_new` refuses one that exists. Throws Error.
  explicit AppendFile(std::filesystem::path path, bool must_be_new = false);
  /// Flushes.
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;

  /// Appends one record, which is lost as a whole if the process dies within the next second.
  void write(std::string_view record);
  void flush();

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::string buffer_;
  std::chrono::steady_clock::time_point last_flush_{};
  bool failed_ = false;
};

}  // namespace ribo
