#include "report/heat_map.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/svg.h"

namespace ribo {
namespace {

// Pixels.
constexpr double kSide = 440, kLeft = 58, kTop = 22, kBottom = 42, kBar = 12, kBarGap = 14;
constexpr double kRight = kBarGap + kBar + 50, kGridGap = 12, kGridTitle = 15;
// More pixels than this in an image are lost on the eye, and make the file large.
constexpr double kImagePixelsPerPixel = 2;

size_t pooling(size_t size, double side) {
  return static_cast<size_t>(
      std::max(1.0, std::ceil(static_cast<double>(size) / (side * kImagePixelsPerPixel))));
}

size_t grid_columns(size_t maps) {
  return static_cast<size_t>(std::ceil(std::sqrt(static_cast<double>(maps))));
}

double grid_side(size_t maps) {
  const auto columns = static_cast<double>(grid_columns(maps));
  return (kSide + kTop - columns * kGridTitle - (columns - 1) * kGridGap) / columns;
}

void draw_map(Svg& svg, const SquareMap& map, const ColourScale& scale, double x, double y,
              double side) {
  const auto colours = sequential_colours();
  const SquareMap small = pooled(map, pooling(map.size, side));
  std::vector<uint8_t> indices;
  for (const float v : small.values) {
    const double position = std::isfinite(v) ? scale.position(v) : 0;
    indices.push_back(
        static_cast<uint8_t>(std::lround(position * static_cast<double>(colours.size() - 1))));
  }
  const auto n = static_cast<uint32_t>(small.size);
  // Small cells with sharp edges would differ in size, and make patterns of their own.
  svg.image(x, y, side, side, encode_png(n, n, indices, colours), side >= 2 * n);
  svg.rect(x, y, side, side, "frame");
}

// Where residue i (from 1) of n lies on a side.
double residue(double i, size_t n, double side) {
  return side * (i - 0.5) / static_cast<double>(n);
}

void draw_axes(Svg& svg, size_t n, const MapAxes& axes) {
  for (const double tick : nice_ticks(1, static_cast<double>(n), 6)) {
    if (tick != std::floor(tick)) continue;  // between two residues, of a handful
    const double at = residue(tick, n, kSide);
    svg.line(kLeft + at, kTop + kSide, kLeft + at, kTop + kSide + 4, "axis");
    svg.text(kLeft + at, kTop + kSide + 16, tick_label(tick), "tick", "middle");
    svg.line(kLeft - 4, kTop + at, kLeft, kTop + at, "axis");
    svg.text(kLeft - 7, kTop + at + 3.5, tick_label(tick), "tick", "end");
  }
  svg.text(kLeft + kSide / 2, kTop + kSide + 34, axes.columns, "label", "middle");
  svg.text(14, kTop + kSide / 2, axes.rows, "label", "middle", -90);
}

void draw_bar(Svg& svg, const ColourScale& scale) {
  const auto colours = sequential_colours();
  const double x = kLeft + kSide + kBarGap;
  std::vector<uint8_t> indices(colours.size());
  for (size_t i = 0; i < indices.size(); ++i) {
    indices[i] = static_cast<uint8_t>(indices.size() - 1 - i);  // large above
  }
  svg.image(x, kTop, kBar, kSide,
            encode_png(1, static_cast<uint32_t>(indices.size()), indices, colours), false);
  svg.rect(x, kTop, kBar, kSide, "frame");
  for (const double tick : scale.ticks()) {
    const double y = kTop + kSide * (1 - scale.position(tick));
    svg.line(x + kBar, y, x + kBar + 4, y, "axis");
    svg.text(x + kBar + 7, y + 3.5, tick_label(tick), "tick");
  }
  svg.text(x + kBar, kTop - 8, scale.title, "tick", "end");
}

}  // namespace

SquareMap pooled(const SquareMap& map, size_t factor) {
  if (factor <= 1) return map;
  SquareMap out{(map.size + factor - 1) / factor};
  out.values.assign(out.size * out.size, -std::numeric_limits<float>::infinity());
  for (size_t i = 0; i < map.size; ++i) {
    for (size_t j = 0; j < map.size; ++j) {
      float& largest = out.values[i / factor * out.size + j / factor];
      largest = std::max(largest, map.at(i, j));
    }
  }
  return out;
}

size_t heat_map_pooling(size_t size) { return pooling(size, kSide); }
size_t heat_map_grid_pooling(size_t size, size_t maps) { return pooling(size, grid_side(maps)); }

std::string heat_map_svg(const SquareMap& map, const ColourScale& scale, const MapAxes& axes,
                         std::string_view title) {
  Svg svg(kLeft + kSide + kRight, kTop + kSide + kBottom, title);
  svg.text(kLeft, kTop - 8, title, "name");
  draw_map(svg, map, scale, kLeft, kTop, kSide);
  draw_axes(svg, map.size, axes);
  draw_bar(svg, scale);
  return svg.str();
}

std::string heat_map_grid_svg(const std::vector<SquareMap>& maps, const ColourScale& scale,
                              std::string_view name, std::string_view label) {
  const size_t columns = grid_columns(maps.size());
  const double side = grid_side(maps.size());
  const double width = static_cast<double>(columns) * (side + kGridGap) - kGridGap;
  Svg svg(width, kTop + kSide + kBottom, label);
  for (size_t i = 0; i < maps.size(); ++i) {
    const double x = static_cast<double>(i % columns) * (side + kGridGap);
    const double y = static_cast<double>(i / columns) * (side + kGridTitle + kGridGap);
    svg.text(x + side / 2, y + kGridTitle - 5, cat(name, ' ', i + 1), "tick", "middle");
    draw_map(svg, maps[i], scale, x, y + kGridTitle, side);
  }
  return svg.str();
}

}  // namespace ribo
