#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ribo {
namespace {

struct WarmUp {
  Interval warmup{0, Interval::Unit::updates};

  // Linear from 1/n to 1, so that the first update already moves.
  double ramp(int64_t update, int64_t per_epoch) const {
    if (warmup.count <= 0) return 1;
    const int64_t n = to_updates(warmup, per_epoch);
    return std::min(1.0, static_cast<double>(update + 1) / static_cast<double>(n));
  }
  int64_t length(int64_t per_epoch) const {
    return warmup.count > 0 ? to_updates(warmup, per_epoch) : 0;
  }
};

double cosine(double progress, double final_factor) {
  progress = std::clamp(progress, 0.0, 1.0);
  return final_factor + (1 - final_factor) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

double progress(int64_t update, int64_t from, int64_t to) {
  return to > from ? static_cast<double>(update - from) / static_cast<double>(to - from) : 1.0;
}

template <class Options>
void add_common(Schema<Options>& s) {
  s.param("warmup", &Options::warmup, "linear warm-up from zero, e.g. 100u or 0.1e");
  s.check([](const Options& o) -> std::string {
    return o.warmup.unit == Interval::Unit::seconds
               ? "warmup must be updates (100u) or epochs (0.1e)"
               : "";
  });
}

struct Cosine final : Schedule {
  struct Options : WarmUp {
    double final = 0.01;
  } o;
  static Schema<Options> schema() {
    Schema<Options> s("Warm-up, then half a cosine down to `final` (Loshchilov & Hutter 2017).");
    add_common(s);
    s.param("final", &Options::final, "factor at the end").range(0, 1);
    return s;
  }
  explicit Cosine(const Options& options) : o(options) {}
  double factor(int64_t u, int64_t total, int64_t per_epoch) const override {
    return o.ramp(u, per_epoch) * cosine(progress(u, o.length(per_epoch), total), o.final);
  }
};

struct FlatCosine final : Schedule {
  struct Options : WarmUp {
    double flat = 0.75;
    double final = 0.0;
  } o;
  static Schema<Options> schema() {
    Schema<Options> s("Warm-up, a constant rate for the share `flat` of the run, then a cosine.");
    add_common(s);
    s.param("flat", &Options::flat, "share of the run before the rate falls").range(0, 1);
    s.param("final", &Options::final, "factor at the end").range(0, 1);
    return s;
  }
  explicit FlatCosine(const Options& options) : o(options) {}
  double factor(int64_t u, int64_t total, int64_t per_epoch) const override {
    const auto start = static_cast<int64_t>(std::llround(o.flat * static_cast<double>(total)));
    return o.ramp(u, per_epoch) * (u < start ? 1.0 : cosine(progress(u, start, total), o.final));
  }
};

struct Constant final : Schedule {
  using Options = WarmUp;
  Options o;
  static Schema<Options> schema() {
    Schema<Options> s("Warm-up, then a constant rate.");
    add_common(s);
    return s;
  }
  explicit Constant(const Options& options) : o(options) {}
  double factor(int64_t u, int64_t, int64_t per_epoch) const override { return o.ramp(u, per_epoch); }
};

template <class T>
ScheduleFactory factory() {
  using Options = typename T::Options;
  return {std::make_shared<Schema<Options>>(T::schema()), [](const void* o) {
            return std::make_shared<T>(*static_cast<const Options*>(o));
          }};
}

}  // namespace

const std::map<std::string, ScheduleFactory, std::less<>>& schedules() {
  static const std::map<std::string, ScheduleFactory, std::less<>> all = {
      {"constant", factory<Constant>()},
      {"cosine", factory<Cosine>()},
      {"flat_cosine", factory<FlatCosine>()}};
  return all;
}

int64_t to_updates(const Interval& interval, int64_t updates_per_epoch) {
  double updates = interval.count;
  if (interval.unit == Interval::Unit::epochs) {
    updates *= static_cast<double>(updates_per_epoch);
  } else if (interval.unit == Interval::Unit::seconds) {
    throw ConfigError(cat("\"", interval.str(), "\" is a time; say it in updates (500u) or epochs (2e)"));
  }
  return std::max<int64_t>(1, std::llround(updates));
}

}  // namespace ribo
