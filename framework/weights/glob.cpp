#include "weights/glob.h"

#include <fnmatch.h>

#include <algorithm>
#include <functional>
#include <set>

namespace ribo {
namespace {

// Tells `diagnostics` that `pattern` matches none of `names`.
void glob_matches_nothing(const std::string& pattern, const std::vector<std::string>& names,
                          const Mark& mark, std::string_view path, Diagnostics& diagnostics) {
  // Names and what is above them: "blocks.0.embedding.weight", "blocks.0.embedding.*", "blocks.0.*".
  std::set<std::string> candidates(names.begin(), names.end());
  for (const std::string& name : names) {
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      candidates.insert(name.substr(0, dot) + ".*");
    }
  }
  std::string hint = did_you_mean(pattern, {candidates.begin(), candidates.end()});
  if (hint.empty() && !names.empty()) hint = cat("; a name is, for one, \"", names.front(), "\"");
  diagnostics.error(mark, path, cat("\"", pattern, "\" matches no weight", hint));
}

}  // namespace

bool glob_matches(const std::string& pattern, const std::string& name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

std::vector<bool> glob_select(const std::string& pattern, const std::vector<std::string>& names,
                              const Mark& mark, std::string_view path, Diagnostics& diagnostics) {
  std::vector<bool> selected;
  for (const std::string& name : names) selected.push_back(glob_matches(pattern, name));
  if (std::find(selected.begin(), selected.end(), true) == selected.end()) {
    glob_matches_nothing(pattern, names, mark, path, diagnostics);
  }
  return selected;
}

std::vector<bool> glob_select(const std::vector<std::string>& patterns,
                              const std::vector<std::string>& names, const Value& list,
                              std::string_view path, Diagnostics& diagnostics) {
  std::vector<bool> selected(names.size(), false);
  for (size_t p = 0; p < patterns.size(); ++p) {
    // A list of one may be written as a scalar.
    const Mark& mark = list.is_list() ? list.items[p].mark : list.mark;
    const std::vector<bool> one =
        glob_select(patterns[p], names, mark, cat(path, "[", p, "]"), diagnostics);
    std::transform(one.begin(), one.end(), selected.begin(), selected.begin(), std::logical_or<>());
  }
  return selected;
}

}  // namespace ribo
