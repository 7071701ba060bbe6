#include "ribo/csv_reader.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "ribo/config.h"

namespace ribo {
namespace {

// A quote that is never closed would otherwise pull the rest of the file into memory.
constexpr size_t kLongestRecord = size_t{64} << 20;
constexpr size_t kShownColumns = 20;

}  // namespace

CsvReader::CsvReader(const std::filesystem::path& path, size_t block)
    : CsvReader(path.string(), read_file(path), block) {}

CsvReader::CsvReader(std::string name, Reading read, size_t block)
    : name_(std::move(name)), read_(std::move(read)), block_(std::max<size_t>(block, 1)) {
  read_header();
}

void CsvReader::fail_at(uint64_t line, std::string_view what) const {
  throw Error(cat(name_, ":", line, ": ", what));
}

void CsvReader::fail_in(size_t field, std::string_view what) const {
  const char* const record = buffer_.data() + begin_;
  const auto breaks = quoted_ ? std::count(record, fields_[field].data(), '\n') : 0;
  fail_at(line_ + static_cast<uint64_t>(breaks), what);
}

// Moves the unread rest to the front and reads one block behind it; false at the end of the file.
bool CsvReader::refill() {
  if (at_end_) return false;
  const size_t rest = end_ - begin_;
  if (rest > kLongestRecord) {
    fail_at(next_line_, cat("a record of more than ", kLongestRecord >> 20,
                            " MiB begins here; close its quoted field"));
  }
  if (begin_ > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, rest);
  begin_ = next_ = 0;
  end_ = rest;
  if (buffer_.size() < rest + block_ + 1) buffer_.resize(std::max(rest + block_, 2 * rest) + 1);
  const size_t n = read_(buffer_.data() + end_, block_);
  at_end_ = n == 0;
  end_ += n;
  buffer_[end_] = '\n';
  return true;
}

// Splits the record at begin_; false when its end is not in the buffer yet.
bool CsvReader::scan() {
  fields_.clear();
  doubled_.clear();
  quoted_ = false;
  char* p = buffer_.data() + begin_;
  char* const end = buffer_.data() + end_;
  for (;;) {
    if (*p == '"') {
      if (!scan_quoted(p)) return false;
    } else {
      char* const start = p;
      while (*p != ',' && *p != '\n') ++p;
      const bool carriage = *p == '\n' && p > start && p[-1] == '\r';
      fields_.emplace_back(start, static_cast<size_t>(p - start) - carriage);
    }
    if (*p == '\n') break;
    ++p;
  }
  if (p == end && !at_end_) return false;
  next_ = static_cast<size_t>(std::min(p + 1, end) - buffer_.data());
  return true;
}

// Reads the quoted field at `p`, which then stands at the comma or line break behind it.
bool CsvReader::scan_quoted(char*& p) {
  char* const end = buffer_.data() + end_;
  char* const start = p + 1;
  bool doubled = false;
  for (p = start;; p += 2, doubled = true) {
    p = static_cast<char*>(std::memchr(p, '"', static_cast<size_t>(end - p)));
    if (p == nullptr || p + 1 == end) {
      if (!at_end_) return false;
      if (p == nullptr) {
        const auto breaks = std::count(buffer_.data() + begin_, start, '\n');
        fail_at(next_line_ + static_cast<uint64_t>(breaks),
                "a quoted field begins here and never ends; close it with a quote");
      }
      break;
    }
    if (p[1] != '"') break;
  }
  if (doubled) doubled_.push_back(fields_.size());
  fields_.emplace_back(start, static_cast<size_t>(p - start));
  quoted_ = true;
  ++p;
  if (p < end && *p == '\r') {
    if (p + 1 == end && !at_end_) return false;
    if (p[1] == '\n') ++p;
  }
  if (*p != ',' && *p != '\n') {
    const auto breaks = std::count(buffer_.data() + begin_, p, '\n');
    fail_at(next_line_ + static_cast<uint64_t>(breaks),
            "text follows a closing quote; double the quotes within a quoted field");
  }
  return true;
}

// Halves doubled quotes, in place: the field only becomes shorter. What is left behind it must hold
// no line break, since fail_in() counts them.
void CsvReader::unquote(std::string_view& field) {
  char* const start = buffer_.data() + (field.data() - buffer_.data());
  char* out = start;
  for (size_t k = 0; k < field.size(); ++k) {
    *out++ = start[k];
    if (start[k] == '"') ++k;
  }
  std::fill(out, start + field.size(), '"');
  field = {start, static_cast<size_t>(out - start)};
}

bool CsvReader::next_record() {
  begin_ = next_;
  for (;;) {
    while (begin_ == end_ || !scan()) {
      if (!refill()) return false;
    }
    line_ = next_line_;
    next_line_ += quoted_ ? static_cast<uint64_t>(
                                std::count(buffer_.data() + begin_, buffer_.data() + next_, '\n'))
                          : 1;
    if (quoted_ || fields_.size() > 1 || !fields_[0].empty()) break;
    begin_ = next_;
  }
  for (const size_t i : doubled_) unquote(fields_[i]);
  return true;
}

bool CsvReader::next() {
  if (!next_record()) return false;
  if (fields_.size() != header_.size()) {
    fail(cat(fields_.size(), " fields where the header has ", header_.size(),
             "; every row needs one for each column"));
  }
  return true;
}

void CsvReader::read_header() {
  static constexpr std::string_view kMark = "\xEF\xBB\xBF";
  while (end_ < kMark.size() && refill()) {
  }
  if (std::string_view(buffer_.data(), end_).starts_with(kMark)) {
    next_ = kMark.size();
  }
  if (!next_record()) {
    throw Error(cat(name_,
                    ":1: the file is empty; a header line with column names comes "
                    "first"));
  }
  std::unordered_map<std::string_view, size_t> seen;
  for (const std::string_view name : fields_) {
    if (std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < ' '; })) {
      fail("this is not a table of text; unpack a compressed file first");
    }
    if (!name.empty() && !seen.emplace(name, seen.size()).second) {
      fail(cat("two columns are called `", name, "`; rename one"));
    }
    header_.emplace_back(name);
  }
}

size_t CsvReader::find(std::string_view name) const {
  const auto it = std::find(header_.begin(), header_.end(), name);
  return it == header_.end() ? kNone : static_cast<size_t>(it - header_.begin());
}

size_t CsvReader::require(const std::vector<std::string>& names) const {
  std::string wanted, have;
  for (const std::string& name : names) {
    if (const size_t column = find(name); column != kNone) return column;
    wanted += cat(wanted.empty() ? "`" : " or `", name, "`");
  }
  const std::string meant = did_you_mean(names[0], header_);
  for (size_t i = 0; i < std::min(header_.size(), kShownColumns); ++i) {
    have += cat(i > 0 ? ", " : "", header_[i]);
  }
  if (header_.size() > kShownColumns) have += ", ...";
  fail_at(1, cat("there is no column ", wanted, meant, meant.empty() ? "; " : " ", "the columns are: ",
                 have));
}

}  // namespace ribo
