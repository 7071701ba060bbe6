#include "report/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

namespace ribo {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
constexpr double kNormalQuantile = 1.959964;  // the 97.5 % point

// splitmix64 (Steele et al. 2014): the distributions of the standard library differ between
// libraries, a report may not.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // 0 .. n-1; the bias of n / 2^32 is far below what a few thousand resamples can show.
  size_t below(size_t n) { return static_cast<size_t>(((bits() >> 32) * n) >> 32); }

 private:
  uint64_t state_;
};

void add(std::span<const double> row, std::vector<double>& sums) {
  for (size_t w = 0; w < row.size(); ++w) sums[w] += row[w];
}

bool is_measured(std::span<const double> row) {
  return std::any_of(row.begin(), row.end(), [](double x) { return x != 0; });
}

double mean(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

// The 2.5 and 97.5 % points of what is not NaN.
std::optional<Bounds> percentile_interval(std::vector<double> values) {
  std::erase_if(values, [](double x) { return std::isnan(x); });
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const auto quantile = [&](double q) {
    const double place = q * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(place);
    const size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return Bounds{quantile(0.025), quantile(0.975)};
}

// The interval of value(drawn, random) over sequences drawn with replacement, as many as there are.
template <class Value>
std::optional<Bounds> bootstrap_interval(const std::vector<size_t>& measured,
                                         const Resampling& resampling, const Value& value) {
  Random random(resampling.seed);
  std::vector<double> values;
  std::vector<size_t> drawn(measured.size());
  for (int64_t r = 0; r < resampling.count; ++r) {
    if (resampling.before_each) resampling.before_each();
    for (size_t& i : drawn) i = measured[random.below(measured.size())];
    values.push_back(value(drawn, random));
  }
  return percentile_interval(std::move(values));
}

double value_of(const MetricRows& rows, const std::vector<size_t>& among, const Finish& finish) {
  std::vector<double> sums(rows.width);
  for (const size_t i : among) add(rows.row(i), sums);
  return among.empty() ? kNothing : finish(sums);
}

// The 97.5 % point of Student's t: tabulated where its expansion around the normal's (Abramowitz &
// Stegun 26.7.5) is off by more than 0.4 %.
double t_quantile(size_t df) {
  constexpr std::array<double, 6> kFirst = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469};
  if (df <= kFirst.size()) return kFirst[df - 1];
  constexpr double z = kNormalQuantile, z3 = z * z * z, z5 = z3 * z * z;
  const auto n = static_cast<double>(df);
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n);
}

// How much further from their mean than they are k seeds of a side must lie when they are drawn:
// draws scatter by sqrt((k - 1) / k) too little, and what so few tell of their scatter, `df` of
// both sides together, asks for Student's t instead of the normal distribution.
double widening(size_t k, size_t df) {
  if (k < 2) return 0;
  const auto n = static_cast<double>(k);
  return std::sqrt(n / (n - 1)) * t_quantile(df) / kNormalQuantile;
}

// The mean over seeds drawn with replacement, on sequences that were drawn.
double drawn_value(const std::vector<MetricRows>& seeds, const std::vector<size_t>& among,
                   double widening, const Finish& finish, Random& random) {
  std::vector<double> values;
  for (const MetricRows& seed : seeds) values.push_back(value_of(seed, among, finish));
  const double centre = mean(values);
  if (values.size() == 1) return centre;
  double drawn = 0;
  for (size_t n = 0; n < values.size(); ++n) drawn += values[random.below(values.size())];
  return centre + widening * (drawn / static_cast<double>(values.size()) - centre);
}

std::optional<Bounds> difference_interval(const std::vector<MetricRows>& a,
                                          const std::vector<MetricRows>& b,
                                          const std::vector<size_t>& measured, const Finish& finish,
                                          const Resampling& resampling) {
  const size_t df = a.size() + b.size() - 2;
  const double wide_a = widening(a.size(), df), wide_b = widening(b.size(), df);
  return bootstrap_interval(measured, resampling,
                            [&](const std::vector<size_t>& drawn, Random& random) {
                              const double value_a = drawn_value(a, drawn, wide_a, finish, random);
                              return drawn_value(b, drawn, wide_b, finish, random) - value_a;
                            });
}

