// Sequences with their reactivity profiles, packed: no text but the ids, one byte a residue, four
// bytes a measured position.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/cache_file.h"

namespace ribo {

/// The column order of target.reactivity and signal_to_noise.
enum Experiment : size_t { k2a3 = 0, kDms = 1 };
inline constexpr size_t kExperiments = 2;

/// One row of a file: values of the positions [first, first + count), the span that was measured
/// (a gap within it is NaN). Nothing of it is set when `present` is 0.
struct Profile {
  uint64_t offset = 0;
  uint32_t first = 0;
  uint32_t count = 0;
  float signal_to_noise = 0;
  uint32_t present : 1 = 0;
  uint32_t sn_filter : 31 = 0;
};

struct SequenceEntry {
  uint64_t id_offset = 0;
  uint64_t token_offset = 0;
  uint32_t id_length = 0;
  uint32_t length = 0;
  std::array<Profile, kExperiments> profiles;
};

/// What was noticed while the files were read.
struct TableCounts {
  uint64_t rows = 0;
  uint64_t without_twin = 0;   // sequences that have one profile of the two
  uint64_t duplicates = 0;     // rows of an (id, experiment) that another row has, too
  uint64_t without_value = 0;  // rows in which no position was measured
};

/// Immutable; a view of memory that `owner` keeps, a cache file's or its own. Copies share it.
class ProfileTable {
 public:
  ProfileTable() = default;
  /// The sections of a cache file or of cache_sections().
  ProfileTable(const std::vector<Bytes>& sections, std::shared_ptr<const void> owner);
  std::vector<Bytes> cache_sections() const;

  size_t size() const { return entries_.size(); }
  const SequenceEntry& operator[](size_t i) const { return entries_[i]; }
  const TableCounts& counts() const { return *counts_; }
  std::string_view id(size_t i) const;
  std::span<const uint8_t> tokens(size_t i) const;
  std::span<const float> values(size_t i, size_t experiment) const;

 private:
  std::shared_ptr<const void> owner_;
  const TableCounts* counts_ = nullptr;
  std::span<const SequenceEntry> entries_;
  std::span<const char> ids_;
  std::span<const uint8_t> tokens_;
  std::span<const float> values_;
};

/// Collects rows in any order and joins those of one id.
class TableBuilder {
 public:
  /// `expected_values`: reserves address space, so that growth copies nothing.
  explicit TableBuilder(size_t expected_values);
  ~TableBuilder();

  static constexpr uint32_t kConflict = UINT32_MAX;
  /// The index of the sequence called `id`, added if it is new; kConflict if that id belongs to
  /// another sequence.
  uint32_t sequence(std::string_view id, std::span<const uint8_t> tokens);
  /// Adds a profile; `values` has one entry a residue, NaN = not measured. Of two profiles of one
  /// experiment the one of higher signal_to_noise stays.
  void profile(uint32_t sequence, size_t experiment, std::span<const float> values,
               float signal_to_noise, bool sn_filter);
  size_t size() const;
  /// The finished table. The builder must not be used afterwards.
  ProfileTable finish();

 private:
  struct Data;
  std::shared_ptr<Data> data_;
  struct Index;
  std::unique_ptr<Index> index_;
};

}  // namespace ribo
