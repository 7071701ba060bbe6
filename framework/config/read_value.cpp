#include <algorithm>
#include <charconv>
#include <cmath>

#include "config/text.h"
#include "ribo/schema.h"

namespace ribo {
namespace {

constexpr std::string_view kDigits = "0123456789";
constexpr std::string_view kInteger = "an integer";
constexpr std::string_view kNumber = "a number";
constexpr std::string_view kInterval =
    "an interval such as 500u (updates), 2e (epochs), 30m, 90s or 1h";

std::string expected(std::string_view what, const Value& value, std::string_view remedy = "") {
  return cat("expected ", what, ", got ", value.describe(), remedy);
}

size_t count_digits(std::string_view text) {
  return std::min(text.find_first_not_of(kDigits), text.size());
}

std::string_view without_sign(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return text;
}

// [digits][.digits][e[sign]digits], with a digit before the exponent.
bool is_decimal(std::string_view text) {
  text = without_sign(text);
  size_t digits = count_digits(text);
  text.remove_prefix(digits);
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    const size_t fraction = count_digits(text);
    text.remove_prefix(fraction);
    digits += fraction;
  }
  if (digits == 0 || text.empty()) return digits > 0;
  if (text[0] != 'e' && text[0] != 'E') return false;
  text = without_sign(text.substr(1));
  return !text.empty() && count_digits(text) == text.size();
}

bool is_octal_looking(std::string_view text) {
  text = without_sign(text);
  return count_digits(text) > 1 && text[0] == '0';
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

// Why a text that a person may take for a number is none; "" where there is nothing to say.
std::string number_hint(std::string_view text) {
  const std::string word = lower(without_sign(text));
  if (word == ".inf" || word == "inf" || word == "infinity" || word == ".nan" || word == "nan") {
    return "; numbers must be finite";
  }
  if (word.starts_with("0x") || word.starts_with("0o") || word.starts_with("0b")) {
    return "; write it in decimal";
  }
  std::string joined(text);
  std::erase(joined, '_');
  if (joined.size() < text.size() && is_decimal(joined)) return "; write it without \"_\"";
  return "";
}

std::string parse_double(std::string_view what, const Value& value, double& out) {
  if (!value.is_scalar()) return expected(what, value);
  const std::string& text = value.text;
  if (!is_decimal(text)) return expected(what, value, number_hint(text));
  if (value.quoted) {
    return cat("expected ", what, ", got the quoted text ", quote(text), "; remove the quotes");
  }
  if (is_octal_looking(text)) {
    return expected(what, value, "; write it without leading zeros");
  }
  const std::string_view number = text.starts_with('+') ? std::string_view(text).substr(1) : text;
  double v = 0;
  if (std::from_chars(number.data(), number.data() + number.size(), v).ec != std::errc()) {
    return expected(what, value, "; that is beyond the range of a double");
  }
  out = v;
  return "";
}

std::string parse_integer(std::string_view what, const Value& value, int64_t& out) {
  double v = 0;
  if (std::string wrong = parse_double(what, value, v); !wrong.empty()) return wrong;
  const std::string& text = value.text;
  const std::string_view number = text.starts_with('+') ? std::string_view(text).substr(1) : text;
  if (count_digits(without_sign(text)) == without_sign(text).size()) {
    int64_t exact = 0;
    if (std::from_chars(number.data(), number.data() + number.size(), exact).ec != std::errc()) {
      return expected(what, value, "; that does not fit in 64 bits");
    }
    out = exact;
    return "";
  }
  if (v != std::floor(v)) return expected(what, value);
  if (std::abs(v) > 9007199254740992.0) {  // beyond 2^53 a double skips integers
    return expected(what, value, "; write all its digits");
  }
  out = static_cast<int64_t>(v);
  return "";
}

std::string parse_interval(std::string_view what, const Value& value, Interval& out) {
  if (!value.is_scalar() || value.text.empty()) return expected(what, value);
  const char letter = value.text.back();
  constexpr std::string_view kUnits = "uesmh";
  const Value number = Value::scalar(value.text.substr(0, value.text.size() - 1));
  if (kUnits.find(letter) == std::string_view::npos || !is_decimal(number.text)) {
    return expected(what, value, is_decimal(value.text) ? "; add the unit" : "");
  }
  Interval read;
  if (std::string wrong = parse_double("a number before the unit", number, read.count);
      !wrong.empty()) {
    return wrong;
  }
  if (read.count < 0) return expected(what, value, "; it must not be negative");
  if (letter == 'u' && read.count != std::floor(read.count)) {
    return expected(what, value, "; updates must be whole");
  }
  if (letter == 'e') read.unit = Interval::Unit::epochs;
  if (letter == 's' || letter == 'm' || letter == 'h') read.unit = Interval::Unit::seconds;
  if (letter == 'm') read.count *= 60;
  if (letter == 'h') read.count *= 3600;
  out = read;
  return "";
}

template <class T, class Parse>
std::string read_optional(std::string_view what, const Value& value, std::optional<T>& out,
                          Parse parse) {
  if (value.is_scalar() && value.text == "auto") {
    out.reset();
    return "";
  }
  T read{};
  std::string wrong = parse(cat(what, ", or auto"), value, read);
  if (wrong.empty()) out = read;
  return wrong;
}

template <class T>
std::string read_list(std::string_view what, const Value& value, std::vector<T>& out) {
  if (value.is_null() || value.is_map()) return expected(what, value);
  std::vector<T> read;
  const auto take = [&read](const Value& item) {
    T entry{};
    std::string wrong = read_value(item, entry);
    if (wrong.empty()) read.push_back(std::move(entry));
    return wrong;
  };
  if (value.is_scalar()) {
    if (std::string wrong = take(value); !wrong.empty()) return wrong;
  }
  for (size_t i = 0; i < value.items.size(); ++i) {
    if (std::string wrong = take(value.items[i]); !wrong.empty()) return cat("[", i, "]: ", wrong);
  }
  out = std::move(read);
  return "";
}

template <class T>
Value write_list(const std::vector<T>& entries) {
  Value list = Value::list();
  for (const T& entry : entries) list.items.push_back(write_value(entry));
  return list;
}

template <class T>
Value write_optional(const std::optional<T>& v) {
  return v ? write_value(*v) : Value::scalar("auto");
}

}  // namespace

std::string Interval::str() const {
  if (unit == Unit::updates) return format_number(count) + "u";
  if (unit == Unit::epochs) return format_number(count) + "e";
  const auto whole = [this](double unit_seconds) {
    return count > 0 && std::fmod(count, unit_seconds) == 0;
  };
  if (whole(3600)) return format_number(count / 3600) + "h";
  if (whole(60)) return format_number(count / 60) + "m";
  return format_number(count) + "s";
}

std::string read_value(const Value& value, bool& out) {
  if (!value.is_scalar()) return expected("true or false", value);
  const std::string word = lower(value.text);
  const bool yes = word == "true" || word == "yes" || word == "on" || word == "y";
  const bool no = word == "false" || word == "no" || word == "off" || word == "n";
  if (value.text != "true" && value.text != "false") {
    return expected("true or false", value, yes ? "; write true" : no ? "; write false" : "");
  }
  if (value.quoted) {
    return cat("expected true or false, got the quoted text ", quote(value.text),
               "; remove the quotes");
  }
  out = yes;
  return "";
}

std::string read_value(const Value& value, int64_t& out) {
  return parse_integer(kInteger, value, out);
}
std::string read_value(const Value& value, double& out) {
  return parse_double(kNumber, value, out);
}
std::string read_value(const Value& value, std::string& out) {
  if (!value.is_scalar()) return expected("a string", value);
  out = value.text;
  return "";
}
std::string read_value(const Value& value, Interval& out) {
  return parse_interval(kInterval, value, out);
}
std::string read_value(const Value& value, std::optional<int64_t>& out) {
  return read_optional(kInteger, value, out, parse_integer);
}
std::string read_value(const Value& value, std::optional<double>& out) {
  return read_optional(kNumber, value, out, parse_double);
}
std::string read_value(const Value& value, std::optional<Interval>& out) {
  return read_optional(kInterval, value, out, parse_interval);
}
std::string read_value(const Value& value, std::vector<int64_t>& out) {
  return read_list("a list of integers", value, out);
}
std::string read_value(const Value& value, std::vector<double>& out) {
  return read_list("a list of numbers", value, out);
}
std::string read_value(const Value& value, std::vector<std::string>& out) {
  return read_list("a list of strings", value, out);
}
std::string read_value(const Value& value, Value& out) {
  out = value;
  return "";
}

Value write_value(bool v) { return Value::scalar(v ? "true" : "false"); }
Value write_value(int64_t v) { return Value::scalar(cat(v)); }
Value write_value(double v) { return Value::scalar(format_number(v)); }
Value write_value(const std::string& v) { return Value::scalar(v); }
Value write_value(const Interval& v) { return Value::scalar(v.str()); }
Value write_value(const std::optional<int64_t>& v) { return write_optional(v); }
Value write_value(const std::optional<double>& v) { return write_optional(v); }
Value write_value(const std::optional<Interval>& v) { return write_optional(v); }
Value write_value(const std::vector<int64_t>& v) { return write_list(v); }
Value write_value(const std::vector<double>& v) { return write_list(v); }
Value write_value(const std::vector<std::string>& v) { return write_list(v); }
Value write_value(const Value& v) { return v; }

}  // namespace ribo
