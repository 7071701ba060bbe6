#include "sequences.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string_view>

namespace ribo::simulated {
namespace {

constexpr std::string_view kLetters = "ACGU";

char random_letter(Random& random) { return kLetters[static_cast<size_t>(random.integer(0, 3))]; }

char partner(char letter, Random& random) {
  switch (letter) {
    case 'A': return 'U';
    case 'C': return 'G';
    case 'G': return random.uniform() < 0.12 ? 'U' : 'C';
    default: return random.uniform() < 0.12 ? 'G' : 'A';
  }
}

std::string hairpin(Random& random, int64_t room) {
  const int64_t loop = random.integer(3, 8);
  const int64_t stem = std::min<int64_t>(random.integer(4, 14), (room - loop) / 2);
  if (stem < 3) return "";
  std::string five, three;
  for (int64_t i = 0; i < stem; ++i) {
    five += random_letter(random);
    three += partner(five.back(), random);
    // A bulge: a base on one side that has no partner.
    if (i > 1 && i + 2 < stem && random.uniform() < 0.06) five += random_letter(random);
  }
  std::reverse(three.begin(), three.end());
  std::string middle;
  for (int64_t i = 0; i < loop; ++i) middle += random_letter(random);
  return five + middle + three;
}

// Mean reactivity of an unpaired A, C, G, U; and of a paired one.
constexpr double kUnpaired[2][4] = {{0.95, 0.45, 0.75, 0.60}, {1.00, 0.70, 0.12, 0.10}};
constexpr double kPaired[2][4] = {{0.10, 0.06, 0.08, 0.10}, {0.10, 0.06, 0.03, 0.03}};

}  // namespace

uint64_t Random::bits() {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

double Random::uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

int64_t Random::integer(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
}

double Random::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

std::string random_sequence(Random& random, int64_t length, double hairpins) {
  std::string out;
  const auto target = static_cast<size_t>(length);
  if (random.uniform() < hairpins) {
    while (out.size() < target) {
      for (int64_t i = random.integer(0, 6); i > 0; --i) out += random_letter(random);
      out += hairpin(random, length - static_cast<int64_t>(out.size()));
    }
  }
  while (out.size() < target) out += random_letter(random);
  return out.substr(0, target);
}

std::vector<float> reactivity_profile(Random& random, const std::string& sequence,
                                      const std::vector<float>& paired, const ProfileNoise& noise,
                                      int64_t tail) {
  const size_t length = sequence.size();
  std::vector<float> out(length * 2);
  for (size_t i = 0; i < length; ++i) {
    const size_t letter = kLetters.find(sequence[i]);
    for (size_t p = 0; p < 2; ++p) {
      const double mean =
          paired[i] * kPaired[p][letter] + (1 - paired[i]) * kUnpaired[p][letter];
      const double value = mean * std::exp(noise.multiplicative * random.normal()) +
                           noise.additive * random.normal();
      const bool measured = i + static_cast<size_t>(tail) < length;
      out[2 * i + p] = measured ? static_cast<float>(std::clamp(value, 0.0, 1.0))
                                : std::numeric_limits<float>::quiet_NaN();
    }
  }
  return out;
}

}  // namespace ribo::simulated
