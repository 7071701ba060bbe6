// What is in a folder, with checksums: damage is noticed before it is used.
#pragma once

#include <filesystem>
#include <string>

#include "ribo/error.h"

namespace ribo {

/// SHA-256 of a file's content, 64 lower-case hexadecimal digits. Throws Error.
RIBO_API std::string sha256_hex(const std::filesystem::path& path);

/// Writes `folder`/manifest.json: size and SHA-256 of every other file in the folder and below,
///   {"files": {"model.safetensors": {"bytes": 123, "sha256": "..."}}}
/// Throws Error.
RIBO_API void write_manifest(const std::filesystem::path& folder);

/// Throws an Error that says of each file of the manifest what is wrong with it (missing, short,
/// long, changed), or why the manifest cannot be used. Files that it does not list don't matter.
RIBO_API void verify_manifest(const std::filesystem::path& folder);

}  // namespace ribo
