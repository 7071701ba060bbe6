// One fast, fixed 64-bit hash: for splits that must be the same in every run, and for noticing
// damage to a cache file. Not for anything that an adversary touches.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ribo {

/// Spreads every bit of `x` over the whole result: the finaliser of splitmix64 (Steele et al.
/// 2014).
constexpr uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Hash of `size` bytes. Its values are part of the contract: they decide which samples are held
/// out. Runs at the speed of memory; a change of any single 8-byte word always changes the result.
inline uint64_t hash64(const void* data, size_t size, uint64_t seed = 0) {
  constexpr uint64_t kOdd = 0x9fb21c651e98df25u;
  const auto* bytes = static_cast<const unsigned char*>(data);
  // Four independent lanes, since one lane would wait for its own multiplication.
  std::array<uint64_t, 4> lane = {mix64(seed), mix64(seed + 1), mix64(seed + 2), mix64(seed + 3)};
  const auto absorb = [&](const unsigned char* block) {
    std::array<uint64_t, 4> word;
    std::memcpy(word.data(), block, sizeof(word));
    for (size_t i = 0; i < lane.size(); ++i) lane[i] = std::rotl((lane[i] ^ word[i]) * kOdd, 29);
  };
  size_t at = 0;
  for (; at + 32 <= size; at += 32) absorb(bytes + at);
  if (at < size) {
    std::array<unsigned char, 32> rest{};
    std::memcpy(rest.data(), bytes + at, size - at);
    absorb(rest.data());
  }
  uint64_t hash = mix64(size);
  for (const uint64_t l : lane) hash = mix64(hash ^ l);
  return hash;
}

/// True for the share `fraction` of all hashes.
inline bool falls_in_fraction(uint64_t hash, double fraction) {
  // The upper 53 bits are an exact double in [0, 1).
  return static_cast<double>(hash >> 11) * 0x1p-53 < fraction;
}

}  // namespace ribo
