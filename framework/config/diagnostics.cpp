#include <algorithm>
#include <cctype>
#include <tuple>

#include "config/text.h"
#include "ribo/config.h"

namespace ribo {
namespace {

bool stands_before(const Mark& a, const Mark& b) {
  static const std::string kNowhere;
  const auto key = [](const Mark& m) {
    return std::tuple<const std::string&, int, int>(m.file ? *m.file : kNowhere, m.line, m.column);
  };
  return key(a) < key(b);
}

// "drop-out" and "Dropout" are the slips of a hand that knows the word.
std::string fold(std::string_view word) {
  std::string out(word);
  for (char& c : out) {
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return out;
}

// Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before, last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before = last;
    last = row;
  }
  return last[b.size()];
}

}  // namespace

void Diagnostics::error(const Mark& mark, std::string_view path, std::string_view what) {
  std::string line = mark.str();
  for (const std::string_view part : {path, what}) {
    if (part.empty()) continue;
    if (!line.empty()) line += ": ";
    line += part;
  }
  // One slip in something that is used twice is one problem.
  if (std::find(errors_.begin(), errors_.end(), line) != errors_.end()) return;
  const auto at = std::upper_bound(marks_.begin(), marks_.end(), mark, stands_before);
  errors_.insert(errors_.begin() + (at - marks_.begin()), std::move(line));
  marks_.insert(at, mark);
}

void Diagnostics::throw_if_any() const {
  constexpr size_t kShown = 25;  // a screen
  if (ok()) return;
  std::string text;
  for (size_t i = 0; i < std::min(errors_.size(), kShown); ++i) {
    text += (i ? "\n" : "") + errors_[i];
  }
  if (errors_.size() > kShown) text += cat("\n... and ", errors_.size() - kShown, " more");
  throw ConfigError(text);
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr size_t kLongest = 64;  // a longer word is no slip, and the distance is quadratic
  if (word.empty() || word.size() > kLongest) return "";
  const std::string folded = fold(word);
  const std::string* best = nullptr;
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kLongest) continue;
    const std::string other = fold(candidate);
    size_t distance = edit_distance(folded, other);
    const bool shortened = folded.size() >= 3 && other.starts_with(folded);
    if (shortened) distance = std::min<size_t>(distance, 1);
    if (distance >= folded.size() || distance >= best_distance) continue;
    best = &candidate;
    best_distance = distance;
  }
  return best ? cat("; did you mean ", quote(*best), "?") : "";
}

}  // namespace ribo
