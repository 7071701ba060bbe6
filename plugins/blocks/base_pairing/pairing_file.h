// Folded sequences in a file, for the next run.
#pragma once

#include <filesystem>

#include "pair.h"

namespace ribo::pairing {

/// What write_pairings() wrote; empty where there is no such file, and where it is damaged or of
/// another version.
PairsBySequence read_pairings(const std::filesystem::path& path);

/// Replaces the file, whole or not at all. Of several processes the last one's is kept. A failure
/// is passed over: it costs the next run its folding.
void write_pairings(const std::filesystem::path& path, const PairsBySequence& pairs);

}  // namespace ribo::pairing
