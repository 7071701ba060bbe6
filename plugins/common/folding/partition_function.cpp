#include "partition_function.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "landscape.h"
#include "turner2004.h"

namespace ribo::fold {
namespace {

/// McCaskill's recursions and their reverse. Every quantity of a segment of n bases is kept
/// multiplied by unit^n, which holds it near 1 if `unit` is near the inverse of the weight that
/// one base adds to Z.
///
/// Z(i..j) by what the segment is:
///   closed   (i, j) pair
///   branch1  one branch of a multibranch loop, starting at i; unpaired bases may follow
///   single   unpaired bases, then a branch1
///   several  two branches or more
///   any      single + several
/// `d_x` is the derivative of ln Z by x.
template <typename Real>
class Recursions {
 public:
  Recursions(const Landscape& landscape, Real unit)
      : land_(landscape),
        length_(landscape.length),
        unit_(unit),
        power_(length_ + 2, 1),
        closed_(land_.partner.size()),
        d_closed_(land_.partner.size()),
        side_{closed_, closed_, closed_},
        branch1_(square()),
        d_branch1_(square()),
        any_(square()),
        prefix_(length_ + 1),
        suffix_(length_ + 1) {
    for (int n = 1; n < length_ + 2; ++n) power_[n] = power_[n - 1] * unit;
    for (int n1 = 0; n1 <= land_.max_loop; ++n1) {
      for (int n2 = 0; n1 + n2 <= land_.max_loop; ++n2) {
        if (loop_shape(n1, n2) == LoopShape::kTabulated) continue;
        initiation_[n1][n2] = land_.boltzmann(loop_initiation(n1, n2)) * loop_power(n1 + n2);
      }
    }
  }

  /// False if a number left the range of Real, or came too close to its lower end.
  bool run(Ensemble& ensemble) {
    if (!inside() || !exterior()) return false;
    outside();
    return collect(ensemble);
  }

 private:
  std::size_t square() const { return std::size_t(length_) * length_; }
  std::size_t at(int i, int j) const { return std::size_t(i) * length_ + j; }
  /// The scale of an interior loop's unpaired bases and its outer pair.
  Real loop_power(int unpaired) const {
    return unpaired + 2 < static_cast<int>(power_.size()) ? power_[unpaired + 2] : Real{0};
  }

  bool inside() {
    std::vector<Real> several(length_), several_below(length_), single(length_);
    for (int i = length_ - 1; i >= 0; --i) {
      Real* const branch1 = &branch1_[at(i, 0)];
      for (int pair = land_.row[i]; pair < land_.row[i + 1]; ++pair) {
        const int j = land_.partner[pair];
        closed_[pair] = Real(land_.hairpin[pair]) * power_[j - i + 1] +
                        Real(land_.closing[pair]) * power_[2] * several_below[j - 1] +
                        interior_inside(pair, i, j);
        set_side(pair, closed_[pair], land_.inner);
        branch1[j] = closed_[pair] * Real(land_.branch[pair]);
      }
      for (int j = i + 1; j < length_; ++j) branch1[j] += branch1[j - 1] * unit_;

      Real* const any = &any_[at(i, 0)];
      std::fill(several.begin(), several.end(), Real{0});
      Real total = 0;
      for (int j = i; j < length_; ++j) {
        // All that ends at j is known once every branch that starts at or before j was added.
        if (j > i && any[j - 1] != 0) add_scaled(any[j - 1], &branch1_[at(j, 0)], &several[0], j);
        single[j] = branch1[j] + unit_ * single[j];
        any[j] = single[j] + several[j];
        total += any[j];
      }
      if (!std::isfinite(total)) return false;
      several.swap(several_below);
    }
    return true;
  }

