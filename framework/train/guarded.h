// Losses, metrics and splits of plugins, wrapped so that whatever they throw during a run tells
// where in the pipeline and from which plugin it comes.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "plugins/host.h"
#include "ribo/data.h"
#include "ribo/loss.h"
#include "ribo/metric.h"

namespace ribo {

/// Who made a thing, for a message.
struct Origin {
  const plugins::Plugin* plugin;
  std::string path, type;  // "metrics[0]", "mae"

  template <class F>
  auto guard(F&& call) const {
    return plugins::guarded(*plugin, path, type, std::forward<F>(call));
  }
  /// ribo's own errors pass as they are: a data source's name a file and a line themselves, and a
  /// prefix would only hide them.
  template <class F>
  auto guard_foreign(F&& call) const {
    try {
      return call();
    } catch (const Error&) {
      throw;
    } catch (...) {
      plugins::rethrow_from(*plugin, path, type);
    }
  }
};

class GuardedLoss final : public Loss {
 public:
  GuardedLoss(std::shared_ptr<Loss> loss, Origin origin)
      : loss_(std::move(loss)), origin_(std::move(origin)) {}
  void shapes(Shapes& s) override {
    origin_.guard([&] { loss_->shapes(s); });
  }
  at::Tensor forward(const Streams& s) const override {
    return origin_.guard([&] { return loss_->forward(s); });
  }

 private:
  const std::shared_ptr<Loss> loss_;
  const Origin origin_;
};

class GuardedMetric final : public Metric {
 public:
  GuardedMetric(std::shared_ptr<Metric> metric, Origin origin)
      : metric_(std::move(metric)), origin_(std::move(origin)) {}
  void shapes(Shapes& s) override {
    origin_.guard([&] { metric_->shapes(s); });
  }
  at::Tensor accumulate(const Streams& s) const override {
    return origin_.guard([&] { return metric_->accumulate(s); });
  }
  double finish(const at::Tensor& sums) const override {
    return origin_.guard([&] { return metric_->finish(sums); });
  }
  bool lower_is_better() const override { return metric_->lower_is_better(); }
  std::string target() const override { return metric_->target(); }

 private:
  const std::shared_ptr<Metric> metric_;
  const Origin origin_;
};

class GuardedSplit final : public Split {
 public:
  GuardedSplit(std::shared_ptr<const Split> split, Origin origin)
      : split_(std::move(split)), origin_(std::move(origin)) {}
  int64_t size() const override {
    return origin_.guard_foreign([&] { return split_->size(); });
  }
  int64_t length(int64_t i) const override {
    return origin_.guard_foreign([&] { return split_->length(i); });
  }
  std::string id(int64_t i) const override {
    return origin_.guard_foreign([&] { return split_->id(i); });
  }
  Streams get(int64_t i, uint64_t draw) const override {
    return origin_.guard_foreign([&] { return split_->get(i, draw); });
  }

 private:
  const std::shared_ptr<const Split> split_;
  const Origin origin_;
};

}  // namespace ribo
