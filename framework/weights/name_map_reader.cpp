// NameMap::read: a map file with all that it extends, its shorthands expanded.
#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "config/text.h"
#include "config/yaml_reader.h"
#include "ribo/schema.h"
#include "weights/name_map.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxChain = 8;          // files that extend each other in a row
constexpr int kMaxDepth = 8;          // shorthands within shorthands
constexpr size_t kMaxPairs = 10'000;  // once expanded

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// One entry as written: texts of patterns.
struct Texts {
  std::vector<std::string> ours, theirs;
  Mark mark;
};

void replace_all(Texts& texts, const std::string& from, const Texts& to) {
  for (std::string& text : texts.ours) text = replace_all(text, from, to.ours[0]);
  for (std::string& text : texts.theirs) text = replace_all(text, from, to.theirs[0]);
}

bool holds(const std::vector<std::string>& texts, const std::string& part) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const std::string& text) { return text.find(part) != text.npos; });
}

}  // namespace

class NameMapReader {
 public:
  NameMap read(const std::string& file) {
    Value root = load(file, 0, Mark{});
    diagnostics_.throw_if_any();
    NameMap map;
    map.file_ = file;
    read_largest(root, map);
    read_define(root);
    const Value* names = root.find("names");
    if (!names || !names->is_list() || names->items.empty()) {
      diagnostics_.error(names ? names->mark : root.mark, "names",
                         "expected a list such as [{ours: \"a.{w}\", theirs: \"b.{w}\"}]");
    } else {
      for (size_t i = 0; i < names->items.size(); ++i) {
        const std::string path = cat("names[", i, "]");
        if (auto texts = read_pair(names->items[i], path, true)) expand(*texts, path, map);
      }
    }
    diagnostics_.throw_if_any();
    return map;
  }

 private:
  // The file's map with what it extends below its own.
  Value load(const std::string& file, int depth, const Mark& asked) {
    std::string text;
    if (const std::string wrong = read_text_file(file, text); !wrong.empty()) {
      diagnostics_.error(asked, asked.file ? "extends" : "", wrong);
      return {};
    }
    std::optional<Value> own = read_yaml(text, file, diagnostics_);
    if (!own) return {};
    check_keys(*own, "", {"extends", "largest", "define", "names"});
    if (!own->is_map()) return {};
    const Value* extends = own->find("extends");
    if (!extends) return std::move(*own);
    if (!extends->is_scalar() || depth == kMaxChain) {
      diagnostics_.error(extends->mark, "extends",
                         extends->is_scalar() ? cat("more than ", kMaxChain, " files in a row")
                                              : "expected the path of a map file");
      return {};
    }
    const fs::path path = (fs::path(file).parent_path() / extends->text).lexically_normal();
    Value merged = load(path.string(), depth + 1, extends->mark);
    if (!merged.is_map()) return {};
    for (const char* key : {"largest", "define"}) {
      const Value* more = own->find(key);
      if (!more) continue;
      Value* base = merged.find(key);
      if (!base || !base->is_map() || !more->is_map()) {
        merged.set(key, *more);
        continue;
      }
      for (const Value::Member& m : more->members) base->set(m.key, m.value, m.key_mark);
    }
    if (const Value* names = own->find("names")) {
      Value all = *names;
      if (const Value* base = merged.find("names"); base && all.is_list()) {
        all.items.insert(all.items.end(), base->items.begin(), base->items.end());
      }
      merged.set("names", std::move(all));
    }
    return merged;
  }

  void check_keys(const Value& map, std::string_view path, const std::vector<std::string>& keys) {
    if (!map.is_map()) {
      diagnostics_.error(map.mark, path, cat("expected a map, got ", map.describe()));
      return;
    }
    for (const Value::Member& m : map.members) {
      if (std::find(keys.begin(), keys.end(), m.key) != keys.end()) continue;
      diagnostics_.error(m.key_mark, path, unknown_key(m.key, keys, keys));
    }
  }

  // {ours: x, theirs: y}; `lists`: one of them may be a list.
  std::optional<Texts> read_pair(const Value& value, const std::string& path, bool lists) {
    const size_t before = diagnostics_.errors().size();
    check_keys(value, path, {"ours", "theirs"});
    Texts out;
    out.mark = value.mark;
    for (const auto& [key, texts] : {std::pair("ours", &out.ours), {"theirs", &out.theirs}}) {
      const Value* side = value.is_map() ? value.find(key) : nullptr;
      const bool sound = side && (side->is_scalar() || (lists && side->is_list()));
      const std::string wrong = sound ? read_value(*side, *texts) : "";
      if (value.is_map() && (!sound || !wrong.empty() || texts->empty())) {
        diagnostics_.error(side ? side->mark : value.mark, path,
                           cat("expected {ours: PATTERN, theirs: PATTERN}; see \"", key, "\""));
      }
    }
    if (out.ours.size() > 1 && out.theirs.size() > 1) {
      diagnostics_.error(value.mark, path, "only one side may be a list");
    }
    if (diagnostics_.errors().size() > before) return {};
    return out;
  }

