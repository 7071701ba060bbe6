#include "config/expand.h"

#include <algorithm>
#include <map>
#include <optional>

#include "config/merge.h"
#include "config/text.h"
#include "config/yaml_reader.h"

namespace ribo {
namespace {

struct Size {
  size_t values = 1;
  size_t bytes = 0;
};

Size size_of(const Value& v) {
  Size total{1, v.text.size()};
  const auto add = [&total](const Size& s) {
    total.values += s.values;
    total.bytes += s.bytes;
  };
  for (const Value& item : v.items) add(size_of(item));
  for (const Value::Member& m : v.members) {
    add(size_of(m.value));
    total.bytes += m.key.size();
  }
  return total;
}

class Expander {
 public:
  Expander(const Value* define, std::vector<std::string>& notes, Diagnostics& diagnostics)
      : define_(define), notes_(notes), diagnostics_(diagnostics) {}

  // Unused definitions too: a mistake should show before someone uses it.
  void check_definitions() {
    if (!define_) return;
    for (const Value::Member& m : define_->members) resolve(m.key, m.key_mark);
  }

  Value expand(const Value& v, const std::string& path) {
    if (v.is_list()) return expand_list(v, path);
    if (!v.is_map()) return v;
    Value out = Value::map(v.mark);
    for (const Value::Member& m : v.members) {
      if (m.key == "use") {
        diagnostics_.error(m.key_mark, path,
                           "\"use\" stands for an entry of a list only; put it "
                           "into a list, or write the map out");
        continue;
      }
      out.members.push_back({m.key, m.key_mark, expand(m.value, join_path(path, m.key))});
    }
    return out;
  }

 private:
  Value expand_list(const Value& v, const std::string& path) {
    Value out = Value::list(v.mark);
    for (size_t i = 0; i < v.items.size(); ++i) {
      const Value& item = v.items[i];
      const std::string at = cat(path, "[", i, "]");
      if (!item.is_map() || !item.find("use")) {
        out.items.push_back(expand(item, at));
        continue;
      }
      std::optional<Value> used = use(item, at);
      if (!used) continue;
      if (used->is_list()) {
        std::move(used->items.begin(), used->items.end(), std::back_inserter(out.items));
      } else {
        out.items.push_back(std::move(*used));
      }
    }
    return out;
  }

  // What a {use: name, ...} stands for; empty after an error.
  std::optional<Value> use(const Value& map, const std::string& path) {
    const Value& name = *map.find("use");
    if (!name.is_scalar()) {
      diagnostics_.error(name.mark, path + ".use",
                         cat("expected a name from define, got ", name.describe()));
      return std::nullopt;
    }
    Value overrides = map;
    overrides.erase("use");
    if (!define_ || !define_->find(name.text)) {
      diagnostics_.error(name.mark, path + ".use", unknown(name.text));
      return std::nullopt;
    }
    const std::optional<Value>& defined = resolve(name.text, name.mark);
    if (!defined || !afford(*defined, name.mark, path)) return std::nullopt;
    if (defined->is_list() && !overrides.members.empty()) {
      diagnostics_.error(
          overrides.members[0].key_mark, path,
          cat(quote(name.text), " is a list of blocks, so key ", quote(overrides.members[0].key),
              " cannot override it; remove the key"));
      return std::nullopt;
    }
    if (defined->is_list()) return defined;
    return merge(*defined, expand(overrides, path), path, notes_);
  }

  // The expanded body of a definition; `place` = who asks.
  const std::optional<Value>& resolve(const std::string& name, const Mark& place) {
    static const std::optional<Value> kFailed;
    const std::string path = "define." + name;
    if (const auto cycle = std::find(chain_.begin(), chain_.end(), name); cycle != chain_.end()) {
      std::string words;
      for (auto it = cycle; it != chain_.end(); ++it) words += *it + " -> ";
      diagnostics_.error(place, path, cat("uses itself: ", words, name, "; break the circle"));
      return kFailed;
    }
    if (const auto known = resolved_.find(name); known != resolved_.end()) return known->second;
    if (chain_.size() == static_cast<size_t>(kMaxYamlDepth)) {
      diagnostics_.error(
          place, path,
          cat("definitions use each other deeper than ", kMaxYamlDepth, " levels; flatten them"));
      return kFailed;
    }
    chain_.push_back(name);
    std::optional<Value> body = expand_body(*define_->find(name), path);
    chain_.pop_back();
    return resolved_[name] = std::move(body);
  }

  std::optional<Value> expand_body(const Value& body, const std::string& path) {
    if (body.is_map()) return body.find("use") ? use(body, path) : expand(body, path);
    if (!body.is_list()) {
      diagnostics_.error(body.mark, path,
                         cat("expected a block such as {type: conv}, or a list of "
                             "blocks, got ",
                             body.describe()));
      return std::nullopt;
    }
    for (size_t i = 0; i < body.items.size(); ++i) {
      const Value& item = body.items[i];
      if (item.is_map()) continue;
      diagnostics_.error(item.mark, cat(path, "[", i, "]"),
                         "expected a block such as {type: conv}, got " + item.describe());
      return std::nullopt;
    }
    return expand_list(body, path);
  }

  // Lists of lists of uses grow exponentially: stop before the memory does.
  bool afford(const Value& copied, const Mark& place, const std::string& path) {
    const Size size = size_of(copied);
    copied_.values += size.values;
    copied_.bytes += size.bytes;
    if (copied_.values <= kMaxYamlValues && copied_.bytes <= kMaxYamlBytes) return true;
    if (!told_) {
      diagnostics_.error(place, path,
                         cat("the uses expand to more than ", kMaxYamlValues,
                             " values or 1 MiB; use less, or repeat:"));
    }
    told_ = true;
    return false;
  }

  std::string unknown(const std::string& name) const {
    std::vector<std::string> names;
    if (define_) {
      for (const Value::Member& m : define_->members) names.push_back(m.key);
    }
    std::string hint = did_you_mean(name, names);
    if (hint.empty() && names.empty()) hint = "; the pipeline has no define:";
    if (hint.empty()) {
      for (const std::string& n : names) hint += (hint.empty() ? "; define has: " : ", ") + n;
    }
    return cat("nothing is defined as ", quote(name), hint);
  }

  const Value* define_;
  std::vector<std::string>& notes_;
  Diagnostics& diagnostics_;
  std::map<std::string, std::optional<Value>> resolved_;
  std::vector<std::string> chain_;
  Size copied_{0, 0};
  bool told_ = false;
};

}  // namespace

void expand_uses(Value& root, std::vector<std::string>& notes, Diagnostics& diagnostics) {
  const Value* define = root.find("define");
  if (define && !define->is_map()) {
    if (!define->is_null()) {
      diagnostics.error(define->mark, "define",
                        cat("expected a map from names to blocks, got ", define->describe()));
    }
    define = nullptr;
  }
  Expander expander(define, notes, diagnostics);
  expander.check_definitions();
  if (Value* model = root.find("model")) *model = expander.expand(*model, "model");
  root.erase("define");
}

}  // namespace ribo
