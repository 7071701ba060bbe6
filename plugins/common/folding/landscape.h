#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "partition_function.h"

namespace ribo::fold {

/// exp(-energy / kT), from a table, since the energies of all loops of up to 30 bases are whole
/// tenths of kcal/mol.
class Boltzmann {
 public:
  explicit Boltzmann(double kt);
  double operator()(int tenths) const { return table_[tenths + kRange]; }
  double operator()(double tenths) const { return std::exp(-tenths / 10 / kt_); }

 private:
  static constexpr int kRange = 400;  // no loop of the model is beyond 40 kcal/mol
  double kt_;
  std::array<double, 2 * kRange + 1> table_{};
};

/// The pairs that a sequence can form and the weights of their loops, before any scaling. Pairs are
/// numbered by i, then by j, so that the partners of one base are contiguous.
struct Landscape {
  /// `options` must be in range. Throws std::invalid_argument for an unknown letter.
  Landscape(std::string_view sequence, const FoldOptions& options);

  /// The first pair (i, k) with k >= j, or the end of the pairs of i.
  int first_from(int i, int j) const { return first[std::size_t(i) * (length + 1) + j]; }

  std::vector<std::uint8_t> bases;
  int length;
  int max_loop;
  double kt;  ///< kcal/mol
  Boltzmann boltzmann;

  std::vector<int> row;      ///< [L + 1] the first pair of each i
  std::vector<int> first;    ///< [L, L + 1] see first_from
  std::vector<int> partner;  ///< [pairs] j

  std::vector<double> hairpin, exterior, branch, closing;  ///< [pairs] weights
  /// [pairs] weights of a pair as the outer and as the inner one of a loop that decomposes.
  struct Closures {
    std::vector<double> bulge, one_by_n, generic;
  } outer, inner;

  /// A loop (n1, n2) that is looked up as a whole.
  struct TabulatedLoop {
    int n1, n2;
  };
  std::vector<TabulatedLoop> tabulated;

 private:
  void list_pairs(int min_hairpin);
  void weigh_pairs();
};

}  // namespace ribo::fold
