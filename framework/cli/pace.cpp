#include "cli/pace.h"

#include <unistd.h>

#include <cstdio>

#include "ribo/error.h"
#include "train/progress.h"

namespace ribo::cli {

Pace::Pace(int64_t total, bool quiet)
    : total_(total), shown_(!quiet && ::isatty(STDERR_FILENO) != 0) {}

void Pace::add(int64_t sequences, int64_t nucleotides) {
  sequences_ += sequences;
  nucleotides_ += nucleotides;
  const double now = seconds();
  if (!shown_ || now - drawn_ < 0.2) return;
  drawn_ = now;
  const double rest =
      now / static_cast<double>(sequences_) * static_cast<double>(total_ - sequences_);
  std::fprintf(stderr, "\r\033[K%lld/%lld sequences, %s/s, %s left",
               static_cast<long long>(sequences_), static_cast<long long>(total_),
               rate(static_cast<double>(sequences_)).c_str(), format_duration(rest).c_str());
}

void Pace::clear() const {
  if (shown_ && drawn_ > 0) std::fputs("\r\033[K", stderr);
}

std::string Pace::summary() const {
  return cat(sequences_, " sequences, ", nucleotides_, " nt in ", format_duration(seconds()), ": ",
             rate(static_cast<double>(sequences_)), " sequences/s, ",
             rate(static_cast<double>(nucleotides_)), " nt/s");
}

std::string Pace::rate(double count) const {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", count / seconds() < 10 ? 2 : 0, count / seconds());
  return text;
}

}  // namespace ribo::cli
