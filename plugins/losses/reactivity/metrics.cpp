#include "metrics.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace ribo::reactivity {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

template <class Options>
Schema<Options> make_schema(const char* doc) {
  Schema<Options> s(doc);
  add_selection(s);
  s.param("both", &Options::both, "a position counts only where all columns have a value");
  return s;
}

// The mean of a [K] tensor over the columns that are not NaN.
double mean_of_columns(const at::Tensor& x) {
  const at::Tensor good = x.isnan().logical_not();
  return x.nan_to_num(0).sum().item<double>() / good.sum().item<double>();  // 0 / 0 = NaN
}

}  // namespace

at::Tensor ColumnMetric::accumulate(const Streams& streams) const {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> sums;
  for (const at::Tensor& q : quantities(comparison_.pairs(streams, at::kDouble))) {
    sums.push_back(q.sum(at::IntArrayRef{0, 1}).to(at::kDouble));
  }
  return at::cat(sums).cpu();
}

at::Tensor ColumnMetric::by_column(const at::Tensor& sums) const {
  return sums.view({-1, comparison_.columns()});
}

Schema<Mae::Options> Mae::schema() {
  return make_schema<Options>("Mean absolute error over all measured values.");
}
std::vector<at::Tensor> Mae::quantities(const Pairs& p) const {
  return {(p.pred - p.target).abs(), p.valid};
}
double Mae::finish(const at::Tensor& sums) const {
  const at::Tensor total = by_column(sums).sum(1);
  return (total[0] / total[1]).item<double>();
}

Schema<RibonanzaMae::Options> RibonanzaMae::schema() {
  Schema<Options> s(
      "Ribonanza's score: mean absolute error over the positions where every profile (2A3 and "
      "DMS) has a value.");
  add_selection(s);
  return s;
}

Schema<Mse::Options> Mse::schema() {
  return make_schema<Options>("Mean squared error over all measured values.");
}
std::vector<at::Tensor> Mse::quantities(const Pairs& p) const {
  return {(p.pred - p.target).square(), p.valid};
}
double Mse::finish(const at::Tensor& sums) const {
  const at::Tensor total = by_column(sums).sum(1);
  return (total[0] / total[1]).item<double>();
}

Schema<Rmse::Options> Rmse::schema() {
  return make_schema<Options>("Root of the mean squared error over all measured values.");
}
double Rmse::finish(const at::Tensor& sums) const { return std::sqrt(Mse::finish(sums)); }

Schema<Mcrmse::Options> Mcrmse::schema() {
  return make_schema<Options>(
      "Mean over columns of the root mean squared error over all rows and positions: "
      "OpenVaccine's score.");
}
double Mcrmse::finish(const at::Tensor& sums) const {
  const at::Tensor s = by_column(sums);
  return mean_of_columns((s[0] / s[1]).sqrt());
}

Schema<Pearson::Options> Pearson::schema() {
  return make_schema<Options>(
      "Mean over columns of Pearson's correlation between predicted and measured values.");
}
std::vector<at::Tensor> Pearson::quantities(const Pairs& p) const {
  return {p.valid, p.pred, p.target, p.pred.square(), p.target.square(), p.pred * p.target};
}
double Pearson::finish(const at::Tensor& sums) const {
  const at::Tensor s = by_column(sums);
  const at::Tensor n = s[0], x = s[1] / n, y = s[2] / n;
  // Below the rounding of the sums a variance is zero.
  const auto variance = [&](const at::Tensor& squares, const at::Tensor& mean) {
    const at::Tensor v = squares / n - mean.square();
    return v.masked_fill(v <= 1e-12 * squares / n, kNothing);
  };
  return mean_of_columns((s[5] / n - x * y) / (variance(s[3], x) * variance(s[4], y)).sqrt());
}

}  // namespace ribo::reactivity
