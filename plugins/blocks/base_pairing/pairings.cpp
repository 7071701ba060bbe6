#include "pairings.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "folding/partition_function.h"
#include "pairing_file.h"
#include "threads/for_each_index.h"

namespace ribo::pairing {
namespace {

constexpr std::size_t kMostBases = std::size_t{std::numeric_limits<std::uint16_t>::max()} + 1;

std::vector<Pair> likely_pairs(const std::string& sequence) {
  const std::size_t length = sequence.size();
  if (length > kMostBases) {
    throw std::overflow_error("a sequence of " + std::to_string(length) + " bases; at most " +
                              std::to_string(kMostBases) + " can be folded");
  }
  const fold::Ensemble ensemble = fold::partition_function(sequence);
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < length; ++i) {
    for (std::size_t j = i + 1; j < length; ++j) {
      const float p = ensemble.pair_probability[i * length + j];
      if (p >= kLeastProbability) {
        pairs.push_back({static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(j), p});
      }
    }
  }
  pairs.shrink_to_fit();
  return pairs;
}

// What the map's entry takes beside the sequence and the pairs: measured, rounded up.
constexpr std::size_t kEntryBytes = 160;

}  // namespace

Pairings::Pairings(std::size_t most_bytes, std::filesystem::path file)
    : most_bytes_(most_bytes), file_(most_bytes > 0 ? std::move(file) : std::filesystem::path()) {}

Pairings::~Pairings() { save(true); }

std::vector<Pairs> Pairings::of(const std::vector<std::string>& sequences) {
  std::call_once(file_read_, [this] { merge_file(); });
  std::vector<Pairs> out;
  for (const std::string& sequence : sequences) out.push_back(find(sequence));
  fold(sequences, out);
  return out;
}

void Pairings::fold(const std::vector<std::string>& sequences, std::vector<Pairs>& out) {
  std::unordered_map<std::string, std::vector<std::size_t>> missing;
  for (std::size_t row = 0; row < sequences.size(); ++row) {
    if (!out[row]) missing[sequences[row]].push_back(row);
  }
  if (missing.empty()) return;
  std::vector<const std::vector<std::size_t>*> to_fold;
  for (const auto& [sequence, rows] : missing) to_fold.push_back(&rows);
  for_each_index(to_fold.size(), [&](std::size_t k) {
    const std::string& sequence = sequences[to_fold[k]->front()];
    const auto pairs = std::make_shared<const std::vector<Pair>>(likely_pairs(sequence));
    for (const std::size_t row : *to_fold[k]) out[row] = pairs;
    const std::lock_guard lock(mutex_);
    ++folded_;
    keep(sequence, pairs);
  });
  save(false);
}

std::size_t Pairings::folded() const {
  const std::lock_guard lock(mutex_);
  return folded_;
}

Pairs Pairings::find(const std::string& sequence) const {
  const std::lock_guard lock(mutex_);
  const auto it = known_.find(sequence);
  return it == known_.end() ? nullptr : it->second;
}

void Pairings::keep(const std::string& sequence, const Pairs& pairs) {
  const std::size_t bytes = kEntryBytes + sequence.size() + pairs->size() * sizeof(Pair);
  if (bytes_ + bytes > most_bytes_ || !known_.emplace(sequence, pairs).second) return;
  bytes_ += bytes;
  ++unsaved_;
}

void Pairings::merge_file() {
  if (file_.empty()) return;
  const PairsBySequence stored = read_pairings(file_);
  const std::lock_guard lock(mutex_);
  const std::size_t unsaved = unsaved_;
  for (const auto& [sequence, pairs] : stored) keep(sequence, pairs);
  unsaved_ = unsaved;
}

void Pairings::save(bool at_end) {
  if (file_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    // Doubling the file each time, all writings together take a few times its size.
    if (unsaved_ < (at_end ? kWorthAFile : std::max(kWorthAFile, known_.size() / 2))) return;
    unsaved_ = 0;
  }
  merge_file();  // what other processes have written since
  PairsBySequence all;
  {
    const std::lock_guard lock(mutex_);
    all = known_;
  }
  write_pairings(file_, all);
}

}  // namespace ribo::pairing
