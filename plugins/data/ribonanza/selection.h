// Which sequences of a table a split uses, and which of their profiles.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "ribonanza/profile_table.h"

namespace ribo {

struct Selected {
  uint32_t sequence;
  std::array<bool, kExperiments> use;  // false: that profile counts as not measured
};

struct SelectionRules {
  /// A profile needs at least this; unknown counts as 0. Minus infinity: no such rule.
  double min_signal_to_noise = -std::numeric_limits<double>::infinity();
  bool each_needs_sn_filter = false;  // a profile without SN_filter = 1 is not used
  bool both_need_sn_filter = false;   // a sequence without SN_filter = 1 in both is not used
  bool needs_profile = true;          // a sequence of which no profile is used is not used either
  std::optional<int64_t> max_length = {};
  std::optional<int64_t> limit = {};       // the first so many that pass
  std::function<bool(size_t)> among = {};  // null: all; others are not even counted
};

struct Selection {
  std::vector<Selected> samples;
  uint64_t considered = 0;
  uint64_t too_long = 0, without_sn_filter = 0, without_profile = 0, over_limit = 0;
  uint64_t masked = 0;  // profiles not used of sequences that are

  /// "12311 of 13000 sequences (dropped: 689 ...)".
  std::string describe() const;
};

Selection select(const ProfileTable& table, const SelectionRules& rules);

/// The same for equal sequences, whatever their ids.
uint64_t sequence_hash(const ProfileTable& table, size_t i, uint64_t seed);

/// Of each sample, for finding those that two splits share.
std::vector<uint64_t> sequence_hashes(const ProfileTable& table, const Selection& selection);

}  // namespace ribo
