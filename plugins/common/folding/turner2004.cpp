#include "turner2004.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace ribo::fold {
namespace {

#include "turner2004_tables.inc"

constexpr int kPairs = 6;

constexpr int kTerminalAU = 5;
constexpr int kMultibranchInitiation = 93;
constexpr int kMultibranchBranch = -9;
constexpr int kOneByNAU = 7;
constexpr int kAsymmetry = 6;
constexpr int kMaxAsymmetry = 30;
constexpr double kLogExtrapolation = 10.7856;

/// The cell of a table [row][4]...[4] for the given bases; N takes the highest of the four.
template <std::size_t n>
int lookup(const std::int8_t* table, int row, std::array<std::uint8_t, n> bases) {
  int cell = row;
  for (std::size_t k = 0; k < n; ++k) {
    if (bases[k] == kBaseN) {
      int highest = std::numeric_limits<int>::min();
      for (const std::uint8_t base : {kBaseA, kBaseC, kBaseG, kBaseU}) {
        bases[k] = base;
        highest = std::max(highest, lookup(table, row, bases));
      }
      return highest;
    }
    cell = cell * 4 + bases[k] - kBaseA;
  }
  return table[cell];
}

struct SpecialHairpin {
  std::string_view loop;  ///< with the closing pair
  int energy;             ///< of the whole hairpin, in place of every other term
};

constexpr SpecialHairpin kSpecialHairpins[] = {
    {"CAACG", 68},    {"GUUAC", 69},    {"CAACGG", 55}, {"CCAAGG", 33},   {"CCACGG", 37},
    {"CCCAGG", 34},   {"CCGAGG", 35},   {"CCGCGG", 36}, {"CCUAGG", 37},   {"CCUCGG", 25},
    {"CUAAGG", 36},   {"CUACGG", 28},   {"CUCAGG", 37}, {"CUCCGG", 27},   {"CUGCGG", 28},
    {"CUUAGG", 35},   {"CUUCGG", 37},   {"CUUUGG", 37}, {"ACAGUACU", 28}, {"ACAGUGAU", 36},
    {"ACAGUGCU", 29}, {"ACAGUGUU", 18},
};

constexpr std::string_view kLetters = "NACGU";

int terminal_au(PairType type) { return type > kGC ? kTerminalAU : 0; }

PairType inverted(PairType type) { return static_cast<PairType>(type ^ 1); }

/// Mismatch of a pair with the base 5' and the base 3' of it, and the penalty of its end.
int branch_energy(PairType type, std::uint8_t five, std::uint8_t three) {
  return lookup<2>(kMismatchBranch, type, {five, three}) + terminal_au(type);
}

}  // namespace

std::vector<std::uint8_t> encode_bases(std::string_view sequence) {
  constexpr std::string_view kKnown = "NACGUTnacgut";  // twice the order of Base, then T
  std::vector<std::uint8_t> bases(sequence.size());
  for (std::size_t k = 0; k < sequence.size(); ++k) {
    const std::size_t found = kKnown.find(sequence[k]);
    if (found == std::string_view::npos) {
      throw std::invalid_argument("sequence: position " + std::to_string(k + 1) + " is '" +
                                  sequence[k] +
                                  "'; write A, C, G, U (or T), or N for an unknown base");
    }
    bases[k] = static_cast<std::uint8_t>(std::min<std::size_t>(found % 6, kBaseU));
  }
  return bases;
}

PairType pair_type(std::uint8_t five, std::uint8_t three) {
  static constexpr PairType kTypes[5][5] = {
      {kNoPair, kNoPair, kNoPair, kNoPair, kNoPair},  // N
      {kNoPair, kNoPair, kNoPair, kNoPair, kAU},      // A
      {kNoPair, kNoPair, kNoPair, kCG, kNoPair},      // C
      {kNoPair, kNoPair, kGC, kNoPair, kGU},          // G
      {kNoPair, kUA, kNoPair, kUG, kNoPair},          // U
  };
  return kTypes[five][three];
}

double hairpin_energy(std::span<const std::uint8_t> bases, int i, int j) {
  const int unpaired = j - i - 1;
  const PairType type = pair_type(bases[i], bases[j]);
  if (unpaired == 3 || unpaired == 4 || unpaired == 6) {
    std::array<char, 8> loop{};
    std::transform(bases.begin() + i, bases.begin() + j + 1, loop.begin(),
                   [](std::uint8_t base) { return kLetters[base]; });
    const std::string_view letters(loop.data(), unpaired + 2);
    const auto found = std::find_if(std::begin(kSpecialHairpins), std::end(kSpecialHairpins),
                                    [&](const SpecialHairpin& s) { return s.loop == letters; });
    if (found != std::end(kSpecialHairpins)) return found->energy;
  }
  // The bases of a triloop are too strained to stack on the closing pair.
  if (unpaired == 3) return kHairpinInitiation[3] + terminal_au(type);
  double initiation = kHairpinInitiation[std::min(unpaired, kTabulatedLoop)];
  if (unpaired > kTabulatedLoop) {
    initiation += kLogExtrapolation * std::log(unpaired / double{kTabulatedLoop});
  }
  return initiation + lookup<2>(kMismatchHairpin, type, {bases[i + 1], bases[j - 1]});
}

LoopShape loop_shape(int n1, int n2) {
  const auto [low, high] = std::minmax(n1, n2);
  if (low == 0) return high <= 1 ? LoopShape::kTabulated : LoopShape::kBulge;
  if (low == 1) return high <= 2 ? LoopShape::kTabulated : LoopShape::kOneByN;
  return low == 2 && high <= 3 ? LoopShape::kTabulated : LoopShape::kGeneric;
}

