#include "predict/text_input.h"

#include <algorithm>

namespace ribo {
namespace {

constexpr size_t kBeginning = size_t{64} << 10;
constexpr size_t kBlock = size_t{1} << 20;

}  // namespace

TextInput::TextInput(const std::string& path)
    : name_(path == "-" ? "standard input" : path), read_(read_file(path)) {
  beginning_.resize(kBeginning);
  size_t size = 0;
  // A pipe gives little at a time.
  while (size < kBeginning) {
    const size_t n = read_(beginning_.data() + size, kBeginning - size);
    if (n == 0) break;
    size += n;
  }
  beginning_.resize(size);
  if (beginning_.starts_with("\xEF\xBB\xBF")) beginning_.erase(0, 3);
  if (beginning_.starts_with("\x1F\x8B") || beginning_.starts_with("PK\x03\x04")) {
    fail_at(1, "the file is compressed; unpack it first");
  }
  if (beginning_.starts_with("\xFF\xFE") || beginning_.starts_with("\xFE\xFF")) {
    fail_at(1, "the file is UTF-16; save it as UTF-8");
  }
}

size_t TextInput::read(char* buffer, size_t size) {
  if (served_ == beginning_.size()) return read_(buffer, size);
  const size_t n = beginning_.copy(buffer, size, served_);
  served_ += n;
  return n;
}

bool TextInput::next_line(std::string& line) {
  line.clear();
  bool some = false;
  for (;;) {
    if (at_ == block_.size()) {
      block_.resize(kBlock);
      block_.resize(read(block_.data(), kBlock));
      at_ = 0;
      if (block_.empty()) break;
    }
    some = true;
    const size_t end = block_.find('\n', at_);
    line.append(block_, at_, end == std::string::npos ? end : end - at_);
    at_ = end == std::string::npos ? block_.size() : end + 1;
    if (end != std::string::npos) break;
  }
  if (!some) return false;
  ++line_;
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

void TextInput::fail_at(uint64_t line, std::string_view what) const {
  throw Error(cat(name_, ":", line, ": ", what));
}

}  // namespace ribo
