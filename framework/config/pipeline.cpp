#include "config/pipeline.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "config/expand.h"
#include "config/merge.h"
#include "config/set_path.h"
#include "config/text.h"
#include "config/yaml_reader.h"

namespace ribo {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxChain = 16;  // files that extend each other in a row
constexpr size_t kMaxFiles = 64;

const std::vector<std::string> kKeys = {"name",  "extends",   "plugins", "define",  "seed", "data",
                                        "model", "init_from", "loss",    "metrics", "train"};

// The scalars of a value that may be one path or a list of paths.
template <class Function>
void for_each_path(Value& value, std::string_view key, Diagnostics& diagnostics, Function take) {
  const auto check = [&](Value& path) {
    if (path.is_scalar() && !path.text.empty()) {
      take(path);
    } else {
      diagnostics.error(path.mark, key,
                        cat("expected a path or a list of paths, got ", path.describe()));
    }
  };
  if (!value.is_list()) return check(value);
  for (Value& item : value.items) check(item);
}

void make_absolute(Value& path, const fs::path& directory) {
  path.text = fs::absolute(directory / path.text).lexically_normal().string();
}

// The paths that the sections' owners could not place any more once files are merged.
void make_paths_absolute(Value& root, const fs::path& directory, Diagnostics& diagnostics) {
  if (Value* plugins = root.find("plugins"); plugins && !plugins->is_null()) {
    for_each_path(*plugins, "plugins", diagnostics,
                  [&](Value& path) { make_absolute(path, directory); });
  }
  Value* init = root.find("init_from");
  for (const char* key : {"path", "map"}) {
    Value* path = init && init->is_map() ? init->find(key) : nullptr;
    if (path && path->is_scalar() && !path->text.empty()) make_absolute(*path, directory);
  }
}

// Reads a file and all that it extends.
class Loader {
 public:
  Loader(std::vector<std::string>& notes, Diagnostics& diagnostics)
      : notes_(notes), diagnostics_(diagnostics) {}

  // Empty after an error. `asked` = the `extends` that names the file, if one does.
  std::optional<Value> load(const std::string& file, const Mark& asked) {
    const std::string_view key = asked.file ? "extends" : "";
    std::error_code failed;
    const fs::path real = fs::weakly_canonical(file, failed);
    if (!check_chain(real, file, asked)) return std::nullopt;
    std::string text;
    if (const std::string wrong = read_text_file(file, text); !wrong.empty()) {
      diagnostics_.error(asked, key, wrong);
      return std::nullopt;
    }
    std::optional<Value> own = read_yaml(text, file, diagnostics_);
    if (!own) return std::nullopt;
    if (!own->is_map()) {
      diagnostics_.error(own->mark, "",
                         cat("a pipeline is a map (data:, model:, ...), got ", own->describe()));
      return std::nullopt;
    }
    const fs::path directory = fs::path(file).parent_path();
    make_paths_absolute(*own, directory, diagnostics_);
    chain_.push_back({real, file});
    std::optional<Value> merged = extend(*own, directory);
    chain_.pop_back();
    return merged;
  }

 private:
  struct Link {
    fs::path real;
    std::string shown;
  };

  bool check_chain(const fs::path& real, const std::string& file, const Mark& asked) {
    const auto same = [&](const Link& link) { return link.real == real; };
    const auto cycle = std::find_if(chain_.begin(), chain_.end(), same);
    if (cycle != chain_.end()) {
      std::string words;
      for (auto it = cycle; it != chain_.end(); ++it) words += it->shown + " -> ";
      diagnostics_.error(asked, "extends",
                         cat("goes in a circle: ", words, file, "; remove one of these extends"));
      return false;
    }
    if (chain_.size() == kMaxChain) {
      diagnostics_.error(asked, "extends", cat("more than ", kMaxChain, " files in a row"));
      return false;
    }
    if (++files_ <= kMaxFiles) return true;
    if (files_ == kMaxFiles + 1) {
      diagnostics_.error(asked, "extends", cat("more than ", kMaxFiles, " files in all"));
    }
    return false;
  }

