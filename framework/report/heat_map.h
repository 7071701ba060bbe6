// Matrices over pairs of residues as drawings.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/colour_scale.h"

namespace ribo {

/// [size, size], row by row.
struct SquareMap {
  size_t size = 0;
  std::vector<float> values = {};

  float at(size_t row, size_t column) const { return values[row * size + column]; }
};

/// The map with each block of `factor` x `factor` cells replaced by its largest value.
SquareMap pooled(const SquareMap& map, size_t factor);

/// What the axes of a map are called: rows run down from 1, columns to the right.
struct MapAxes {
  std::string rows, columns;
};

/// One map below its title, with its axes, and the bar of its colours at the right.
std::string heat_map_svg(const SquareMap& map, const ColourScale& scale, const MapAxes& axes,
                         std::string_view title);

/// Several maps of one size and one scale in a square grid, as high as heat_map_svg(), numbered
/// `name` 1, 2, ...; without a bar of colours.
std::string heat_map_grid_svg(const std::vector<SquareMap>& maps, const ColourScale& scale,
                              std::string_view name, std::string_view label);

/// How many residues share one pixel of these drawings in either direction: 1 but for very long
/// sequences.
size_t heat_map_pooling(size_t size);
size_t heat_map_grid_pooling(size_t size, size_t maps);

}  // namespace ribo
