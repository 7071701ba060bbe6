#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace ribo::pairing {

/// A base pair with its probability; positions from 0, i < j.
struct Pair {
  std::uint16_t i, j;
  float probability;
  bool operator==(const Pair&) const = default;
};

using Pairs = std::shared_ptr<const std::vector<Pair>>;
using PairsBySequence = std::unordered_map<std::string, Pairs>;

}  // namespace ribo::pairing
