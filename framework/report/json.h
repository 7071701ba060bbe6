// Numbers of a report in JSON, which knows neither NaN nor infinity.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "report/scores.h"

namespace ribo {

inline nlohmann::ordered_json json_number(double x) {
  return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json();
}

inline nlohmann::ordered_json json_numbers(const std::vector<double>& values) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const double x : values) list.push_back(json_number(x));
  return list;
}

/// [low, high], or null.
inline nlohmann::ordered_json json_of(const std::optional<Bounds>& bounds) {
  if (!bounds) return {};
  return json_numbers({bounds->low, bounds->high});
}

/// What a report says of a sequence in front of its values.
inline nlohmann::ordered_json json_of(const ScoredSequence& s) {
  nlohmann::ordered_json line = {{"id", s.id}, {"length", s.length}};
  if (!s.signal_to_noise.empty()) line["signal_to_noise"] = json_numbers(s.signal_to_noise);
  return line;
}

/// Ids and paths that are no UTF-8 lose what cannot be said.
inline std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace ribo
