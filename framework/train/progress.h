// The text of a progress bar, apart from where it is drawn.
#pragma once

#include <string>

#include "ribo/error.h"
#include "train/events.h"

namespace ribo {

/// "0.1931", "3.200e-05", "nan": four decimals where those say enough.
RIBO_API std::string format_score(double value);

/// "0:07", "3:12", "1:02:33", "2d 03:04:05"; "?" for what is no time.
RIBO_API std::string format_duration(double seconds);

/// The result of a validation in one line, as observers.h shows it; `updates` is what the run
/// plans, for the width of the columns.
RIBO_API std::string format_validation(const ValidationDone& event, int64_t updates);

/// Gathers what a progress bar shows. Loss and speed are exponential averages over about the last
/// 50 updates; the remaining time comes from the mean pace of this session, validations included.
class RIBO_API Progress {
 public:
  void add(const RunStarted& event);
  void add(const UpdateDone& event);
  void add(const ValidationDone& event);

  /// One line of less than `width` columns: percent, bar, update/total, loss, sequences/s,
  /// remaining time, last validation. What doesn't fit is left out, the least important first.
  std::string line(int width) const;
  /// One line without a bar, for a file.
  std::string plain_line() const;
  /// What the run plans in total.
  int64_t updates() const { return total_; }
  /// Whether the last update ended an epoch or the run.
  bool at_boundary() const { return boundary_; }

 private:
  struct Average {
    double sum = 0, weight = 0;
    void add(double value);
    double value() const;  // NaN before the first value
  };
  std::string percent() const;
  std::string speed() const;
  std::string remaining() const;

  int64_t total_ = 0, update_ = 0, first_update_ = 0;
  double epoch_ = 0, last_loss_ = 0, seconds_ = 0, first_seconds_ = 0;
  bool has_clock_ = false, boundary_ = false;
  Average loss_, sequences_, pace_;
  std::string validation_;
  double last_score_ = 0;
};

}  // namespace ribo
