#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "folding/partition_function.h"
#include "folding/turner2004.h"

namespace ribo::fold {
namespace {

constexpr double kGasConstant = 1.98717e-3;  // kcal / (mol K)

std::string random_sequence(std::mt19937& random, int length, const std::string& letters = "ACGU") {
  std::string sequence(length, ' ');
  for (char& letter : sequence) letter = letters[random() % letters.size()];
  return sequence;
}

std::string what_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no std::invalid_argument";
}

/// Reference foldings by ViennaRNA with the same model (its default: Turner 2004, dangles=2).
nlohmann::json reference() {
  std::ifstream file(std::string(RIBO_TEST_FIXTURES) + "/vienna_bpp.json");
  return nlohmann::json::parse(file).at("rows");
}

double pearson(const std::vector<double>& x, const std::vector<double>& y) {
  double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    mean_x += x[k] / x.size();
    mean_y += y[k] / y.size();
  }
  for (std::size_t k = 0; k < x.size(); ++k) {
    xx += (x[k] - mean_x) * (x[k] - mean_x);
    yy += (y[k] - mean_y) * (y[k] - mean_y);
    xy += (x[k] - mean_x) * (y[k] - mean_y);
  }
  return xy / std::sqrt(xx * yy);
}

TEST(Folding, EnsemblesAgreeWithViennaRna) {
  std::vector<double> ours, theirs;
  double worst_energy = 0, worst_probability = 0;
  for (const auto& row : reference()) {
    const Ensemble ensemble = partition_function(row.at("sequence").get<std::string>());
    const auto paired = row.at("paired_probability").get<std::vector<double>>();
    ASSERT_EQ(ensemble.paired.size(), paired.size());
    ours.insert(ours.end(), ensemble.paired.begin(), ensemble.paired.end());
    theirs.insert(theirs.end(), paired.begin(), paired.end());
    worst_energy = std::max(
        worst_energy, std::abs(ensemble.free_energy - row.at("ensemble_energy").get<double>()));
  }
  for (std::size_t k = 0; k < ours.size(); ++k) {
    worst_probability = std::max(worst_probability, std::abs(ours[k] - theirs[k]));
  }
  const double correlation = pearson(ours, theirs);
  std::printf("Pearson r %.6f over %zu bases, largest difference %.5f, of free energies %.5f\n",
              correlation, ours.size(), worst_probability, worst_energy);
  EXPECT_GE(correlation, 0.999);
  EXPECT_LT(worst_probability, 0.005);
  EXPECT_LT(worst_energy, 0.01);  // kcal/mol
}

TEST(Folding, EnergiesOfStructuresAgreeWithViennaRna) {
  for (const auto& row : reference()) {
    EXPECT_NEAR(structure_energy(row.at("sequence").get<std::string>(),
                                 row.at("mfe_structure").get<std::string>()),
                row.at("mfe").get<double>(), 1e-3)
        << row.at("sequence");
  }
}

/// Calls `visit` with every structure of the bases from k on, after what `structure` holds already.
void enumerate(const std::vector<std::uint8_t>& bases, int min_hairpin, std::size_t k,
               std::string& structure, std::vector<std::size_t>& open,
               const std::function<void(const std::string&)>& visit) {
  if (k == bases.size()) {
    if (open.empty()) visit(structure);
    return;
  }
  structure[k] = '.';
  enumerate(bases, min_hairpin, k + 1, structure, open, visit);
  structure[k] = '(';
  open.push_back(k);
  enumerate(bases, min_hairpin, k + 1, structure, open, visit);
  open.pop_back();
  if (!open.empty()) {
    const std::size_t i = open.back();
    if (k - i > std::size_t(min_hairpin) && pair_type(bases[i], bases[k]) != kNoPair) {
      open.pop_back();
      structure[k] = ')';
      enumerate(bases, min_hairpin, k + 1, structure, open, visit);
      open.push_back(i);
    }
  }
}

