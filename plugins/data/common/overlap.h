// Do two splits share sequences? A model that saw a sequence in training is not tested by it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_set>
#include <vector>

namespace ribo {

/// How many entries of `b` also occur in `a`; both hold hashes of sequences.
inline uint64_t count_shared(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  const std::unordered_set<uint64_t> known(a.begin(), a.end());
  return static_cast<uint64_t>(
      std::count_if(b.begin(), b.end(), [&](uint64_t hash) { return known.contains(hash); }));
}

}  // namespace ribo
