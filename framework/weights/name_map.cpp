#include "weights/name_map.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

namespace ribo {

Bindings NameMap::numbers(const std::vector<std::string>& names, Side side) const {
  Bindings out;
  for (const Largest& largest : largest_) {
    int64_t best = -1;
    for (const std::string& name : names) {
      Bindings bindings;
      if (!largest.patterns.of(side).front().match(name, bindings)) continue;
      const std::string& text = bindings.at(largest.name);
      int64_t number = -1;
      std::from_chars(text.data(), text.data() + text.size(), number);
      best = std::max(best, number);
    }
    if (best >= 0) out[largest.name] = cat(best);
  }
  return out;
}

Side NameMap::side_of(const std::vector<std::string>& names) const {
  const size_t without_ours = plan(names, Side::ours).surplus.size();
  const size_t without_theirs = plan(names, Side::theirs).surplus.size();
  if (std::min(without_ours, without_theirs) == names.size()) {
    throw Error(cat("no pattern of ", file_, " matches any of these names",
                    names.empty() ? "; there are none"
                                  : cat(", of which one is `", names.front(), "`")));
  }
  return without_ours < without_theirs ? Side::ours : Side::theirs;
}

RenamingPlan NameMap::plan(const std::vector<std::string>& names, Side from) const {
  const Side to = from == Side::ours ? Side::theirs : Side::ours;
  const Bindings known = numbers(names, from);
  const std::set<std::string> given(names.begin(), names.end());
  RenamingPlan out;
  std::map<std::string, std::string> source;  // of each name that is made
  std::set<std::string> joined;               // names that are made of several

  const auto add = [&](const Sides& pair, const Bindings& bindings, const std::string& name) {
    Renaming renaming;
    const auto fill = [&](const std::vector<NamePattern>& patterns, auto& filled) {
      for (const NamePattern& pattern : patterns) {
        const auto text = pattern.fill(bindings);
        if (!text) return false;
        filled.push_back(*text);
      }
      return true;
    };
    if (!fill(pair.of(from), renaming.from) || !fill(pair.of(to), renaming.to)) return false;
    const bool joins = renaming.from.size() > 1;
    if (joins && !joined.insert(renaming.to[0]).second) return true;  // by another part
    for (const std::string& made : renaming.to) {
      const auto [it, added] = source.emplace(made, name);
      if (!added) {
        throw Error(cat("`", it->second, "` and `", name, "` would both become `", made,
                        "`; correct ", file_));
      }
    }
    bool whole = true;
    for (const std::string& part : renaming.from) {
      if (given.contains(part)) continue;
      out.missing.push_back(part);
      whole = false;
    }
    if (whole) out.renamings.push_back(std::move(renaming));
    return true;
  };

  for (const std::string& name : given) {
    bool found = false;
    for (const Sides& pair : pairs_) {
      for (const NamePattern& pattern : pair.of(from)) {
        Bindings bindings = known;
        if (!found && pattern.match(name, bindings)) found = add(pair, bindings, name);
      }
      if (found) break;
    }
    if (!found) out.surplus.push_back(name);
  }
  return out;
}

}  // namespace ribo
