#include "report/colour_scale.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace ribo {
namespace {

constexpr double kPi = 3.14159265358979323846;

uint8_t srgb(double linear) {
  const double x = std::clamp(linear, 0.0, 1.0);
  const double v = x <= 0.0031308 ? 12.92 * x : 1.055 * std::pow(x, 1 / 2.4) - 0.055;
  return static_cast<uint8_t>(std::lround(255 * v));
}

// Oklab's lightness 0..1, chroma and hue in degrees.
Colour from_oklch(double lightness, double chroma, double hue) {
  const double a = chroma * std::cos(hue * kPi / 180), b = chroma * std::sin(hue * kPi / 180);
  const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
  const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
  const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
  return {srgb(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          srgb(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          srgb(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

std::vector<Colour> make_sequential() {
  std::vector<Colour> out;
  for (int i = 0; i < 256; ++i) {
    const double t = i / 255.0;
    // Chroma is largest in the middle, where sRGB has room for it.
    out.push_back(
        from_oklch(0.985 - 0.735 * t, 0.125 * std::pow(std::sin(kPi * t), 0.75), 130 + 150 * t));
  }
  return out;
}

}  // namespace

std::span<const Colour> sequential_colours() {
  static const std::vector<Colour> colours = make_sequential();
  return colours;
}

std::vector<double> nice_ticks(double low, double high, int about) {
  if (!(high > low)) return {low};
  const double rough = (high - low) / about, power = std::pow(10, std::floor(std::log10(rough)));
  // The nearest of 1, 2, 5 and 10, as ratios go.
  const double square = rough / power * rough / power;
  const double step = power * (square < 2 ? 1 : square < 10 ? 2 : square < 50 ? 5 : 10);
  std::vector<double> out;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i) {
    out.push_back(i * step);
  }
  return out;
}

std::string tick_label(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value == 0 ? 0 : value);
  return text;
}

double ColourScale::position(double value) const {
  const double v = std::clamp(value, low, high), share = (v - low) / (high - low);
  switch (kind) {
    case Kind::root:
      return std::sqrt(share);
    case Kind::logarithmic:
      return std::log(v / low) / std::log(high / low);
    default:
      return share;
  }
}

std::vector<double> ColourScale::ticks() const {
  const bool narrow = kind == Kind::logarithmic && high < 8 * low;
  if (kind == Kind::linear || narrow) return nice_ticks(low, high, 4);
  std::vector<double> out;
  if (kind == Kind::root) {
    for (const double part : {0.0, 0.1, 0.25, 0.5, 1.0}) out.push_back(low + part * (high - low));
    return out;
  }
  for (double power = std::pow(10, std::floor(std::log10(low))); power <= high; power *= 10) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double v = factor * power;
      if (v >= low * 0.999 && v <= high * 1.001) out.push_back(v);
    }
  }
  return out;
}

}  // namespace ribo
