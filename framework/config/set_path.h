// One `--set path=value` of the command line.
#pragma once

#include <string>
#include <vector>

#include "ribo/config.h"

namespace ribo {

/// Applies `a.b[2].c=value` to `root`, by the rules of merge(): missing keys of maps are created,
/// list entries must exist, null removes a key. Problems go to `diagnostics`.
void apply_set(Value& root, const std::string& assignment, std::vector<std::string>& notes,
               Diagnostics& diagnostics);

}  // namespace ribo
