// Sequences in groups of a table: by length, by signal_to_noise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ribo/error.h"

namespace ribo {

struct Bin {
  std::string label;                   // "97..128", "< 1", "unknown"
  std::optional<double> lower, upper;  // lower <= x < upper; a side without an end has none
  std::vector<size_t> members;         // indices, rising
};

/// The bins that hold anything, rising; their edges don't depend on the data, so that tables of
/// different runs and files have the same ones. Lengths up to 32, 64, 96, 128, 192, 256, 384, ...
RIBO_API std::vector<Bin> bins_by_length(const std::vector<int64_t>& lengths);

/// Edges 0.5, 1, 2, 4, 8, 16; what is NaN comes last, as "unknown".
RIBO_API std::vector<Bin> bins_by_signal_to_noise(const std::vector<double>& values);

}  // namespace ribo
