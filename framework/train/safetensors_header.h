// The header of a safetensors file, free of torch: what is in the file, and where.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/error.h"

namespace ribo {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // as the format spells it: "F32", "BOOL", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes of the data that follows the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of the data
  std::map<std::string, std::string> metadata;
};

constexpr uint64_t max_safetensors_header = uint64_t{16} << 20;

/// Bytes of one element, or 0 for a dtype that we don't know.
uint64_t safetensors_element_size(std::string_view dtype);

/// Checks and parses a header's JSON against the number of bytes that follow it. Throws an Error
/// without the file's name.
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes);

/// The header's JSON, padded with spaces so that the data starts at a multiple of 8. Throws an
/// Error without the file's name.
std::string safetensors_header_json(const SafetensorsHeader& header);

}  // namespace ribo
