// Patterns of tensor names with placeholders: `blocks.3.{i}.0.conv.{w}`.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/error.h"

namespace ribo {

/// What placeholders stand for.
using Bindings = std::map<std::string, std::string, std::less<>>;

/// `{w}` stands for the characters up to the text that follows it in the pattern: at least one, no
/// dot. `{i+1}` and `{i-1}` stand for the decimal number that is one more or less than `i`. A
/// placeholder has the same value wherever it stands.
class NamePattern {
 public:
  /// Throws ConfigError, without a place, for a pattern that makes no sense.
  explicit NamePattern(std::string_view text);

  /// Adds to `bindings`, whose values already there must be met, and returns true; or returns false,
  /// and `bindings` are of no use.
  bool match(std::string_view name, Bindings& bindings) const;
  /// The name, or nothing where a placeholder has no value, or one that its arithmetic can't take.
  std::optional<std::string> fill(const Bindings& bindings) const;

  std::set<std::string> placeholders() const;
  const std::string& text() const { return text_; }

 private:
  struct Piece {
    std::string text;     // of a placeholder: its name
    bool literal = true;
    int64_t offset = 0;
  };
  std::string text_;
  std::vector<Piece> pieces_;
};

}  // namespace ribo
