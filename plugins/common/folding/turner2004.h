#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

/// The nearest-neighbour model of RNA folding with the Turner 2004 parameters.
///
/// Source of the values: Mathews et al., PNAS 101:7287 (2004), published by the Nearest Neighbor
/// Database (Turner & Mathews, Nucleic Acids Res. 38:D280, 2010). Conventions are those of
/// ViennaRNA with `dangles=2`: every branch of an exterior or multibranch loop takes the mismatch
/// of both its neighbours, paired or not; no coaxial stacking; bulges carry no degeneracy bonus.
///
/// Energies here are free energies at 37 degrees Celsius in tenths of kcal/mol, the precision in
/// which they are published. All functions are pure and thread-safe.
namespace ribo::fold {

/// A base as the tables index it. kBaseN pairs with nothing; as a neighbour of a pair it counts as
/// the least favourable of the four others.
enum Base : std::uint8_t { kBaseN, kBaseA, kBaseC, kBaseG, kBaseU };

/// The six pairs in the tables' order, so that `type ^ 1` is the pair read from its other strand.
enum PairType : std::int8_t { kNoPair = -1, kCG, kGC, kGU, kUG, kAU, kUA };

/// The largest loop whose initiation energy is tabulated.
inline constexpr int kTabulatedLoop = 30;

/// One Base a letter: ACGUTN in either case, T being U. Throws std::invalid_argument that names
/// any other letter and its position, counted from 1.
std::vector<std::uint8_t> encode_bases(std::string_view sequence);

/// The type of the pair of base `five` with base `three`, kNoPair if they do not pair.
PairType pair_type(std::uint8_t five, std::uint8_t three);

/// The hairpin closed by (i, j), with at least 3 bases between; includes the special tri-, tetra-
/// and hexaloops. Loops of more than 30 bases grow by 1.07856 kcal/mol * ln(bases / 30).
double hairpin_energy(std::span<const std::uint8_t> bases, int i, int j);

/// The loop between the pairs (i, j) and (p, q), i < p < q < j: a stack, a bulge or an interior
/// loop of at most 30 unpaired bases.
int interior_energy(std::span<const std::uint8_t> bases, int i, int j, int p, int q);

/// Parts of interior_energy for the loops that decompose into initiation + closure of either side,
/// so that a partition function can factor them. `shape` of a loop with n1 and n2 unpaired bases:
enum class LoopShape {
  kTabulated,  ///< stack, bulge of 1, 1x1, 1x2, 2x2, 2x3: depends on both pairs or on more bases
  kBulge,      ///< a bulge of 2 and more
  kOneByN,     ///< 1xn, n of 3 and more
  kGeneric,    ///< all others
};
LoopShape loop_shape(int n1, int n2);
/// Initiation plus asymmetry (0.6 kcal/mol a base of difference, at most 3.0); not for kTabulated.
int loop_initiation(int n1, int n2);
/// Closure by a pair of type `type` with the loop's bases next to it, 3' of its first base and 5'
/// of its second. An inner pair (p, q) closes as (q, p). Not for kTabulated.
int loop_closure(LoopShape shape, PairType type, std::uint8_t next, std::uint8_t previous);

/// The branch (i, j) of an exterior loop: mismatch or dangle, and the penalty of an AU or GU end.
int exterior_branch_energy(std::span<const std::uint8_t> bases, int i, int j);

/// The branch (i, j) inside a multibranch loop: as above, and the loop's price of a branch (-0.9).
int multibranch_energy(std::span<const std::uint8_t> bases, int i, int j);

/// The pair (i, j) that closes a multibranch loop: its price as a branch, and the loop's initiation
/// (9.3). An unpaired base of such a loop costs nothing.
int multibranch_closing_energy(std::span<const std::uint8_t> bases, int i, int j);

/// Free energy of one structure in kcal/mol, loop by loop. `structure` is in dot-bracket notation,
/// as long as `sequence`. Throws std::invalid_argument for unbalanced brackets, bases that cannot
/// pair, hairpins of fewer than 3 bases and interior loops of more than 30.
double structure_energy(std::string_view sequence, std::string_view structure);

}  // namespace ribo::fold
