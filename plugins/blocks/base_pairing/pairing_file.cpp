#include "pairing_file.h"

#include <cstring>
#include <string_view>

#include "common/cache_file.h"

namespace ribo::pairing {
namespace {

// Raise the number whenever the folding, its threshold or this file's layout changes.
constexpr std::string_view kKey = "base pairings 1";

// The sections: bases and pairs of each sequence, all letters, all pairs.
enum Section { kBases, kCounts, kLetters, kPairs, kSections };

template <class T>
std::vector<T> read_section(const Cached& file, Section section) {
  const Bytes bytes = file.sections[section];
  std::vector<T> out(bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  return out;
}

}  // namespace

PairsBySequence read_pairings(const std::filesystem::path& path) {
  Cached file;
  if (open_cache(path, kKey, file) != CacheState::good || file.sections.size() != kSections) {
    return {};
  }
  const auto bases = read_section<std::uint32_t>(file, kBases);
  const auto counts = read_section<std::uint32_t>(file, kCounts);
  const Bytes letters = file.sections[kLetters], pairs = file.sections[kPairs];
  PairsBySequence out;
  std::size_t letter = 0, first = 0;
  for (std::size_t k = 0; k < bases.size() && k < counts.size(); ++k) {
    const std::size_t end = (first + counts[k]) * sizeof(Pair);
    if (letter + bases[k] > letters.size() || end > pairs.size()) return {};
    const std::string sequence(reinterpret_cast<const char*>(letters.data()) + letter, bases[k]);
    std::vector<Pair> of_it(counts[k]);
    if (counts[k] > 0) {
      std::memcpy(of_it.data(), pairs.data() + first * sizeof(Pair), counts[k] * sizeof(Pair));
    }
    out[sequence] = std::make_shared<const std::vector<Pair>>(std::move(of_it));
    letter += bases[k];
    first += counts[k];
  }
  return out;
}

void write_pairings(const std::filesystem::path& path, const PairsBySequence& all) {
  std::vector<std::uint32_t> bases, counts;
  std::vector<char> letters;
  std::vector<Pair> pairs;
  for (const auto& [sequence, of_it] : all) {
    bases.push_back(static_cast<std::uint32_t>(sequence.size()));
    counts.push_back(static_cast<std::uint32_t>(of_it->size()));
    letters.insert(letters.end(), sequence.begin(), sequence.end());
    pairs.insert(pairs.end(), of_it->begin(), of_it->end());
  }
  try {
    write_cache(
        path, kKey,
        {as_bytes_of(bases), as_bytes_of(counts), as_bytes_of(letters), as_bytes_of(pairs)});
  } catch (const Error&) {
  }
}

}  // namespace ribo::pairing
