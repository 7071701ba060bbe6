// How far a verb has come that predicts many sequences.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ribo::cli {

/// On a terminal a line while it goes on, redrawn a few times a second, and a summary in the end.
class Pace {
 public:
  /// `quiet`: nothing is drawn.
  Pace(int64_t total, bool quiet);
  ~Pace() { clear(); }
  Pace(const Pace&) = delete;

  void start(int64_t total) { total_ = total; }
  void add(int64_t sequences, int64_t nucleotides);
  void clear() const;
  std::string summary() const;

 private:
  using Clock = std::chrono::steady_clock;
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  std::string rate(double count) const;

  int64_t total_;
  const bool shown_;
  const Clock::time_point start_ = Clock::now();
  double drawn_ = 0;
  int64_t sequences_ = 0, nucleotides_ = 0;
};

}  // namespace ribo::cli
