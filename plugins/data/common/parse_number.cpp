#include "common/parse_number.h"

#include <strings.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <string>

namespace ribo {

bool parse_unusual_number(std::string_view text, double& out) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  for (const char* missing : {"", "nan", "na", "null"}) {
    if (strcasecmp(std::string(text.substr(0, 8)).c_str(), missing) == 0) {
      out = std::numeric_limits<double>::quiet_NaN();
      return true;
    }
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(out);
}

}  // namespace ribo