/// Bulges and interior loops of more than max_loop bases are not part of the ensemble.
bool has_larger_loop(const std::string& structure, int max_loop) {
  struct Open {
    std::size_t position, first, last;
    int branches;
  };
  std::vector<Open> open;
  for (std::size_t k = 0; k < structure.size(); ++k) {
    if (structure[k] == '(') open.push_back({k, 0, 0, 0});
    if (structure[k] != ')') continue;
    const Open loop = open.back();
    open.pop_back();
    if (loop.branches == 1) {
      const std::size_t unpaired = (loop.first - loop.position - 1) + (k - loop.last - 1);
      if (unpaired > std::size_t(max_loop)) return true;
    }
    if (!open.empty()) {
      if (open.back().branches++ == 0) open.back().first = loop.position;
      open.back().last = k;
    }
  }
  return false;
}

void expect_equals_enumeration(const std::string& sequence, const FoldOptions& options) {
  const double kt = kGasConstant * (options.temperature_c + 273.15);
  const std::size_t length = sequence.size();
  double z = 0;
  std::vector<double> weights(length * length);
  std::string structure(length, '.');
  std::vector<std::size_t> open;
  enumerate(encode_bases(sequence), options.min_hairpin, 0, structure, open,
            [&](const std::string& candidate) {
              if (has_larger_loop(candidate, options.max_loop)) return;
              const double weight = std::exp(-structure_energy(sequence, candidate) / kt);
              z += weight;
              std::vector<std::size_t> stack;
              for (std::size_t k = 0; k < length; ++k) {
                if (candidate[k] == '(') stack.push_back(k);
                if (candidate[k] != ')') continue;
                weights[stack.back() * length + k] += weight;
                weights[k * length + stack.back()] += weight;
                stack.pop_back();
              }
            });
  const Ensemble ensemble = partition_function(sequence, options);
  EXPECT_NEAR(ensemble.free_energy, -kt * std::log(z), 1e-9) << sequence;
  for (std::size_t cell = 0; cell < weights.size(); ++cell) {
    ASSERT_NEAR(ensemble.pair_probability[cell], weights[cell] / z, 1e-6)
        << sequence << " " << cell;
  }
}

TEST(Folding, EqualsTheSumOverAllStructures) {
  std::mt19937 random(20240607);
  for (int length = 1; length <= 16; ++length) {
    for (int repeat = 0; repeat < 6; ++repeat) {
      // GC alone makes multibranch loops likely, N reaches the tables' edges.
      const std::string letters = repeat < 3 ? "ACGU" : repeat < 5 ? "GC" : "GCUN";
      expect_equals_enumeration(random_sequence(random, length, letters), {});
    }
  }
  expect_equals_enumeration("GGCAAAGCGCAAAGCC", {});
}

TEST(Folding, OptionsBoundTheEnsemble) {
  std::mt19937 random(7);
  for (int repeat = 0; repeat < 4; ++repeat) {
    const std::string sequence = random_sequence(random, 15, "GCGCAU");
    for (const int max_loop : {0, 1, 3, 4}) {
      expect_equals_enumeration(sequence, {.max_loop = max_loop});
    }
    expect_equals_enumeration(sequence, {.min_hairpin = 5});
    expect_equals_enumeration(sequence, {.temperature_c = 70});
  }
}

void expect_probabilities(const std::string& sequence, const Ensemble& ensemble) {
  const std::size_t length = sequence.size();
  ASSERT_EQ(ensemble.paired.size(), length);
  ASSERT_EQ(ensemble.pair_probability.size(), length * length);
  EXPECT_TRUE(std::isfinite(ensemble.free_energy));
  EXPECT_LE(ensemble.free_energy, 1e-9);  // the unpaired chain alone makes Z = 1
  for (std::size_t i = 0; i < length; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < length; ++j) {
      const float p = ensemble.pair_probability[i * length + j];
      ASSERT_TRUE(p >= 0 && p <= 1) << i << " " << j << " " << p;
      ASSERT_EQ(p, ensemble.pair_probability[j * length + i]);
      sum += p;
    }
    ASSERT_LE(sum, 1 + 1e-5) << i;
    ASSERT_NEAR(sum, ensemble.paired[i], 1e-5) << i;
    ASSERT_TRUE(sequence[i] != 'N' || sum == 0) << i;
  }
}

