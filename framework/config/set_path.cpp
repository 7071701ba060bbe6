#include "config/set_path.h"

#include <charconv>
#include <optional>

#include "config/merge.h"
#include "config/text.h"
#include "config/yaml_reader.h"

namespace ribo {
namespace {

struct Step {
  std::string key;
  std::optional<size_t> index;  // then the step is an entry of a list
};

// "a.b[2].c" as steps; empty if it is no path.
std::vector<Step> parse_path(std::string_view path) {
  std::vector<Step> steps;
  while (!path.empty()) {
    if (path[0] == '[') {
      size_t index = 0;
      const char* end = path.data() + path.size();
      const auto number = std::from_chars(path.data() + 1, end, index);
      if (steps.empty() || number.ec != std::errc() || number.ptr == end || *number.ptr != ']') {
        return {};
      }
      steps.push_back({"", index});
      path.remove_prefix(static_cast<size_t>(number.ptr + 1 - path.data()));
      if (!path.empty() && path[0] != '.' && path[0] != '[') return {};
      continue;
    }
    if (!steps.empty()) {
      if (path[0] != '.') return {};
      path.remove_prefix(1);
    }
    const std::string_view key = path.substr(0, path.find_first_of(".[]"));
    if (key.empty() || key.find(' ') != std::string_view::npos) return {};
    steps.push_back({std::string(key), std::nullopt});
    path.remove_prefix(key.size());
  }
  return steps;
}

class Setter {
 public:
  Setter(const std::string& assignment, std::vector<std::string>& notes, Diagnostics& diagnostics)
      : mark_{std::make_shared<const std::string>("--set " + assignment), 0, 0},
        notes_(notes),
        diagnostics_(diagnostics) {}

  void apply(Value& root, const std::string& assignment) {
    const size_t split = assignment.find('=');
    if (split == std::string::npos || split == 0) {
      error("", "expected path=value, such as model.blocks[0].kernel=7");
      return;
    }
    const std::string path = assignment.substr(0, split);
    const std::vector<Step> steps = parse_path(path);
    if (steps.empty()) {
      error("", cat("bad path ", quote(path),
                    "; join keys with dots, entries of lists as [0]: model.blocks[2].kernel"));
      return;
    }
    if (steps.size() > static_cast<size_t>(kMaxYamlDepth)) {
      error("", cat("the path is deeper than ", kMaxYamlDepth, " levels"));
      return;
    }
    if (steps[0].key == "extends") {
      error("extends", "can only be said in a file; write a small file that extends this one");
      return;
    }
    const std::string text = assignment.substr(split + 1);
    if (text.find_first_not_of(' ') == std::string::npos) {
      error(path, "the value is empty; null removes the key, '\"\"' is an empty string");
      return;
    }
    const auto value = read_flow_yaml(text, *mark_.file, diagnostics_);
    if (value) put(root, steps, *value);
  }

 private:
  void put(Value& root, const std::vector<Step>& steps, const Value& value) {
    Value* at = &root;
    std::string path;
    for (size_t i = 0; i < steps.size(); ++i) {
      const Step& step = steps[i];
      const bool last = i + 1 == steps.size();
      if (!fits(*at, step, path)) return;
      if (step.index) {
        at = &at->items[*step.index];
        path += cat("[", *step.index, "]");
        if (last && value.is_null()) {
          error(path, "null cannot remove an entry; set the whole list without it");
        } else if (last) {
          *at = merge(std::move(*at), value, path, notes_);
        }
        continue;
      }
      if (last) {
        put_key(*at, step.key, value, path);
        return;
      }
      if (at->is_null()) *at = Value::map(mark_);
      Value* next = at->find(step.key);
      at = next ? next : &at->set(step.key, Value::map(mark_), mark_);
      path = join_path(path, step.key);
    }
  }

  bool fits(const Value& at, const Step& step, const std::string& path) {
    if (!step.index) {
      if (at.is_map() || at.is_null()) return true;
      if (at.is_list()) {
        error(path, cat("is a list of ", at.items.size(), "; choose an entry as in ", path, "[0].",
                        step.key));
      } else {
        error(path, cat("is ", at.describe(), ", which has no keys; set ", path, " itself"));
      }
      return false;
    }
    if (!at.is_list()) {
      error(path, cat("is ", at.is_map() && at.members.empty() ? "not set" : at.describe(),
                      ", not a list; [", *step.index, "] chooses an entry of a list"));
      return false;
    }
    if (*step.index < at.items.size()) return true;
    error(path, cat("has no entry [", *step.index, "]; it has ", at.items.size(),
                    at.items.empty() ? "" : cat(", [0] to [", at.items.size() - 1, "]")));
    return false;
  }

  // Setting a key is merging a map of that key alone, so that a changed type means the same here.
  void put_key(Value& parent, const std::string& key, const Value& value, const std::string& path) {
    if (value.is_null() && !parent.find(key)) {
      std::vector<std::string> keys;
      for (const Value::Member& m : parent.members) keys.push_back(m.key);
      error(join_path(path, key), "is not set, so null removes nothing" + did_you_mean(key, keys));
      return;
    }
    Value child = Value::map(parent.mark);
    child.set(key, value, mark_);
    parent = merge(parent.is_null() ? Value::map(mark_) : std::move(parent), child, path, notes_);
  }

  void error(std::string_view path, std::string_view what) {
    diagnostics_.error(mark_, path, what);
  }

  const Mark mark_;
  std::vector<std::string>& notes_;
  Diagnostics& diagnostics_;
};

}  // namespace

void apply_set(Value& root, const std::string& assignment, std::vector<std::string>& notes,
               Diagnostics& diagnostics) {
  Setter(assignment, notes, diagnostics).apply(root, assignment);
}

}  // namespace ribo
