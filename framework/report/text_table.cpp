#include "report/text_table.h"

#include <algorithm>

#include "train/progress.h"

namespace ribo {

std::string TextTable::str() const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string space(widths[c] - row[c].size(), ' ');
      line += c == 0 ? row[c] + space : "  " + space + row[c];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string format_bounds(const std::optional<Bounds>& bounds) {
  return bounds ? cat(format_score(bounds->low), "..", format_score(bounds->high)) : "-";
}

}  // namespace ribo
