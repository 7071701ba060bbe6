#include "weights/name_pattern.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace ribo {
namespace {

// A decimal number as a module list writes it: no sign, no leading zero, of a sensible size.
std::optional<int64_t> number_of(std::string_view text) {
  int64_t value = 0;
  if (text.empty() || text.size() > 9 || (text.size() > 1 && text[0] == '0')) return {};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return {};
  return value;
}

bool is_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_';
  });
}

}  // namespace

NamePattern::NamePattern(std::string_view text) : text_(text) {
  while (!text.empty()) {
    if (text[0] != '{') {
      const size_t end = std::min(text.find('{'), text.size());
      pieces_.push_back({std::string(text.substr(0, end))});
      text.remove_prefix(end);
      continue;
    }
    const size_t end = text.find('}');
    const std::string_view inside = text.substr(1, end == text.npos ? end : end - 1);
    const size_t sign = inside.find_first_of("+-");
    Piece piece{std::string(inside.substr(0, sign)), false};
    if (sign != inside.npos) {
      const auto offset = number_of(inside.substr(sign + 1));
      if (!offset) piece.text.clear();
      piece.offset = inside[sign] == '+' ? offset.value_or(0) : -offset.value_or(0);
    }
    if (end == text.npos || !is_word(piece.text)) {
      throw ConfigError(cat("\"", text_, "\" has a placeholder that is none; write {name}, {name+1} "
                            "or {name-1}"));
    }
    if (!pieces_.empty() && !pieces_.back().literal) {
      throw ConfigError(cat("\"", text_, "\" has two placeholders side by side; nothing says where "
                            "one ends"));
    }
    pieces_.push_back(std::move(piece));
    text.remove_prefix(end + 1);
  }
  if (pieces_.empty()) throw ConfigError("an empty pattern matches no name");
}

bool NamePattern::match(std::string_view name, Bindings& bindings) const {
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    if (piece.literal) {
      if (!name.starts_with(piece.text)) return false;
      name.remove_prefix(piece.text.size());
      continue;
    }
    const size_t end = i + 1 < pieces_.size() ? name.find(pieces_[i + 1].text) : name.size();
    if (end == name.npos || end == 0) return false;
    std::string value(name.substr(0, end));
    if (value.find('.') != value.npos) return false;
    if (piece.offset != 0) {
      const auto number = number_of(value);
      if (!number || *number < piece.offset) return false;
      value = cat(*number - piece.offset);
    }
    const auto [it, added] = bindings.emplace(piece.text, value);
    if (!added && it->second != value) return false;
    name.remove_prefix(end);
  }
  return name.empty();
}

std::optional<std::string> NamePattern::fill(const Bindings& bindings) const {
  std::string out;
  for (const Piece& piece : pieces_) {
    if (piece.literal) {
      out += piece.text;
      continue;
    }
    const auto it = bindings.find(piece.text);
    if (it == bindings.end()) return {};
    if (piece.offset == 0) {
      out += it->second;
      continue;
    }
    const auto number = number_of(it->second);
    if (!number || *number + piece.offset < 0) return {};
    out += cat(*number + piece.offset);
  }
  return out;
}

std::set<std::string> NamePattern::placeholders() const {
  std::set<std::string> out;
  for (const Piece& piece : pieces_) {
    if (!piece.literal) out.insert(piece.text);
  }
  return out;
}

}  // namespace ribo