  bool exterior() {
    prefix_[0] = suffix_[length_] = 1;
    for (int i = 0; i < length_; ++i) {
      prefix_[i + 1] += unit_ * prefix_[i];
      for (int pair = land_.row[i]; pair < land_.row[i + 1]; ++pair) {
        prefix_[land_.partner[pair] + 1] += prefix_[i] * closed_[pair] * Real(land_.exterior[pair]);
      }
    }
    for (int i = length_ - 1; i >= 0; --i) {
      suffix_[i] = unit_ * suffix_[i + 1];
      for (int pair = land_.row[i]; pair < land_.row[i + 1]; ++pair) {
        suffix_[i] += closed_[pair] * Real(land_.exterior[pair]) * suffix_[land_.partner[pair] + 1];
      }
    }
    const auto usable = [](Real x) { return std::isnormal(x); };
    return std::all_of(prefix_.begin(), prefix_.end(), usable) &&
           std::all_of(suffix_.begin(), suffix_.end(), usable);
  }

  /// Consumers of a segment that starts at i start at i or before it: one pass over i suffices.
  void outside() {
    std::vector<Real> d_several(length_), d_any(length_), d_single(length_);
    for (int i = 0; i < length_; ++i) {
      std::fill(d_several.begin(), d_several.end(), Real{0});
      if (i > 0) {
        for (int pair = land_.row[i - 1]; pair < land_.row[i]; ++pair) {
          d_several[land_.partner[pair] - 1] =
              d_closed_[pair] * Real(land_.closing[pair]) * power_[2];
        }
      }
      d_any[length_ - 1] = 0;
      for (int k = length_ - 1; k > i; --k) {
        d_any[k - 1] = reverse_add_scaled(any_[at(i, k - 1)], &branch1_[at(k, 0)], &d_several[0],
                                          &d_branch1_[at(k, 0)], k);
        d_several[k - 1] += d_any[k - 1];
      }
      Real* const d_branch1 = &d_branch1_[at(i, 0)];
      for (int j = i; j < length_; ++j) {
        d_single[j] = d_any[j] + unit_ * d_single[j];
        d_branch1[j] += d_single[j];
      }
      for (int j = length_ - 2; j >= i; --j) d_branch1[j] += unit_ * d_branch1[j + 1];

      for (int pair = land_.row[i]; pair < land_.row[i + 1]; ++pair) {
        const int j = land_.partner[pair];
        d_closed_[pair] =
            prefix_[i] / prefix_[length_] * Real(land_.exterior[pair]) * suffix_[j + 1] +
            Real(land_.branch[pair]) * d_branch1[j] + interior_outside(pair, i, j);
        // The inner sides have served; from here on their place holds the outer ones.
        set_side(pair, d_closed_[pair], land_.outer);
      }
    }
  }

  /// Sum over the loops that the pair (i, j) closes with one pair (p, q) inside.
  Real interior_inside(int outer, int i, int j) const {
    Real whole = 0;
    for (const auto [n1, n2] : land_.tabulated) {
      const int p = i + 1 + n1, q = j - 1 - n2;
      if (p >= q) continue;
      const int inner = land_.first_from(p, q);
      if (inner != land_.first_from(p, q + 1)) whole += tabulated(i, j, p, q) * closed_[inner];
    }
    Row sum{};
    for (int n1 = 0; n1 <= std::min(land_.max_loop, j - i - 3); ++n1) {
      const int p = i + 1 + n1;
      const int most = land_.max_loop - n1;
      const int end = land_.first_from(p, std::max(p, j - 2));
      const int last_but_one = land_.first_from(p, j - 1);
      add_row(
          n1, {land_.first_from(p, std::max(p, j - 1 - most)), end}, {end, last_but_one},
          {last_but_one, land_.first_from(p, j)},
          [&](int inner) { return j - 1 - land_.partner[inner]; }, sum);
    }
    return whole + close(sum, land_.outer, outer);
  }

