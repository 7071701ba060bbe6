// Columns of text that line up.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/statistics.h"

namespace ribo {

class TextTable {
 public:
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// The first column to the left, the others to the right, each as wide as it must be.
  std::string str() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// "0.1931..0.2010", or "-" for none.
std::string format_bounds(const std::optional<Bounds>& bounds);

}  // namespace ribo
