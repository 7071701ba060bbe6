// Metrics over profiles measured at each residue. All rows and positions of the validation split
// weigh alike, however they were batched.
#pragma once

#include "ribo/metric.h"
#include "selection.h"

namespace ribo::reactivity {

/// Sums of a fixed number of quantities per column: [quantities, K], flattened.
class ColumnMetric : public Metric {
 public:
  struct Options : Selection {
    bool both = false;
  };
  void shapes(Shapes& shapes) final { comparison_.resolve(shapes); }
  at::Tensor accumulate(const Streams& streams) const final;
  std::string target() const final { return comparison_.target(); }

 protected:
  ColumnMetric(const Selection& selection, bool both) : comparison_(selection, both) {}
  /// The quantities to be added up, each [B, L, K] double and zero where not valid.
  virtual std::vector<at::Tensor> quantities(const Pairs& pairs) const = 0;
  /// The sums as [quantities, K].
  at::Tensor by_column(const at::Tensor& sums) const;

 private:
  Comparison comparison_;
};

/// The mean absolute error over all measured values.
class Mae : public ColumnMetric {
 public:
  static Schema<Options> schema();
  explicit Mae(const Options& options) : ColumnMetric(options, options.both) {}
  double finish(const at::Tensor& sums) const override;

 protected:
  Mae(const Selection& selection, bool both) : ColumnMetric(selection, both) {}
  std::vector<at::Tensor> quantities(const Pairs& pairs) const override;
};

/// Ribonanza's score: the mean absolute error over positions where every profile has a value.
class RibonanzaMae final : public Mae {
 public:
  using Options = Selection;
  static Schema<Options> schema();
  explicit RibonanzaMae(const Options& options) : Mae(options, /*both=*/true) {}
};

/// The mean squared error over all measured values.
class Mse : public ColumnMetric {
 public:
  static Schema<Options> schema();
  explicit Mse(const Options& options) : ColumnMetric(options, options.both) {}
  double finish(const at::Tensor& sums) const override;

 protected:
  std::vector<at::Tensor> quantities(const Pairs& pairs) const override;
};

/// The root of Mse.
class Rmse final : public Mse {
 public:
  static Schema<Options> schema();
  explicit Rmse(const Options& options) : Mse(options) {}
  double finish(const at::Tensor& sums) const override;
};

/// The mean over columns of each column's root mean squared error: OpenVaccine's score.
class Mcrmse final : public Mse {
 public:
  static Schema<Options> schema();
  explicit Mcrmse(const Options& options) : Mse(options) {}
  double finish(const at::Tensor& sums) const override;
};

/// The mean over columns of Pearson's correlation over all measured values. Columns in which
/// predictions or measurements don't vary have none and don't count.
class Pearson final : public ColumnMetric {
 public:
  static Schema<Options> schema();
  explicit Pearson(const Options& options) : ColumnMetric(options, options.both) {}
  double finish(const at::Tensor& sums) const override;
  bool lower_is_better() const override { return false; }

 protected:
  std::vector<at::Tensor> quantities(const Pairs& pairs) const override;
};

}  // namespace ribo::reactivity
