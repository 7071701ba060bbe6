// How one configuration overrides another; `extends`, `--set` and `use` all mean this.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ribo/config.h"

namespace ribo {

/// `child` over `base`: maps merge by key, everything else is replaced. A null in `child` removes
/// the key that it inherits. A map whose `type` (or `use`) changes starts afresh; `notes` then
/// gains a line on the keys of `base` that were dropped. `path` = the YAML path of both.
Value merge(Value base, const Value& child, const std::string& path,
            std::vector<std::string>& notes);

/// "a" and "b" make "a.b"; an empty path makes "b".
std::string join_path(std::string_view path, std::string_view key);

}  // namespace ribo
