#include "train/evaluated_data.h"

#include <algorithm>
#include <array>

namespace ribo {
namespace {

constexpr std::array<const char*, 3> kSplits = {"train", "valid", "test"};

// A list of files that may as well be empty.
bool is_list_of_files(const SchemaBase& source, std::string_view key) {
  return std::any_of(source.params().begin(), source.params().end(), [&](const Param& p) {
    return p.name == key && p.type == "list of strings" && !p.is_required &&
           p.size_low.value_or(0) == 0;
  });
}

bool names_files(const Value* value) {
  return value && !value->is_null() && !(value->is_list() && value->items.empty());
}

}  // namespace

void make_files_absolute(Value& data, const SchemaBase& source,
                         const std::filesystem::path& base) {
  const auto place = [&](Value& file) {
    // What is no name is told by the schema or the source.
    if (!file.is_scalar() || file.text.empty()) return;
    file.text = (base / file.text).lexically_normal().string();
  };
  for (const Param& p : source.params()) {
    const bool is_split = std::find(kSplits.begin(), kSplits.end(), p.name) != kSplits.end();
    Value* files = is_split && p.type == "list of strings" ? data.find(p.name) : nullptr;
    if (!files) continue;
    if (!files->is_list()) {
      place(*files);
      continue;
    }
    for (Value& file : files->items) place(file);
  }
}

void leave_one_split(Value& data, std::string_view type, const SchemaBase& source,
                     const EvaluatedData& evaluated) {
  const std::string& split = evaluated.split;
  if (!evaluated.files.empty()) {
    if (split == "train") {
      throw ConfigError("--data gives files to validate or to test on; leave out --split train");
    }
    if (!is_list_of_files(source, split)) {
      throw ConfigError(cat("--data: the data source of this run (", type,
                            ") reads no files for its "
                            "split \"",
                            split, "\"; leave out --data"));
    }
    Value files = Value::list();
    for (const auto& file : evaluated.files) {
      files.items.push_back(Value::scalar(file.string(), {}, /*quoted=*/true));
    }
    data.set(split, std::move(files));
  }
  if (split == "train" || !is_list_of_files(source, split) || !names_files(data.find(split))) {
    return;
  }
  for (const char* other : kSplits) {
    if (other != split && data.find(other) && is_list_of_files(source, other)) {
      data.set(other, Value::list());
    }
  }
  data.erase("valid_fraction");  // of training files, which are not opened
}

std::string remedy_for_no_split(const Value& data, const SchemaBase& source, std::string_view split,
                                bool judged) {
  if (names_files(data.find(split))) return "";  // they hold none, or none that passes the filters
  if (is_list_of_files(source, split)) {
    return cat("; give its files with ", judged && split != "train" ? "--data or " : "", "data.",
               split);
  }
  return judged ? "; choose another one with --split" : "";
}

}  // namespace ribo
