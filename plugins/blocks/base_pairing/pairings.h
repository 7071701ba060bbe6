// The base pairs that sequences form, folded once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
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

/// Less likely pairs are left out, whether or not anything is cached.
inline constexpr float kLeastProbability = 1e-4f;

/// The likely pairs of sequences by the partition function (folding/partition_function.h, 37
/// degrees), kept in memory by sequence. Every method may be called from any thread.
class Pairings {
 public:
  using Pairs = std::shared_ptr<const std::vector<Pair>>;

  /// Keeps at most about `most_bytes`; what no longer fits is folded again each time.
  explicit Pairings(std::size_t most_bytes) : most_bytes_(most_bytes) {}

  /// The pairs of each sequence (ACGUN), by i, then by j. What is not known yet is folded on all
  /// cores. Throws std::invalid_argument for other letters, and std::overflow_error beyond 65,536
  /// bases and for what partition_function cannot hold.
  std::vector<Pairs> of(const std::vector<std::string>& sequences);

  /// Sequences that were folded so far.
  std::size_t folded() const;

 private:
  Pairs find(const std::string& sequence) const;
  void keep(const std::string& sequence, const Pairs& pairs);

  const std::size_t most_bytes_;
  mutable std::mutex mutex_;  // of all below
  std::size_t bytes_ = 0, folded_ = 0;
  std::unordered_map<std::string, Pairs> known_;
};

}  // namespace ribo::pairing