TEST(Folding, ProbabilitiesAreProbabilities) {
  std::mt19937 random(3);
  for (const int length : {5, 6, 31, 64, 120, 200}) {
    const std::string sequence = random_sequence(random, length, "ACGUACGUN");
    expect_probabilities(sequence, partition_function(sequence));
  }
}

TEST(Folding, LongSequencesStayInRange) {
  std::mt19937 random(11);
  const std::string sequence = random_sequence(random, 2000);
  const Ensemble ensemble = partition_function(sequence);
  expect_probabilities(sequence, ensemble);
  EXPECT_LT(ensemble.free_energy, -400);
  EXPECT_GT(ensemble.free_energy, -1000);
}

TEST(Folding, UnevenSequencesStayInRange) {
  const std::string unpaired(1300, 'A');
  const Ensemble flat = partition_function(unpaired);
  expect_probabilities(unpaired, flat);
  EXPECT_NEAR(flat.free_energy, 0, 1e-9);

  // One arm as stable as RNA gets, and an equally long tail that cannot pair with it.
  const std::string arm = std::string(250, 'G') + "AAAA" + std::string(250, 'C');
  const std::string sequence = arm + std::string(500, 'A');
  const Ensemble ensemble = partition_function(sequence);
  expect_probabilities(sequence, ensemble);
  EXPECT_LT(ensemble.free_energy, -750);
  EXPECT_GT(ensemble.pair_probability[100 * sequence.size() + 403], 0.5f);
}

TEST(Folding, LettersHaveTheirSynonyms) {
  const Ensemble ensemble = partition_function("GGGAUACUUCGGUAUCUCNA");
  for (const char* same : {"GGGATACTTCGGTATCTCNA", "gggauacuucgguaucucna"}) {
    const Ensemble other = partition_function(same);
    EXPECT_EQ(other.free_energy, ensemble.free_energy);
    EXPECT_EQ(other.pair_probability, ensemble.pair_probability);
  }
}

TEST(Folding, ShortSequencesCannotPair) {
  const Ensemble empty = partition_function("");
  EXPECT_EQ(empty.free_energy, 0);
  EXPECT_TRUE(empty.pair_probability.empty());
  EXPECT_TRUE(empty.paired.empty());
  for (const char* sequence : {"G", "GC", "GAAC"}) {
    const Ensemble ensemble = partition_function(sequence);
    EXPECT_NEAR(ensemble.free_energy, 0, 1e-12) << sequence;
    EXPECT_EQ(ensemble.paired, std::vector<float>(std::string(sequence).size(), 0)) << sequence;
  }
}

TEST(Folding, ErrorsNameWhatIsWrong) {
  EXPECT_EQ(what_of([] { partition_function("ACGXU"); }),
            "sequence: position 4 is 'X'; write A, C, G, U (or T), or N for an unknown base");
  EXPECT_EQ(what_of([] { partition_function("ACG", {.max_loop = 31}); }),
            "max_loop: 31; must be 0 to 30");
  EXPECT_EQ(what_of([] { partition_function("ACG", {.min_hairpin = 2}); }),
            "min_hairpin: 2; must be at least 3");
  EXPECT_EQ(what_of([] { structure_energy("GAAAC", "(..))"); }),
            "structure: position 4: 'G' and 'A' do not pair");
  EXPECT_EQ(what_of([] { structure_energy("GAAAC", "....)"); }),
            "structure: position 5: ')' without its '('");
  EXPECT_EQ(what_of([] { structure_energy("GAAAC", "(...."); }),
            "structure: position 1: '(' without its ')'");
  EXPECT_EQ(what_of([] { structure_energy("GAAC", "(..)"); }),
            "structure: position 4: a hairpin needs 3 bases");
  EXPECT_EQ(what_of([] { structure_energy("GAAAC", "(..)"); }),
            "structure: 4 characters for a sequence of 5");
}

}  // namespace
}  // namespace ribo::fold
