#include "ribonanza/profile_cache.h"

#include <cstdio>

#include "common/cache_file.h"
#include "common/hash.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;

// Raised whenever the reader would make another table of the same files.
constexpr int kParserVersion = 1;
constexpr size_t kSections = 5;

// Everything that the table depends on.
std::string cache_key(const Paths& files, const ReadOptions& options) {
  return cat("ribonanza ", kParserVersion, " entry ", sizeof(SequenceEntry), " labels optional ",
             options.labels_optional, "\n", describe_inputs(files));
}

std::string describe(const ProfileTable& table, const Paths& files, bool from_cache) {
  const TableCounts& counts = table.counts();
  std::string text =
      cat(names_of(files), ": ", table.size(), " sequences, ", counts.rows, " profiles");
  const auto note = [&](uint64_t count, const char* what) {
    if (count > 0) text += cat(", ", count, " ", what);
  };
  note(counts.without_twin, "sequences with one profile of the two");
  note(counts.duplicates, "repeated profiles, of which the higher signal_to_noise was kept");
  note(counts.without_value, "profiles without a value");
  return text + (from_cache ? " (from the cache)" : "");
}

ProfileTable table_of(const Cached& cached) { return {cached.sections, cached.owner}; }

}  // namespace

fs::path profile_cache_path(const Paths& files, const fs::path& folder) {
  // Named by path alone, so that a changed file replaces its old cache.
  std::string names;
  for (const fs::path& file : files) names += fs::absolute(file).string() + '\n';
  char hex[17];
  std::snprintf(hex, sizeof(hex), "%016llx",
                static_cast<unsigned long long>(hash64(names.data(), names.size())));
  return folder / cat("ribonanza-", hex, ".bin");
}

ProfileTable load_profiles(const Paths& files, const fs::path& folder, const ReadOptions& options,
                           std::vector<std::string>& notes) {
  const fs::path path = profile_cache_path(files, folder);
  // Described before reading: a file that changes meanwhile makes the cache stale, not wrong.
  const std::string key = cache_key(files, options);
  Cached cached;
  const CacheState state = folder.empty() ? CacheState::absent : open_cache(path, key, cached);
  if (state == CacheState::good && cached.sections.size() == kSections) {
    ProfileTable table = table_of(cached);
    notes.push_back(describe(table, files, true));
    return table;
  }
  if (state == CacheState::damaged) {
    notes.push_back(cat(path.string(), " was damaged; it is made again"));
  }
  ProfileTable table = read_profiles(files, options);
  notes.push_back(describe(table, files, false));
  if (folder.empty()) return table;
  try {
    write_cache(path, key, table.cache_sections());
    // From here on the mapped file serves: its memory is shared with the other ranks.
    if (open_cache(path, key, cached) == CacheState::good) table = table_of(cached);
  } catch (const Error& e) {
    notes.push_back(cat("no cache for the next start: ", e.what()));
  }
  return table;
}

}  // namespace ribo
