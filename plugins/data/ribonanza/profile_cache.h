// Tables of profiles, parsed once and then mapped from a cache file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ribonanza/profile_reader.h"

namespace ribo {

/// The table of these files: from the cache in `folder` if that was made from the same files as
/// they are now, else parsed and put there. `notes` receives one line on what was read, and one
/// each on a damaged or unwritable cache; neither is an error. An empty `folder`: no cache. Throws
/// what read_profiles() throws.
ProfileTable load_profiles(const Paths& files, const std::filesystem::path& folder,
                           const ReadOptions& options, std::vector<std::string>& notes);

/// The cache file of these files in `folder`.
std::filesystem::path profile_cache_path(const Paths& files, const std::filesystem::path& folder);

}  // namespace ribo