  std::optional<Value> extend(Value& own, const fs::path& directory) {
    Value extends;
    if (const Value* said = own.find("extends")) extends = *said;
    own.erase("extends");
    if (extends.is_null()) return std::move(own);
    Value base = Value::map(own.mark);
    bool sound = true;
    for_each_path(extends, "extends", diagnostics_, [&](const Value& path) {
      const std::string file = (directory / path.text).lexically_normal().string();
      const std::optional<Value> one = load(file, path.mark);
      sound = sound && one;
      if (sound) base = merge(std::move(base), *one, "", notes_);
    });
    if (!sound) return std::nullopt;
    return merge(std::move(base), own, "", notes_);
  }

  std::vector<std::string>& notes_;
  Diagnostics& diagnostics_;
  std::vector<Link> chain_;
  size_t files_ = 0;
};

void check_keys(const Value& root, Diagnostics& diagnostics) {
  for (const Value::Member& m : root.members) {
    if (std::find(kKeys.begin(), kKeys.end(), m.key) != kKeys.end()) continue;
    diagnostics.error(m.key_mark, "", unknown_key(m.key, kKeys, kKeys));
  }
}

struct Extent {
  size_t values = 0;
  int depth = 0;  // of nested lists and maps
};

void measure(const Value& v, int depth, Extent& extent) {
  ++extent.values;
  if (v.is_list() || v.is_map()) extent.depth = std::max(extent.depth, ++depth);
  for (const Value& item : v.items) measure(item, depth, extent);
  for (const Value::Member& m : v.members) {
    ++extent.values;
    measure(m.value, depth, extent);
  }
}

// What a file may not hold, its resolved form may not either: that one is a pipeline too.
void check_extent(const Value& root, Diagnostics& diagnostics) {
  Extent extent;
  measure(root, 0, extent);
  if (extent.depth > kMaxYamlDepth) {
    diagnostics.error(
        root.mark, "",
        cat("the resolved pipeline is nested deeper than ", kMaxYamlDepth, " levels"));
  } else if (extent.values > kMaxYamlValues || to_yaml(root).size() > kMaxYamlBytes) {
    diagnostics.error(root.mark, "",
                      cat("the resolved pipeline has more than ", kMaxYamlValues,
                          " values or 1 MiB; use less, or repeat:"));
  }
}

}  // namespace

Pipeline load_pipeline(const std::string& file, const std::vector<std::string>& sets) {
  Diagnostics diagnostics;
  Pipeline pipeline = load_pipeline(file, sets, diagnostics);
  diagnostics.throw_if_any();
  return pipeline;
}

Pipeline load_pipeline(const std::string& file, const std::vector<std::string>& sets,
                       Diagnostics& diagnostics) {
  Pipeline pipeline;
  pipeline.file = file;
  std::optional<Value> root = Loader(pipeline.notes, diagnostics).load(file, Mark{});
  if (!root) diagnostics.throw_if_any();
  pipeline.root = std::move(*root);
  for (const std::string& assignment : sets) {
    apply_set(pipeline.root, assignment, pipeline.notes, diagnostics);
  }
  // What is still relative came from the command line.
  make_paths_absolute(pipeline.root, fs::current_path(), diagnostics);
  check_keys(pipeline.root, diagnostics);
  const size_t readable = diagnostics.errors().size();
  expand_uses(pipeline.root, pipeline.notes, diagnostics);
  check_extent(pipeline.root, diagnostics);
  // A use that stands for nothing would shift the entries behind it.
  if (diagnostics.errors().size() > readable) diagnostics.throw_if_any();
  if (!pipeline.root.find("name")) {
    const Value name = Value::scalar(fs::path(file).stem().string(), pipeline.root.mark);
    pipeline.root.members.insert(pipeline.root.members.begin(), {"name", pipeline.root.mark, name});
  }
  return pipeline;
}

}  // namespace ribo
