// Learning-rate schedules, as factors of the optimizer's rate.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "ribo/schema.h"

namespace ribo {

class Schedule {
 public:
  virtual ~Schedule() = default;
  /// The factor for update `update` (counted from 0) of `total`.
  virtual double factor(int64_t update, int64_t total, int64_t updates_per_epoch) const = 0;
};

struct ScheduleFactory {
  std::shared_ptr<const SchemaBase> schema;
  std::function<std::shared_ptr<Schedule>(const void* options)> make;
};

/// The schedules by their `type`: cosine, flat_cosine, constant.
const std::map<std::string, ScheduleFactory, std::less<>>& schedules();

/// An interval in updates, at least 1. Throws ConfigError for a time.
int64_t to_updates(const Interval& interval, int64_t updates_per_epoch);

}  // namespace ribo
