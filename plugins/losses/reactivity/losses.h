// Losses over profiles measured at each residue. Each is a mean over what was measured: NaN and
// padding don't count, and a batch without any value gives exactly zero.
#pragma once

#include "ribo/loss.h"
#include "selection.h"

namespace ribo::reactivity {

/// The mean over valid values of something per value.
class PointwiseLoss : public Loss {
 public:
  void shapes(Shapes& shapes) final { comparison_.resolve(shapes); }
  at::Tensor forward(const Streams& streams) const final;

 protected:
  PointwiseLoss(const Selection& selection, bool both) : comparison_(selection, both) {}
  /// Per value, and zero where both are zero.
  virtual at::Tensor penalty(const at::Tensor& pred, const at::Tensor& target) const = 0;

 private:
  Comparison comparison_;
};

class MaeLoss final : public PointwiseLoss {
 public:
  struct Options : Selection {
    bool both = false;
  };
  static Schema<Options> schema();
  explicit MaeLoss(const Options& options) : PointwiseLoss(options, options.both) {}

 private:
  at::Tensor penalty(const at::Tensor& pred, const at::Tensor& target) const override;
};

class MseLoss final : public PointwiseLoss {
 public:
  using Options = MaeLoss::Options;
  static Schema<Options> schema();
  explicit MseLoss(const Options& options) : PointwiseLoss(options, options.both) {}

 private:
  at::Tensor penalty(const at::Tensor& pred, const at::Tensor& target) const override;
};

class HuberLoss final : public PointwiseLoss {
 public:
  struct Options : Selection {
    bool both = false;
    double delta = 1;
  };
  static Schema<Options> schema();
  explicit HuberLoss(const Options& options)
      : PointwiseLoss(options, options.both), delta_(options.delta) {}

 private:
  at::Tensor penalty(const at::Tensor& pred, const at::Tensor& target) const override;
  const double delta_;
};

/// The mean over columns of the root of each column's mean squared error in the batch.
class McrmseLoss final : public Loss {
 public:
  using Options = MaeLoss::Options;
  static Schema<Options> schema();
  explicit McrmseLoss(const Options& options) : comparison_(options, options.both) {}
  void shapes(Shapes& shapes) override { comparison_.resolve(shapes); }
  at::Tensor forward(const Streams& streams) const override;

 private:
  Comparison comparison_;
};

}  // namespace ribo::reactivity
