// Patterns over weight names, as a shell writes them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ribo/config.h"

namespace ribo {

/// Whether `name` matches `pattern`: `*` stands for any characters (dots too), `?` for one, `[ab]`
/// for one of these.
bool glob_matches(const std::string& pattern, const std::string& name);

/// Of each name, whether `pattern`, which stands at `mark` under `path`, matches it. One that matches
/// no name is a problem for `diagnostics`, with what it may have meant.
std::vector<bool> glob_select(const std::string& pattern, const std::vector<std::string>& names,
                              const Mark& mark, std::string_view path, Diagnostics& diagnostics);

/// Of each name, whether any pattern of `list` under `path` does.
std::vector<bool> glob_select(const std::vector<std::string>& patterns,
                              const std::vector<std::string>& names, const Value& list,
                              std::string_view path, Diagnostics& diagnostics);

}  // namespace ribo
