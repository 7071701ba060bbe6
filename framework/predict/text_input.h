// The beginning of a text before it is read, and its lines.
#pragma once

#include <string>
#include <string_view>

#include "ribo/files.h"

namespace ribo {

/// A file or standard input ("-") of UTF-8 text. Throws Error for one that cannot be read, or is
/// compressed or UTF-16.
class TextInput {
 public:
  explicit TextInput(const std::string& path);

  /// The file as messages name it.
  const std::string& name() const { return name_; }
  /// Up to the first 64 KiB, without a byte order mark, whatever has been read since.
  std::string_view beginning() const { return beginning_; }

  /// The next bytes, the beginning's first; as Reading.
  size_t read(char* buffer, size_t size);
  /// The next line, without its line break (LF or CRLF); false at the end.
  bool next_line(std::string& line);
  /// The number of that line, counted from 1.
  uint64_t line() const { return line_; }
  /// Throws an Error at that line.
  [[noreturn]] void fail(std::string_view what) const { fail_at(line_, what); }
  [[noreturn]] void fail_at(uint64_t line, std::string_view what) const;

 private:
  std::string name_;
  Reading read_;
  std::string beginning_;
  size_t served_ = 0;  // of the beginning
  std::string block_;  // for next_line()
  size_t at_ = 0;      // in block_
  uint64_t line_ = 0;
};

}  // namespace ribo