  /// Sum over the loops in which the pair (p, q) is the inner one, by the outer pair (i, j).
  Real interior_outside(int inner, int p, int q) const {
    Real whole = 0;
    for (const auto [n1, n2] : land_.tabulated) {
      const int i = p - 1 - n1, j = q + 1 + n2;
      if (i < 0 || j >= length_) continue;
      const int outer = land_.first_from(i, j);
      if (outer != land_.first_from(i, j + 1)) whole += tabulated(i, j, p, q) * d_closed_[outer];
    }
    Row sum{};
    for (int n1 = 0; n1 <= std::min(land_.max_loop, p - 1); ++n1) {
      const int i = p - 1 - n1;
      const int most = land_.max_loop - n1;
      const auto from = [&](int j) { return land_.first_from(i, std::min(j, length_)); };
      const int begin = from(q + 3);
      add_row(
          n1, {begin, from(q + 2 + most)}, {from(q + 2), begin}, {from(q + 1), from(q + 2)},
          [&](int outer) { return land_.partner[outer] - q - 1; }, sum);
    }
    return whole + close(sum, land_.inner, inner);
  }

  Real tabulated(int i, int j, int p, int q) const {
    return Real(land_.boltzmann(interior_energy(land_.bases, i, j, p, q))) *
           loop_power(p - i + j - q - 2);
  }

  /// Sums over loops by shape, still without the closure of the pair that they share.
  struct Row {
    Real bulge, one_by_n, generic;
  };

  Real close(const Row& sum, const Landscape::Closures& closures, int pair) const {
    return sum.bulge * Real(closures.bulge[pair]) + sum.one_by_n * Real(closures.one_by_n[pair]) +
           sum.generic * Real(closures.generic[pair]);
  }

  /// Pairs [begin, end) of one base.
  struct Range {
    int begin, end;
  };

  /// Adds the loops with n1 unpaired bases on the 5' side. Their other pairs leave `unpaired(pair)`
  /// bases on the 3' side: 2 or more for `wide`, 1 for `one` and 0 for `none`, which hold at most
  /// one pair. A loop that is tabulated has no initiation here.
  template <typename Unpaired>
  void add_row(int n1, Range wide, Range one, Range none, Unpaired unpaired, Row& sum) const {
    const auto& initiation = initiation_[n1];
    const auto weigh = [&](const std::vector<Real>& side) {
      // Two sums, so that an addition need not wait for the one before it.
      Real even = 0, odd = 0;
      int pair = wide.begin;
      for (; pair + 1 < wide.end; pair += 2) {
        even += initiation[unpaired(pair)] * side[pair];
        odd += initiation[unpaired(pair + 1)] * side[pair + 1];
      }
      if (pair < wide.end) even += initiation[unpaired(pair)] * side[pair];
      return even + odd;
    };
    if (n1 == 0) {
      sum.bulge += weigh(side_.bulge);
    } else if (n1 == 1) {
      sum.one_by_n += weigh(side_.one_by_n);
    } else {
      sum.generic += weigh(side_.generic);
      if (one.begin < one.end) sum.one_by_n += initiation[1] * side_.one_by_n[one.begin];
      if (none.begin < none.end) sum.bulge += initiation[0] * side_.bulge[none.begin];
    }
  }

  void set_side(int pair, Real weight, const Landscape::Closures& closures) {
    side_.bulge[pair] = weight * Real(closures.bulge[pair]);
    side_.one_by_n[pair] = weight * Real(closures.one_by_n[pair]);
    side_.generic[pair] = weight * Real(closures.generic[pair]);
  }

  /// to[j] += factor * from[j] for the branches that start at k.
  void add_scaled(Real factor, const Real* from, Real* to, int k) const {
    for (int j = k; j < length_; ++j) to[j] += factor * from[j];
  }

  /// The reverse of add_scaled: adds to d_from, returns the derivative by factor.
  Real reverse_add_scaled(Real factor, const Real* from, const Real* d_to, Real* d_from,
                          int k) const {
    std::array<Real, 4> sums{};
    int j = k;
    for (; j + 3 < length_; j += 4) {
      for (int lane = 0; lane < 4; ++lane) {
        sums[lane] += d_to[j + lane] * from[j + lane];
        d_from[j + lane] += factor * d_to[j + lane];
      }
    }
    for (; j < length_; ++j) {
      sums[0] += d_to[j] * from[j];
      d_from[j] += factor * d_to[j];
    }
    return sums[0] + sums[1] + (sums[2] + sums[3]);
  }

