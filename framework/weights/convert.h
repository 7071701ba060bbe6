// Tensors of one program under the names of another.
#pragma once

#include "train/safetensors.h"
#include "weights/fit.h"
#include "weights/name_map.h"

namespace ribo {

struct Conversion {
  Tensors tensors;
  Misfits misfits;  // surplus: no pattern matches; missing: parts of a tensor that is joined
};

/// Renames, joins and cuts tensors, which are of the side `from`, as the map says. Values stay as
/// they are, bit by bit, and there and back gives the same tensors.
Conversion convert(const Tensors& tensors, const NameMap& map, Side from);

std::vector<std::string> names_of(const Tensors& tensors);

}  // namespace ribo
