// The pickle inside a `.pt` file that torch.save wrote, read as what it is here: a description of
// tensors. Nothing in it is ever called.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/error.h"

namespace ribo {

/// A tensor over a storage, which is the record `data/<storage>` of the archive.
struct PickledTensor {
  std::string name;
  std::string dtype;    // as safetensors spells it: "F32", "BOOL", ...
  std::string storage;
  uint64_t elements = 0;  // of the storage
  uint64_t offset = 0;    // of the first element in it
  std::vector<int64_t> shape, strides;  // in elements
};

/// The tensors of a state_dict: a map of names to tensors, alone or under one of the keys
/// model_state_dict, state_dict, model (whatever else stands beside that).
///
/// This is a machine for the few instructions and globals that such a file needs (the pickle of
/// tensors, parameters and plain values, protocol 2 to 5). Anything else, e.g. a global like
/// `os.system`, is refused and named; so is damage: every tensor lies inside its storage, no name
/// comes twice, memory and time are bounded by the pickle's size. (LibTorch's own reader takes an
/// OrderedDict for nothing and believes what the file says about the sizes of its storages.)
/// Throws Error, without the file's name.
std::vector<PickledTensor> read_state_dict(std::string_view pickle);

}  // namespace ribo