double permutation_p(const std::vector<MetricRows>& a, const std::vector<MetricRows>& b,
                     const std::vector<size_t>& measured, const Finish& finish,
                     const Resampling& resampling) {
  const size_t width = a.front().width;
  std::vector<double> total(width), half(measured.size() * width);  // A + B, (B - A) / 2
  const auto spread = [&](const std::vector<MetricRows>& seeds, double sign) {
    const double share = 1 / static_cast<double>(seeds.size());
    for (const MetricRows& rows : seeds) {
      for (size_t i = 0; i < measured.size(); ++i) {
        for (size_t w = 0; w < width; ++w) {
          const double x = share * rows.row(measured[i])[w];
          total[w] += x;
          half[i * width + w] += sign * x / 2;
        }
      }
    }
  };
  spread(a, -1);
  spread(b, 1);
  std::vector<double> sums_a(width), sums_b(width), shift(width);
  const auto difference = [&] {
    for (size_t w = 0; w < width; ++w) {
      sums_a[w] = total[w] / 2 - shift[w];
      sums_b[w] = total[w] / 2 + shift[w];
    }
    return finish(sums_b) - finish(sums_a);
  };
  for (size_t k = 0; k < half.size(); ++k) shift[k % width] += half[k];
  const double seen = std::abs(difference());
  // Swaps that give the same difference are added up in another order.
  const double rounding = 1e-12 * (std::abs(finish(sums_a)) + std::abs(finish(sums_b)));

  Random random(resampling.seed);
  int64_t as_large = 0;
  for (int64_t r = 0; r < resampling.count; ++r) {
    if (resampling.before_each) resampling.before_each();
    std::fill(shift.begin(), shift.end(), 0.0);
    uint64_t coins = 0;
    for (size_t i = 0; i < measured.size(); ++i) {
      coins = i % 64 == 0 ? random.bits() : coins >> 1;
      const double sign = (coins & 1) != 0 ? 1 : -1;
      for (size_t w = 0; w < width; ++w) shift[w] += sign * half[i * width + w];
    }
    // Not `>=`: a difference that is not a number is no evidence against equality.
    as_large += !(std::abs(difference()) < seen - rounding);
  }
  return static_cast<double>(as_large + 1) / static_cast<double>(resampling.count + 1);
}

}  // namespace

std::vector<size_t> all_of(size_t n) {
  std::vector<size_t> all(n);
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

Estimate estimate(const MetricRows& rows, const std::vector<size_t>& among, const Finish& finish,
                  const Resampling& resampling) {
  std::vector<size_t> measured;
  std::copy_if(among.begin(), among.end(), std::back_inserter(measured),
               [&](size_t i) { return is_measured(rows.row(i)); });
  Estimate out{measured.size(), value_of(rows, measured, finish), std::nullopt};
  if (measured.size() < 2 || std::isnan(out.value)) return out;
  out.interval = bootstrap_interval(
      measured, resampling, [&](const std::vector<size_t>& drawn, Random&) {
        return value_of(rows, drawn, finish);
      });
  return out;
}

PairedDifference compare_paired(const std::vector<MetricRows>& a, const std::vector<MetricRows>& b,
                                const Finish& finish, const Resampling& resampling) {
  std::vector<size_t> measured;
  for (size_t i = 0; i < a.front().size(); ++i) {
    if (is_measured(a.front().row(i)) || is_measured(b.front().row(i))) measured.push_back(i);
  }
  PairedDifference out;
  out.sequences = measured.size();
  for (const MetricRows& seed : a) out.a_seeds.push_back(value_of(seed, measured, finish));
  for (const MetricRows& seed : b) out.b_seeds.push_back(value_of(seed, measured, finish));
  out.a = mean(out.a_seeds);
  out.b = mean(out.b_seeds);
  out.difference = out.b - out.a;
  if (measured.size() > 1 && !std::isnan(out.difference)) {
    out.interval = difference_interval(a, b, measured, finish, resampling);
  }
  out.p = permutation_p(a, b, measured, finish, resampling);
  return out;
}

}  // namespace ribo
