// A pipeline file with everything that it refers to, resolved into one map.
#pragma once

#include <string>
#include <vector>

#include "ribo/config.h"

namespace ribo {

struct Pipeline {
  /// A map without `extends` and `define`. to_yaml(root) is a complete pipeline that loads to the
  /// same value, wherever it lies; file names in `data` stay as they are, until a Session knows
  /// from the source which these are.
  Value root;
  /// What the user should know although nothing is wrong: keys dropped by a changed type.
  std::vector<std::string> notes;
  /// The file, as given.
  std::string file;
};

/// Reads a pipeline. `extends` (paths relative to the file that says them) is merged first, then
/// `sets` (`a.b[2].c=value`) in their order, then `define` and `use` are expanded. `name` defaults
/// to the file's stem; relative `plugins` and paths of `init_from` become absolute, relative to the
/// file that says them.
/// The sections themselves are checked by their owners. Throws ConfigError holding all problems.
Pipeline load_pipeline(const std::string& file, const std::vector<std::string>& sets);

/// The same, but a problem that leaves every section as its file says it (an unknown key, a `--set`
/// that cannot be applied) goes to `diagnostics`, so that the sections' owners can add theirs.
Pipeline load_pipeline(const std::string& file, const std::vector<std::string>& sets,
                       Diagnostics& diagnostics);

}  // namespace ribo
