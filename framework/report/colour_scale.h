// From a number to a colour, and what a reader needs to go back.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "report/png.h"

namespace ribo {

/// 256 colours from near white over green to dark blue. Equal steps look equal: lightness falls
/// linearly in the Oklab space (Ottosson 2020), so that the order survives colour blindness and
/// print.
std::span<const Colour> sequential_colours();

/// Multiples of 1, 2 or 5 times a power of ten within [low, high], `about` of them; `low` alone
/// where that is no range.
std::vector<double> nice_ticks(double low, double high, int about);
/// A tick as a label.
std::string tick_label(double value);

/// What a map's colours mean.
struct ColourScale {
  double low = 0, high = 1;  // low < high; what lies beyond gets the last colour
  enum class Kind { linear, root, logarithmic } kind = Kind::linear;
  std::string title;  // with the unit

  /// 0 (low) to 1 (high).
  double position(double value) const;
  std::vector<double> ticks() const;
};

}  // namespace ribo
