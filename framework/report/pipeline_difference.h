// How two pipelines differ, a key at a time.
#pragma once

#include <string>
#include <vector>

#include "ribo/config.h"

namespace ribo {

struct PipelineDifference {
  std::string key;   // "model.blocks[1].repeat"
  std::string a, b;  // YAML on one line; "-" where it has no such key
};

/// Every key whose value differs, in the order of `a`, then what only `b` has. A map or a list that
/// both have is looked into; what stands on one side alone, or is of another kind or `type`, is told
/// whole. The entries of two lists are matched so that a block more or less shifts no other: an index
/// counts in `a`, or in `b` where `a` has no such entry.
RIBO_API std::vector<PipelineDifference> differences(const Value& a, const Value& b);

/// YAML of a value on one line: `{type: mae, columns: [2a3]}`.
RIBO_API std::string one_line(const Value& value);

}  // namespace ribo
