#include "losses.h"

#include <ATen/ATen.h>

namespace ribo::reactivity {
namespace {

template <class Options>
Schema<Options> make_schema(const char* doc) {
  Schema<Options> s(doc);
  add_selection(s);
  s.param("both", &Options::both, "a position counts only where all columns have a value");
  return s;
}

}  // namespace

at::Tensor PointwiseLoss::forward(const Streams& streams) const {
  const Pairs p = comparison_.pairs(streams);
  return penalty(p.pred, p.target).sum() / p.valid.sum().clamp_min(1);
}

Schema<MaeLoss::Options> MaeLoss::schema() {
  return make_schema<Options>("Mean absolute error over all measured values.");
}
at::Tensor MaeLoss::penalty(const at::Tensor& pred, const at::Tensor& target) const {
  return (pred - target).abs();
}

Schema<MseLoss::Options> MseLoss::schema() {
  return make_schema<Options>("Mean squared error over all measured values.");
}
at::Tensor MseLoss::penalty(const at::Tensor& pred, const at::Tensor& target) const {
  return (pred - target).square();
}

Schema<HuberLoss::Options> HuberLoss::schema() {
  auto s =
      make_schema<Options>("Huber loss: half the squared error up to delta, linear beyond it.");
  s.param("delta", &Options::delta, "where squares end and lines begin").range(1e-6, 1e6);
  return s;
}
at::Tensor HuberLoss::penalty(const at::Tensor& pred, const at::Tensor& target) const {
  return at::huber_loss(pred, target, at::Reduction::None, delta_);
}

Schema<McrmseLoss::Options> McrmseLoss::schema() {
  return make_schema<Options>(
      "Mean over columns of the root mean squared error: OpenVaccine's score.");
}
at::Tensor McrmseLoss::forward(const Streams& streams) const {
  const Pairs p = comparison_.pairs(streams);
  const at::Tensor count = p.valid.sum(at::IntArrayRef{0, 1});
  const at::Tensor mse =
      (p.pred - p.target).square().sum(at::IntArrayRef{0, 1}) / count.clamp_min(1);
  // The root's slope at zero is infinite: columns without an error, or without a value, stay out.
  const at::Tensor flat = mse == 0;
  const at::Tensor rmse = mse.masked_fill(flat, 1).sqrt().masked_fill(flat, 0);
  return rmse.sum() / (count > 0).sum().clamp_min(1);
}

}  // namespace ribo::reactivity
