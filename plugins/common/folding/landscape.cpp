#include "landscape.h"

#include "turner2004.h"

namespace ribo::fold {
namespace {

constexpr double kGasConstant = 1.98717e-3;  // kcal / (mol K)

}  // namespace

Boltzmann::Boltzmann(double kt) : kt_(kt) {
  for (int e = -kRange; e <= kRange; ++e) table_[e + kRange] = (*this)(double(e));
}

Landscape::Landscape(std::string_view sequence, const FoldOptions& options)
    : bases(encode_bases(sequence)),
      length(static_cast<int>(bases.size())),
      max_loop(options.max_loop),
      kt(kGasConstant * (options.temperature_c + 273.15)),
      boltzmann(kt) {
  list_pairs(options.min_hairpin);
  weigh_pairs();
  for (int n1 = 0; n1 <= 3; ++n1) {
    for (int n2 = 0; n2 <= 3 && n1 + n2 <= max_loop; ++n2) {
      if (loop_shape(n1, n2) == LoopShape::kTabulated) tabulated.push_back({n1, n2});
    }
  }
}

void Landscape::list_pairs(int min_hairpin) {
  row.push_back(0);
  first.resize(std::size_t(length) * (length + 1));
  for (int i = 0; i < length; ++i) {
    for (int j = 0; j < length; ++j) {
      first[std::size_t(i) * (length + 1) + j] = static_cast<int>(partner.size());
      if (j - i > min_hairpin && pair_type(bases[i], bases[j]) != kNoPair) partner.push_back(j);
    }
    row.push_back(static_cast<int>(partner.size()));
    first[std::size_t(i) * (length + 1) + length] = row.back();
  }
}

void Landscape::weigh_pairs() {
  for (int i = 0; i < length; ++i) {
    for (int pair = row[i]; pair < row[i + 1]; ++pair) {
      const int j = partner[pair];
      const bool at_end = i == 0 || j == length - 1;
      hairpin.push_back(boltzmann(hairpin_energy(bases, i, j)));
      exterior.push_back(boltzmann(exterior_branch_energy(bases, i, j)));
      branch.push_back(at_end ? 0 : boltzmann(multibranch_energy(bases, i, j)));
      closing.push_back(boltzmann(multibranch_closing_energy(bases, i, j)));

      const PairType type = pair_type(bases[i], bases[j]);
      const auto close = [&](Closures& to, PairType seen, std::uint8_t next,
                             std::uint8_t previous) {
        to.bulge.push_back(boltzmann(loop_closure(LoopShape::kBulge, seen, next, previous)));
        to.one_by_n.push_back(boltzmann(loop_closure(LoopShape::kOneByN, seen, next, previous)));
        to.generic.push_back(boltzmann(loop_closure(LoopShape::kGeneric, seen, next, previous)));
      };
      close(outer, type, bases[i + 1], bases[j - 1]);
      // A pair at an end of the chain is the inner one of no loop: any neighbour will do.
      close(inner, pair_type(bases[j], bases[i]), bases[at_end ? j : j + 1],
            bases[at_end ? i : i - 1]);
    }
  }
}

}  // namespace ribo::fold
