// Which sequences share a batch when a model predicts.
#pragma once

#include <cstddef>
#include <vector>

namespace ribo {

/// What one batch may hold, padding included. A single sequence may exceed every limit but the
/// first: lengths are limited by memory alone.
struct BatchLimits {
  size_t sequences = 64;
  size_t residues = size_t{1} << 14;  // sequences x longest
  size_t pairs = 0;                   // sequences x longest^2, of a model with a pair track; 0 = any
};

/// The indices of all sequences in batches of similar length, the longest ones first, so that what
/// does not fit into memory is known at once. Deterministic.
std::vector<std::vector<size_t>> plan_batches(const std::vector<size_t>& lengths,
                                              const BatchLimits& limits);

}  // namespace ribo
