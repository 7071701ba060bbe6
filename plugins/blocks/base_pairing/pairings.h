// The base pairs that sequences form, folded once.
#pragma once

#include <cstddef>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "pair.h"

namespace ribo::pairing {

/// Less likely pairs are left out, whether or not anything is cached.
inline constexpr float kLeastProbability = 1e-4f;

/// As many new sequences are worth writing a file: folding them takes seconds.
inline constexpr std::size_t kWorthAFile = 256;

/// The likely pairs of sequences by the partition function (folding/partition_function.h, 37
/// degrees), kept by sequence in memory and in a file, which changes no result. Every method may be
/// called from any thread, and processes may share the file.
class Pairings {
 public:
  /// Keeps at most about `most_bytes`; what no longer fits is folded again each time. `file` is
  /// read when the first sequence is asked for, and replaced whenever kWorthAFile new ones, and as
  /// many as it holds, have been folded, and by the destructor; empty = no file.
  explicit Pairings(std::size_t most_bytes, std::filesystem::path file = {});
  ~Pairings();
  Pairings(const Pairings&) = delete;
  Pairings& operator=(const Pairings&) = delete;

  /// The pairs of each sequence (ACGUN), by i, then by j. What is not known yet is folded on all
  /// cores. Throws std::invalid_argument for other letters, and std::overflow_error beyond 65,536
  /// bases and for what partition_function cannot hold.
  std::vector<Pairs> of(const std::vector<std::string>& sequences);

  /// Sequences that were folded so far.
  std::size_t folded() const;

 private:
  Pairs find(const std::string& sequence) const;
  // Those that are still null.
  void fold(const std::vector<std::string>& sequences, std::vector<Pairs>& out);
  // With mutex_ held.
  void keep(const std::string& sequence, const Pairs& pairs);
  void merge_file();
  void save(bool at_end);

  const std::size_t most_bytes_;
  const std::filesystem::path file_;
  std::once_flag file_read_;

  mutable std::mutex mutex_;  // of all below
  std::size_t bytes_ = 0, folded_ = 0;
  std::size_t unsaved_ = 0;  // of those kept
  PairsBySequence known_;
};

}  // namespace ribo::pairing
