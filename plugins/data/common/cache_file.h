// Derived data kept in a file, so that the second start need not parse again.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/error.h"

namespace ribo {

using Bytes = std::span<const std::byte>;

template <class T>
Bytes as_bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

/// A mapped cache file; its sections start at multiples of 64 bytes and live as long as `owner`.
/// Processes of one machine share its memory.
struct Cached {
  std::vector<Bytes> sections;
  std::shared_ptr<const void> owner;
};

enum class CacheState { good, absent, stale, damaged };

/// Opens the cache at `path` if it was written for exactly this `key`; every byte is verified
/// against a checksum. `stale`: it was written for another key. `cached` is filled when good.
/// Never throws for what it finds in the file: a cache that cannot be used is made again.
CacheState open_cache(const std::filesystem::path& path, std::string_view key, Cached& cached);

/// Replaces the cache at `path`, whole or not at all; makes its folder. Throws Error.
void write_cache(const std::filesystem::path& path, std::string_view key,
                 const std::vector<Bytes>& sections);

}  // namespace ribo
