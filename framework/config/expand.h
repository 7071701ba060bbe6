// `define:` and `use:`, the one way to say a block once and place it several times.
#pragma once

#include <string>
#include <vector>

#include "ribo/config.h"

namespace ribo {

/// Replaces every `{use: name, ...}` in the lists under `model` by what `define` says, with the
/// other keys merged over it, and removes `define`. A list is spliced in place.
void expand_uses(Value& root, std::vector<std::string>& notes, Diagnostics& diagnostics);

}  // namespace ribo
