#include <algorithm>

#include "config/text.h"
#include "ribo/config.h"

namespace ribo {
namespace {

constexpr size_t kLineWidth = 80;

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// Stricter than YAML: what passes means the same inside [..] and {..}, and to any YAML reader.
bool is_plain(std::string_view text) {
  if (is_null_text(text) || text.starts_with("..") || text.back() == ' ') return false;
  const char first = text[0];
  if (first == '-' || first == '+') {
    if (text.size() < 2 || !(is_alphanumeric(text[1]) || text[1] == '.')) return false;
  } else if (!is_alphanumeric(first) && first != '_' && first != '/' && first != '.') {
    return false;
  }
  return std::all_of(text.begin(), text.end(), [](char c) {
    return is_alphanumeric(c) || std::string_view("_./+- ").find(c) != std::string_view::npos;
  });
}

std::string in_quotes(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string key_text(const std::string& key) {
  // YAML 1.1 readers take y, on, off ... for booleans, 12 for a number: quoted, a key is a string.
  static const std::vector<std::string> kSurprises = {"y",  "n",   "yes",  "no",
                                                      "on", "off", "true", "false"};
  std::string lower = key;
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const bool surprising =
      std::find(kSurprises.begin(), kSurprises.end(), lower) != kSurprises.end();
  return is_plain(key) && !surprising ? key : in_quotes(key);
}

std::string scalar_text(const Value& v) {
  if (v.is_null()) return "null";
  const std::string text = escape_environment(v.text);
  return v.quoted || !is_plain(text) ? in_quotes(text) : text;
}

// A value that needs no lines of its own; "" if it does.
std::string one_line(const Value& v, size_t room) {
  if (v.is_null() || v.is_scalar()) return scalar_text(v);
  if (v.is_map()) return v.members.empty() ? "{}" : "";
  std::string out = "[";
  for (const Value& item : v.items) {
    if (!item.is_null() && !item.is_scalar()) return "";
    if (out.size() > 1) out += ", ";
    out += scalar_text(item);
    if (out.size() >= room) return "";
  }
  return out + "]";
}

// Writes `v`; the cursor stands at column `indent` of a fresh line or right behind "- ".
void write_block(const Value& v, size_t indent, std::string& out) {
  const std::string spaces(indent, ' ');
  bool first = true;
  const auto start_line = [&] {
    if (!first) out += spaces;
    first = false;
  };
  const size_t room = indent < kLineWidth ? kLineWidth - indent : 0;
  for (const Value& item : v.items) {
    start_line();
    out += "- ";
    const std::string line = one_line(item, room);
    if (line.empty()) {
      write_block(item, indent + 2, out);
    } else {
      out += line + "\n";
    }
  }
  for (const Value::Member& m : v.members) {
    start_line();
    const std::string key = key_text(m.key);
    out += key + ":";
    const std::string line = one_line(m.value, room > key.size() ? room - key.size() : 0);
    if (line.empty()) {
      out += "\n" + std::string(indent + 2, ' ');
      write_block(m.value, indent + 2, out);
    } else {
      out += " " + line + "\n";
    }
  }
}

}  // namespace

std::string to_yaml(const Value& value) {
  std::string out = one_line(value, kLineWidth);
  if (!out.empty()) return out + "\n";
  write_block(value, 0, out);
  return out;
}

}  // namespace ribo
