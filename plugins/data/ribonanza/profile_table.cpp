#include "ribonanza/profile_table.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "common/hash.h"

namespace ribo {
namespace {

template <class T>
std::span<const T> section_of(Bytes bytes) {
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

}  // namespace

ProfileTable::ProfileTable(const std::vector<Bytes>& sections, std::shared_ptr<const void> owner)
    : owner_(std::move(owner)),
      counts_(section_of<TableCounts>(sections.at(0)).data()),
      entries_(section_of<SequenceEntry>(sections.at(1))),
      ids_(section_of<char>(sections.at(2))),
      tokens_(section_of<uint8_t>(sections.at(3))),
      values_(section_of<float>(sections.at(4))) {}

std::vector<Bytes> ProfileTable::cache_sections() const {
  return {std::as_bytes(std::span(counts_, 1)), std::as_bytes(entries_), std::as_bytes(ids_),
          std::as_bytes(tokens_), std::as_bytes(values_)};
}

std::string_view ProfileTable::id(size_t i) const {
  return {ids_.data() + entries_[i].id_offset, entries_[i].id_length};
}

std::span<const uint8_t> ProfileTable::tokens(size_t i) const {
  return tokens_.subspan(entries_[i].token_offset, entries_[i].length);
}

std::span<const float> ProfileTable::values(size_t i, size_t experiment) const {
  const Profile& profile = entries_[i].profiles[experiment];
  return values_.subspan(profile.offset, profile.count);
}

struct TableBuilder::Data {
  TableCounts counts;
  std::vector<SequenceEntry> entries;
  std::vector<char> ids;
  std::vector<uint8_t> tokens;
  std::vector<float> values;

  std::string_view id(uint32_t i) const {
    return {ids.data() + entries[i].id_offset, entries[i].id_length};
  }
};

// A set of indices that is searched by id: the ids themselves stand in the table alone.
struct TableBuilder::Index {
  struct Hash {
    using is_transparent = void;
    const Data* data;
    size_t operator()(std::string_view id) const { return hash64(id.data(), id.size()); }
    size_t operator()(uint32_t i) const { return (*this)(data->id(i)); }
  };
  struct Equal {
    using is_transparent = void;
    const Data* data;
    bool operator()(uint32_t a, uint32_t b) const { return a == b; }
    bool operator()(std::string_view id, uint32_t i) const { return id == data->id(i); }
    bool operator()(uint32_t i, std::string_view id) const { return id == data->id(i); }
  };
  explicit Index(const Data* data) : set(16, Hash{data}, Equal{data}) {}
  std::unordered_set<uint32_t, Hash, Equal> set;
};

TableBuilder::TableBuilder(size_t expected_values)
    : data_(std::make_shared<Data>()), index_(std::make_unique<Index>(data_.get())) {
  data_->values.reserve(expected_values);
}

TableBuilder::~TableBuilder() = default;

size_t TableBuilder::size() const { return data_->entries.size(); }

uint32_t TableBuilder::sequence(std::string_view id, std::span<const uint8_t> tokens) {
  Data& d = *data_;
  // The two rows of a sequence mostly follow each other.
  uint32_t i = static_cast<uint32_t>(d.entries.size()) - 1;
  bool known = !d.entries.empty() && d.id(i) == id;
  if (!known) {
    const auto it = index_->set.find(id);
    known = it != index_->set.end();
    if (known) i = *it;
  }
  if (known) {
    const SequenceEntry& entry = d.entries[i];
    const auto first = d.tokens.begin() + static_cast<ptrdiff_t>(entry.token_offset);
    return std::equal(tokens.begin(), tokens.end(), first, first + entry.length) ? i : kConflict;
  }
  SequenceEntry entry;
  entry.id_offset = d.ids.size();
  entry.id_length = static_cast<uint32_t>(id.size());
  entry.token_offset = d.tokens.size();
  entry.length = static_cast<uint32_t>(tokens.size());
  d.ids.insert(d.ids.end(), id.begin(), id.end());
  d.tokens.insert(d.tokens.end(), tokens.begin(), tokens.end());
  d.entries.push_back(entry);
  i = static_cast<uint32_t>(d.entries.size()) - 1;
  index_->set.insert(i);
  return i;
}

void TableBuilder::profile(uint32_t sequence, size_t experiment, std::span<const float> values,
                           float signal_to_noise, bool sn_filter) {
  Data& d = *data_;
  ++d.counts.rows;
  const auto is_measured = [](float v) { return !std::isnan(v); };
  const auto first = std::find_if(values.begin(), values.end(), is_measured);
  if (first == values.end()) ++d.counts.without_value;
  Profile& profile = d.entries[sequence].profiles[experiment];
  if (profile.present) {
    ++d.counts.duplicates;
    // An unknown signal_to_noise is the lowest of all.
    const bool better = std::isnan(profile.signal_to_noise)
                            ? is_measured(signal_to_noise)
                            : signal_to_noise > profile.signal_to_noise;
    if (!better) return;
  }
  auto last = values.end();
  while (last != first && !is_measured(last[-1])) --last;
  profile.offset = d.values.size();
  profile.first = static_cast<uint32_t>(first == last ? 0 : first - values.begin());
  profile.count = static_cast<uint32_t>(last - first);
  profile.signal_to_noise = signal_to_noise;
  profile.present = 1;
  profile.sn_filter = sn_filter;
  d.values.insert(d.values.end(), first, last);
}

ProfileTable TableBuilder::finish() {
  for (const SequenceEntry& entry : data_->entries) {
    data_->counts.without_twin += entry.profiles[k2a3].present != entry.profiles[kDms].present;
  }
  const std::shared_ptr<const Data> data = std::move(data_);
  return ProfileTable(
      {std::as_bytes(std::span(&data->counts, 1)), as_bytes_of(data->entries),
       as_bytes_of(data->ids), as_bytes_of(data->tokens), as_bytes_of(data->values)},
      data);
}

}  // namespace ribo