int loop_initiation(int n1, int n2) {
  if (n1 == 0 || n2 == 0) return kBulgeInitiation[n1 + n2];
  return kInteriorInitiation[n1 + n2] + std::min(kMaxAsymmetry, kAsymmetry * std::abs(n1 - n2));
}

int loop_closure(LoopShape shape, PairType type, std::uint8_t next, std::uint8_t previous) {
  switch (shape) {
    case LoopShape::kBulge:
      return terminal_au(type);
    case LoopShape::kOneByN:
      return type > kGC ? kOneByNAU : 0;
    default:
      return lookup<2>(kMismatchInterior, type, {next, previous});
  }
}

int interior_energy(std::span<const std::uint8_t> bases, int i, int j, int p, int q) {
  const PairType outer = pair_type(bases[i], bases[j]);
  const PairType inner = pair_type(bases[q], bases[p]);  // as seen from inside the loop
  const int n1 = p - i - 1;
  const int n2 = j - q - 1;
  const std::uint8_t after_i = bases[i + 1], before_j = bases[j - 1];
  const std::uint8_t before_p = bases[p - 1], after_q = bases[q + 1];

  const LoopShape shape = loop_shape(n1, n2);
  if (shape != LoopShape::kTabulated) {
    return loop_initiation(n1, n2) + loop_closure(shape, outer, after_i, before_j) +
           loop_closure(shape, inner, after_q, before_p);
  }
  const int pairs = outer * kPairs + inner;
  switch (n1 + n2) {
    case 0:
      return kStack[pairs];
    case 1:
      return kBulgeInitiation[1] + kStack[pairs];  // a single bulged base does not unstack
    case 2:
      return lookup<2>(kInterior11, pairs, {after_i, before_j});
    case 3:
      if (n1 == 1) return lookup<3>(kInterior21, pairs, {after_i, after_q, before_j});
      // The table has the single base on the first strand: turn the loop around.
      return lookup<3>(kInterior21, inner * kPairs + outer, {after_q, after_i, before_p});
    case 4:
      return lookup<4>(kInterior22, pairs, {after_i, before_p, after_q, before_j});
    default:  // 2x3
      return loop_initiation(n1, n2) + lookup<2>(kMismatchInterior23, outer, {after_i, before_j}) +
             lookup<2>(kMismatchInterior23, inner, {after_q, before_p});
  }
}

int exterior_branch_energy(std::span<const std::uint8_t> bases, int i, int j) {
  const PairType type = pair_type(bases[i], bases[j]);
  const bool has_five = i > 0;
  const bool has_three = j + 1 < static_cast<int>(bases.size());
  if (has_five && has_three) return branch_energy(type, bases[i - 1], bases[j + 1]);
  int energy = terminal_au(type);
  if (has_five) energy += lookup<1>(kDangle5, type, {bases[i - 1]});
  if (has_three) energy += lookup<1>(kDangle3, type, {bases[j + 1]});
  return energy;
}

int multibranch_energy(std::span<const std::uint8_t> bases, int i, int j) {
  return branch_energy(pair_type(bases[i], bases[j]), bases[i - 1], bases[j + 1]) +
         kMultibranchBranch;
}

int multibranch_closing_energy(std::span<const std::uint8_t> bases, int i, int j) {
  // Seen from inside the loop, the pair runs from j to i.
  return branch_energy(inverted(pair_type(bases[i], bases[j])), bases[j - 1], bases[i + 1]) +
         kMultibranchBranch + kMultibranchInitiation;
}

double structure_energy(std::string_view sequence, std::string_view structure) {
  if (structure.size() != sequence.size()) {
    throw std::invalid_argument("structure: " + std::to_string(structure.size()) +
                                " characters for a sequence of " + std::to_string(sequence.size()));
  }
  const auto fail = [](int position, const std::string& what) {
    throw std::invalid_argument("structure: position " + std::to_string(position + 1) + ": " +
                                what);
  };
  const std::vector<std::uint8_t> bases = encode_bases(sequence);
  struct Open {
    int position;
    std::vector<std::pair<int, int>> branches;
  };
  // A level of the stack is a loop still open: the lowest one, at -1, is the exterior loop.
  std::vector<Open> open = {{-1, {}}};
  double tenths = 0;
  for (int j = 0; j < static_cast<int>(bases.size()); ++j) {
    if (structure[j] == '(') {
      open.push_back({j, {}});
    } else if (structure[j] == ')') {
      if (open.size() == 1) fail(j, "')' without its '('");
      const auto [i, branches] = std::move(open.back());
      open.pop_back();
      if (pair_type(bases[i], bases[j]) == kNoPair) {
        fail(j, std::string("'") + sequence[i] + "' and '" + sequence[j] + "' do not pair");
      }
      if (branches.empty()) {
        if (j - i - 1 < 3) fail(j, "a hairpin needs 3 bases");
        tenths += hairpin_energy(bases, i, j);
      } else if (branches.size() == 1) {
        const auto [p, q] = branches.front();
        if (p - i - 1 + j - q - 1 > kTabulatedLoop) fail(j, "interior loop of more than 30 bases");
        tenths += interior_energy(bases, i, j, p, q);
      } else {
        tenths += multibranch_closing_energy(bases, i, j);
        for (const auto& [p, q] : branches) tenths += multibranch_energy(bases, p, q);
      }
      open.back().branches.emplace_back(i, j);
    } else if (structure[j] != '.') {
      fail(j, "only '.', '(' and ')' are known");
    }
  }
  if (open.size() > 1) fail(open.back().position, "'(' without its ')'");
  for (const auto& [p, q] : open.front().branches) tenths += exterior_branch_energy(bases, p, q);
  return tenths / 10;
}

}  // namespace ribo::fold
