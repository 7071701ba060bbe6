// Comma-separated text (RFC 4180), one record at a time, in the memory of one block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/files.h"

namespace ribo {

/// Fields may be quoted and then hold commas, doubled quotes and line breaks; lines end in LF or
/// CRLF; a UTF-8 byte order mark and empty lines are passed over. Every failure is an Error
/// `file:line: what; remedy`, where the line is the physical one, counted from 1.
class RIBO_API CsvReader {
 public:
  static constexpr size_t kBlock = size_t{8} << 20;

  /// Opens the file and reads the header line. `block` = bytes of one read.
  explicit CsvReader(const std::filesystem::path& path, size_t block = kBlock);
  /// The same of any text; `name` stands for the file in messages.
  CsvReader(std::string name, Reading read, size_t block = kBlock);
  CsvReader(const CsvReader&) = delete;

  const std::vector<std::string>& header() const { return header_; }
  static constexpr size_t kNone = static_cast<size_t>(-1);
  /// The column of that name, or kNone.
  size_t find(std::string_view name) const;
  /// The column that has one of the names; fails, with a suggestion and the columns that are
  /// there, when there is none.
  size_t require(const std::vector<std::string>& names) const;

  /// Goes to the next record; false at the end. Every record has as many fields as the header.
  bool next();
  /// The fields of the record, without their quotes; valid until next().
  const std::vector<std::string_view>& fields() const { return fields_; }

  /// The line on which the record begins.
  uint64_t line() const { return line_; }
  /// Throws Error at the line on which the record begins, or a field of it.
  [[noreturn]] void fail(std::string_view what) const { fail_at(line_, what); }
  [[noreturn]] void fail_in(size_t field, std::string_view what) const;

 private:
  [[noreturn]] void fail_at(uint64_t line, std::string_view what) const;
  bool scan();
  bool scan_quoted(char*& p);
  void unquote(std::string_view& field);
  bool next_record();
  bool refill();
  void read_header();

  std::string name_;
  Reading read_;
  size_t block_;
  bool at_end_ = false;       // of the file
  std::vector<char> buffer_;  // text [begin_, end_), then one '\n' that ends every scan
  size_t begin_ = 0, end_ = 0;
  size_t next_ = 0;    // behind the record at begin_
  uint64_t line_ = 0;  // of the record
  uint64_t next_line_ = 1;
  std::vector<std::string> header_;
  std::vector<std::string_view> fields_;
  std::vector<size_t> doubled_;  // fields that hold doubled quotes
  bool quoted_ = false;          // the record has a quoted field
};

}  // namespace ribo