  bool collect(Ensemble& ensemble) const {
    ensemble.free_energy = static_cast<double>(
        -Real(land_.kt) * (std::log(prefix_[length_]) - Real(length_) * std::log(unit_)));
    ensemble.pair_probability.assign(square(), 0);
    std::vector<double> paired(length_);
    for (int i = 0; i < length_; ++i) {
      for (int pair = land_.row[i]; pair < land_.row[i + 1]; ++pair) {
        const int j = land_.partner[pair];
        const double p = static_cast<double>(closed_[pair] * d_closed_[pair]);
        if (!std::isfinite(p)) return false;
        const float probability = static_cast<float>(std::clamp(p, 0.0, 1.0));
        ensemble.pair_probability[at(i, j)] = ensemble.pair_probability[at(j, i)] = probability;
        paired[i] += p;
        paired[j] += p;
      }
    }
    ensemble.paired.resize(length_);
    std::transform(paired.begin(), paired.end(), ensemble.paired.begin(),
                   [](double p) { return static_cast<float>(std::clamp(p, 0.0, 1.0)); });
    return true;
  }

  const Landscape& land_;
  const int length_;
  const Real unit_;
  std::vector<Real> power_;  ///< unit^n
  Real initiation_[kTabulatedLoop + 1][kTabulatedLoop + 1] = {};

  std::vector<Real> closed_, d_closed_;  ///< [pairs]
  /// [pairs] closed_ with the closure of an inner pair; in outside(), d_closed_ with an outer
  /// one's.
  struct {
    std::vector<Real> bulge, one_by_n, generic;
  } side_;
  std::vector<Real> branch1_, d_branch1_, any_;  ///< [L, L], i <= j
  std::vector<Real> prefix_, suffix_;  ///< [L + 1] Z of the first i bases, of those from i
};

template <typename Real>
bool try_units(const Landscape& landscape, std::initializer_list<double> energies_per_base,
               Ensemble& ensemble) {
  for (const double energy : energies_per_base) {
    const Real unit = std::exp(Real(energy / landscape.kt));
    if (Recursions<Real>(landscape, unit).run(ensemble)) return true;
  }
  return false;
}

void check(const FoldOptions& options) {
  if (!(options.temperature_c > -273.15) || !std::isfinite(options.temperature_c)) {
    throw std::invalid_argument("temperature_c: " + std::to_string(options.temperature_c) +
                                "; must be above -273.15");
  }
  if (options.max_loop < 0 || options.max_loop > kTabulatedLoop) {
    throw std::invalid_argument("max_loop: " + std::to_string(options.max_loop) +
                                "; must be 0 to 30");
  }
  if (options.min_hairpin < 3) {
    throw std::invalid_argument("min_hairpin: " + std::to_string(options.min_hairpin) +
                                "; must be at least 3");
  }
}

}  // namespace

Ensemble partition_function(std::string_view sequence, const FoldOptions& options) {
  check(options);
  const Landscape landscape(sequence, options);
  Ensemble ensemble;
  if (landscape.length == 0) return ensemble;
  // kcal/mol a base: random RNA first, then the stable, the poorly paired and the extreme. Up to
  // some hundred bases the first serves every sequence.
  if (try_units<double>(landscape, {-0.35, -0.7, -0.1, -1.3}, ensemble) ||
      try_units<long double>(landscape, {-0.5, -1.0, -1.5, -0.1}, ensemble)) {
    return ensemble;
  }
  throw std::overflow_error("partition_function: the weights of this sequence of " +
                            std::to_string(landscape.length) +
                            " bases span more than a long double holds; fold it in parts");
}

}  // namespace ribo::fold
