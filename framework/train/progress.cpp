#include "train/progress.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string_view>

namespace ribo {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <class... Args>
std::string print(const char* format, Args... args) {
  std::array<char, 400> text;  // the longest: a double near 1e308 with its decimals
  std::snprintf(text.data(), text.size(), format, args...);
  return text.data();
}

int columns(std::string_view utf8) {
  return static_cast<int>(std::count_if(utf8.begin(), utf8.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  }));
}

std::string pad_left(const std::string& text, size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

// A bar with eighths of a column.
std::string bar(double fraction, int width) {
  static constexpr std::array<const char*, 8> parts = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * width * 8);
  std::string text;
  for (int i = 0; i < eighths / 8; ++i) text += "█";
  text += parts[static_cast<size_t>(eighths % 8)];
  text.append(static_cast<size_t>(width - columns(text)), ' ');
  return "▕" + text + "▏";
}

int64_t completed_epochs(double epoch) { return static_cast<int64_t>(std::floor(epoch + 1e-6)); }

}  // namespace

std::string format_score(double value) {
  if (std::isnan(value)) return "nan";  // printf also knows -nan
  const double size = std::abs(value);
  return print(size == 0 || (size >= 1e-3 && size < 1e5) || std::isinf(value) ? "%.4f" : "%.3e",
               value);
}

std::string format_duration(double seconds) {
  if (!(seconds >= 0 && seconds < 1e9)) return "?";
  const auto s = static_cast<long>(std::lround(seconds));
  if (s >= 86400) {
    return print("%ldd %02ld:%02ld:%02ld", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60);
  }
  if (s >= 3600) return print("%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  return print("%ld:%02ld", s / 60, s % 60);
}

std::string format_validation(const ValidationDone& event, int64_t updates) {
  const double last_epoch =
      event.update > 0 ? event.epoch * static_cast<double>(updates) / event.update : event.epoch;
  std::string text =
      cat("  update ", pad_left(std::to_string(event.update), std::to_string(updates).size()),
          "  epoch ", pad_left(print("%.1f", event.epoch), print("%.1f", last_epoch).size()),
          "  loss ", format_score(event.loss));
  for (const auto& score : event.scores) {
    text += cat("  valid ", score.metric, " ", format_score(score.value));
    std::string floors;
    for (const auto& [name, value] : score.floors) {
      floors += cat(floors.empty() ? "" : ", ", name, " ", format_score(value));
    }
    if (!floors.empty()) text += cat("  (", floors, ")");
  }
  return event.best ? text + "  * best" : text;
}

void Progress::Average::add(double value) {
  constexpr double memory = 0.98;
  sum = memory * sum + value;
  weight = memory * weight + 1;
}

double Progress::Average::value() const { return weight > 0 ? sum / weight : nan; }

void Progress::add(const RunStarted& event) {
  *this = {};
  total_ = event.updates;
  update_ = first_update_ = event.resumed_at;
  // The clock of a resumed run goes on from a value that only its first update tells.
  has_clock_ = event.resumed_at == 0;
}

void Progress::add(const UpdateDone& event) {
  // The update that starts the clock has no predecessor; it ended an epoch if it lies on one.
  const double before = has_clock_ && update_ > 0 ? epoch_ : event.epoch - 1e-5;
  boundary_ = completed_epochs(event.epoch) > completed_epochs(before) || event.update == total_;
  if (has_clock_ && event.seconds > seconds_) {
    sequences_.add(static_cast<double>(event.sequences));
    pace_.add(event.seconds - seconds_);
  }
  if (!has_clock_) {
    first_update_ = event.update;
    first_seconds_ = event.seconds;
    has_clock_ = true;
  }
  update_ = event.update;
  epoch_ = event.epoch;
  seconds_ = event.seconds;
  last_loss_ = event.loss;
  // One NaN would stay in the average for good.
  if (std::isfinite(event.loss)) loss_.add(event.loss);
}

void Progress::add(const ValidationDone& event) {
  const std::string name = event.scores.empty() ? "loss" : event.scores[0].metric;
  const double score = event.scores.empty() ? event.loss : event.scores[0].value;
  const char* arrow = validation_.empty() || !(score < last_score_ || score > last_score_) ? ""
                      : score < last_score_                                                ? " ↓"
                                                                                           : " ↑";
  validation_ = cat("valid ", name, " ", format_score(score), arrow);
  last_score_ = score;
}

std::string Progress::percent() const {
  const double done = total_ > 0 ? static_cast<double>(update_) / static_cast<double>(total_) : 0;
  return print("%3d%%", static_cast<int>(std::clamp(done, 0.0, 1.0) * 100));
}

std::string Progress::speed() const {
  const double rate = sequences_.value() / pace_.value();
  return std::isfinite(rate) ? print(rate < 10 ? "%.1f seq/s" : "%.0f seq/s", rate) : "";
}

std::string Progress::remaining() const {
  if (update_ <= first_update_ || update_ > total_) return "";
  const double per_update =
      (seconds_ - first_seconds_) / static_cast<double>(update_ - first_update_);
  return "ETA " + format_duration(per_update * static_cast<double>(total_ - update_));
}

std::string Progress::line(int width) const {
  constexpr int narrowest_bar = 8, widest_bar = 30;
  const bool any = loss_.weight > 0 || !std::isfinite(last_loss_);
  const std::string start = percent() + " ";
  std::array<std::string, 5> parts = {cat(update_, "/", total_), "", speed(), remaining(),
                                      validation_};
  if (any) {
    parts[1] = "loss " + format_score(std::isfinite(last_loss_) ? loss_.value() : last_loss_);
  }
  const auto joined = [&parts] {
    std::string text;
    for (const std::string& part : parts) {
      if (!part.empty()) text += (text.empty() ? " " : "  ") + part;
    }
    return text;
  };
  // The last column stays free: writing there would move some terminals to the next line.
  const int free = std::max(width - 1, 0) - columns(start) - 2;
  for (const size_t least_important : {4, 2, 3, 1, 0}) {
    if (free - columns(joined()) >= narrowest_bar) break;
    parts[least_important].clear();
  }
  const int left = free - columns(joined());
  if (left < 1) return start.substr(0, static_cast<size_t>(std::max(width - 1, 0)));
  const double done = total_ > 0 ? static_cast<double>(update_) / static_cast<double>(total_) : 0;
  return start + bar(done, std::min(left, widest_bar)) + joined();
}

std::string Progress::plain_line() const {
  std::string text =
      cat("update ", update_, "/", total_, "  epoch ", print("%.2f", epoch_), "  loss ",
          format_score(std::isfinite(last_loss_) ? loss_.value() : last_loss_));
  for (const std::string& part : {speed(), remaining(), validation_}) {
    if (!part.empty()) text += "  " + part;
  }
  return text;
}

}  // namespace ribo
