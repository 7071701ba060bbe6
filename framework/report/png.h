// Small PNG files.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "ribo/error.h"

namespace ribo {

using Colour = std::array<uint8_t, 3>;  // sRGB

/// The bytes of a PNG file of width x height pixels, row by row from the upper left corner, each an
/// index into `palette` (1 to 256 colours). Source: PNG specification, third edition.
std::string encode_png(uint32_t width, uint32_t height, std::span<const uint8_t> indices,
                       std::span<const Colour> palette);

/// The file as a URI that a page can hold: `data:image/png;base64,...`.
std::string png_uri(std::string_view png);

}  // namespace ribo
