// Made-up RNAs for a data source that needs no file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ribo::simulated {

/// A small deterministic generator (splitmix64): the same numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits();
  double uniform();                             // in [0, 1)
  int64_t integer(int64_t low, int64_t high);   // in low..high
  double normal();                              // mean 0, standard deviation 1

 private:
  uint64_t state_;
};

/// A sequence of `length` letters A C G U: all random, or (with probability `hairpins`) a chain of
/// hairpins with random linkers, some with a bulge or a G-U pair.
std::string random_sequence(Random& random, int64_t length, double hairpins);

struct ProfileNoise {
  double multiplicative = 0.35;  // standard deviation of the logarithm
  double additive = 0.05;        // standard deviation, in units of reactivity
};

/// A measured-looking profile [L, 2] (2A3, DMS) from each base's probability of being unpaired: the
/// mean is between a paired level and a level of the nucleotide (2A3 reacts with all four, A and G
/// most; DMS with A and C), times log-normal noise, plus normal noise. The last `tail` positions,
/// where a primer would bind, are NaN.
std::vector<float> reactivity_profile(Random& random, const std::string& sequence,
                                      const std::vector<float>& paired, const ProfileNoise& noise,
                                      int64_t tail);

}  // namespace ribo::simulated
