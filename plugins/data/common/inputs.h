// The files that a pipeline names, found and described.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace ribo {

using Paths = std::vector<std::filesystem::path>;

/// The files of one split; relative names start at `base`. Throws Error for a name that is not a
/// readable file, saying which `key` of the pipeline named it.
Paths find_inputs(const std::vector<std::string>& names, const std::filesystem::path& base,
                  const std::string& key);

/// Absolute path, size and time of change of each file, a line each: two equal texts mean that
/// whatever was derived from the files still holds.
std::string describe_inputs(const Paths& files);

/// "train.csv + more.csv", for messages.
std::string names_of(const Paths& files);

}  // namespace ribo
