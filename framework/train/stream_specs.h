// The streams of a run's data in a file, from which its model can be built again without the data.
#pragma once

#include <filesystem>
#include <vector>

#include "ribo/data.h"

namespace ribo {

/// Writes `{"streams": [{"name": "tokens", "shape": ["L"], "type": "Long", "pad": 4, "labels": []},
/// ...]}`: dim::length is "L", a pad of NaN is null, types are called as c10 calls them. Throws
/// Error.
void write_stream_specs(const std::filesystem::path& path, const std::vector<StreamSpec>& specs);

/// Reads them back, equal. Throws an Error that names the file.
std::vector<StreamSpec> read_stream_specs(const std::filesystem::path& path);

}  // namespace ribo