  // The patterns of a pair; nothing, with a diagnostic, where they make no sense.
  std::optional<NameMap::Sides> compile(const Texts& texts, const std::string& path) {
    NameMap::Sides out;
    try {
      for (const std::string& text : texts.ours) out.ours.emplace_back(text);
      for (const std::string& text : texts.theirs) out.theirs.emplace_back(text);
    } catch (const ConfigError& e) {
      diagnostics_.error(texts.mark, path, e.what());
      return {};
    }
    return out;
  }

  void read_largest(const Value& root, NameMap& map) {
    const Value* section = root.find("largest");
    if (!section) return;
    if (!section->is_map()) return check_keys(*section, "largest", {});
    for (const Value::Member& m : section->members) {
      const std::string path = "largest." + m.key;
      const auto texts = read_pair(m.value, path, false);
      const auto sides = texts ? compile(*texts, path) : std::nullopt;
      if (!sides) continue;
      if (!sides->ours[0].placeholders().contains(m.key) ||
          !sides->theirs[0].placeholders().contains(m.key)) {
        diagnostics_.error(m.value.mark, path, cat("both patterns must hold {", m.key, "}"));
        continue;
      }
      known_.insert(m.key);
      map.largest_.push_back({m.key, *sides});
    }
  }

  void read_define(const Value& root) {
    const Value* section = root.find("define");
    if (!section) return;
    if (!section->is_map()) return check_keys(*section, "define", {});
    for (const Value::Member& m : section->members) {
      const std::string path = "define." + m.key;
      if (!m.value.is_list()) {
        diagnostics_.error(m.value.mark, path,
                           "expected a list of {ours: PATTERN, theirs: PATTERN}");
        continue;
      }
      for (size_t i = 0; i < m.value.items.size(); ++i) {
        const auto texts = read_pair(m.value.items[i], cat(path, "[", i, "]"), false);
        if (texts) define_[m.key].push_back(*texts);
      }
    }
  }

  void expand(const Texts& texts, const std::string& path, NameMap& map, int depth = 0) {
    for (const auto& [name, pairs] : define_) {
      const std::string word = "{" + name + "}";
      if (!holds(texts.ours, word) && !holds(texts.theirs, word)) continue;
      for (const Texts& pair : pairs) {
        Texts one = texts;
        replace_all(one, word, pair);
        if (depth == kMaxDepth) {
          diagnostics_.error(pair.mark, "define." + name, cat(word, " stands in itself"));
        }
        if (!diagnostics_.ok()) return;
        expand(one, path, map, depth + 1);
      }
      return;
    }
    const auto sides = compile(texts, path);
    if (!sides || !check_placeholders(*sides, texts, path)) return;
    if (map.pairs_.size() == kMaxPairs) {
      diagnostics_.error(texts.mark, path, cat("makes more than ", kMaxPairs, " pairs of patterns"));
      return;
    }
    map.pairs_.push_back(*sides);
  }

  // What one side binds, the other needs; `largest` binds its own.
  bool check_placeholders(const NameMap::Sides& sides, const Texts& texts,
                          const std::string& path) {
    std::set<std::string> wanted;
    for (const auto* patterns : {&sides.ours, &sides.theirs}) {
      for (const NamePattern& pattern : *patterns) wanted.merge(pattern.placeholders());
    }
    for (const auto* patterns : {&sides.ours, &sides.theirs}) {
      for (const NamePattern& pattern : *patterns) {
        for (const std::string& name : wanted) {
          if (known_.contains(name) || pattern.placeholders().contains(name)) continue;
          diagnostics_.error(texts.mark, path,
                             cat("\"", pattern.text(), "\" lacks the placeholder {", name,
                                 "} that another pattern of the pair has"));
          return false;
        }
      }
    }
    return true;
  }

  Diagnostics diagnostics_;
  std::map<std::string, std::vector<Texts>> define_;
  std::set<std::string> known_;  // the keys of `largest`
};

NameMap NameMap::read(const std::string& file) { return NameMapReader().read(file); }

}  // namespace ribo
