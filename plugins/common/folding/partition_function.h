#pragma once

#include <string_view>
#include <vector>

namespace ribo::fold {

/// Bounds and temperature of the ensemble.
struct FoldOptions {
  /// Temperature of the Boltzmann ensemble in degrees Celsius. The energies stay those of 37
  /// degrees: a higher value flattens the ensemble and does not melt its enthalpies.
  double temperature_c = 37;
  int max_loop = 30;    ///< most unpaired bases of a bulge or an interior loop, 0..30
  int min_hairpin = 3;  ///< fewest unpaired bases of a hairpin, at least 3
};

/// The Boltzmann ensemble of the secondary structures of one sequence of L bases.
struct Ensemble {
  double free_energy = 0;               ///< -kT ln Z in kcal/mol; the unpaired chain is 0
  std::vector<float> pair_probability;  ///< [L, L], row-major, symmetric, zero diagonal
  std::vector<float> paired;            ///< [L], the row sums of pair_probability
};

/// Partition function and base pair probabilities over all structures without pseudoknots, with
/// the energies of turner2004.h.
///
/// `sequence` holds ACGUTN in either case; T is U, and N pairs with nothing. The empty sequence has
/// an empty ensemble. The function is pure, deterministic and thread-safe. Time is
/// O(L^3 + L^2 max_loop^2), memory about 60 L^2 bytes.
///
/// Source: McCaskill, Biopolymers 29:1105 (1990). The probabilities are the derivatives of ln Z by
/// the weight of each pair, which the recursions yield when they are run in reverse.
///
/// Throws std::invalid_argument for an unknown letter (naming it and its position, counted from 1)
/// or an option out of range, and std::overflow_error if the weights of a sequence span more than
/// long double does (sequences of many thousand bases that are extremely uneven).
Ensemble partition_function(std::string_view sequence, const FoldOptions& options = {});

}  // namespace ribo::fold
