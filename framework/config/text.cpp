#include "config/text.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "ribo/config.h"

namespace ribo {

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += separator;
    out += word;
  }
  return out;
}

std::string unknown_key(std::string_view key, const std::vector<std::string>& known,
                        const std::vector<std::string>& valid) {
  std::string hint = did_you_mean(key, known);
  if (hint.empty()) {
    hint = valid.empty() ? "; it takes no keys of its own" : "; valid keys: " + join(valid);
  }
  return cat("unknown key ", quote(key), hint);
}

std::string quote(std::string_view text) {
  constexpr size_t kLongest = 60;
  const bool cut = text.size() > kLongest;
  if (cut) {
    size_t end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end);
  }
  std::string out = "\"";
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else {
      out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
    }
  }
  return out + (cut ? "...\"" : "\"");
}

bool is_null_text(std::string_view text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

std::string format_number(double v) {
  char buffer[64];
  const bool whole = std::abs(v) < 1e15 && v == std::floor(v);
  const auto end = whole ? std::to_chars(buffer, buffer + sizeof buffer, static_cast<int64_t>(v))
                         : std::to_chars(buffer, buffer + sizeof buffer, v);
  return std::string(buffer, end.ptr);
}

Place place_of(std::string_view text, size_t offset) {
  Place place;
  for (size_t i = 0; i < offset && i < text.size(); ++i) {
    ++place.column;
    if (text[i] == '\n') place = {place.line + 1, 1};
  }
  return place;
}

size_t find_invalid_utf8(std::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  for (size_t i = 0; i < text.size();) {
    const unsigned first = byte(i);
    if (first < 0x80) {
      ++i;
      continue;
    }
    const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    uint32_t code = first & (0xFFu >> (length + 1));
    bool valid = first >= 0xC2 && first <= 0xF4;
    for (size_t k = 1; k < length; ++k) {
      valid = valid && (byte(i + k) & 0xC0) == 0x80;
      code = (code << 6) | (byte(i + k) & 0x3F);
    }
    const uint32_t smallest = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0x80;
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    if (!valid || code < smallest || code > 0x10FFFF || surrogate) return i;
    i += length;
  }
  return std::string_view::npos;
}

namespace {

bool is_variable_name(std::string_view name) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
  if (name.empty() || kLetters.find(name[0]) == std::string_view::npos) return false;
  return name.find_first_not_of(std::string(kLetters) + "0123456789") == std::string_view::npos;
}

}  // namespace

std::string expand_environment(std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const std::string_view rest = std::string_view(text).substr(i);
    if (rest.starts_with("$${")) {
      out += "${";
      i += 3;
      continue;
    }
    if (!rest.starts_with("${")) {
      out += text[i++];
      continue;
    }
    const size_t end = rest.find('}');
    if (end == std::string_view::npos) {
      return "\"${\" has no closing \"}\"; for a literal \"${\" write \"$${\"";
    }
    const std::string_view inside = rest.substr(2, end - 2);
    const size_t split = inside.find(":-");
    const std::string name(inside.substr(0, split));
    if (!is_variable_name(name)) {
      return cat(quote(rest.substr(0, end + 1)),
                 " names no environment variable; write ${NAME} or ",
                 "${NAME:-default}, or $${ for a literal ${");
    }
    const char* value = std::getenv(name.c_str());
    if (split == std::string_view::npos) {
      if (!value) {
        return cat("environment variable \"", name, "\" is not set; set it, or write ${", name,
                   ":-default}");
      }
      out += value;
    } else if (value && *value) {
      out += value;
    } else {
      const std::string_view fallback = inside.substr(split + 2);
      if (fallback.find("${") != std::string_view::npos) {
        return cat("the default of ${", name, ":-...} holds another \"${\"; defaults do not nest");
      }
      out += fallback;
    }
    i += end + 1;
  }
  text = std::move(out);
  return "";
}

std::string escape_environment(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("${")) out += '$';
    out += text[i];
  }
  return out;
}

}  // namespace ribo
