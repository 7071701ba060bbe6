// Kaggle's OpenVaccine (Stanford COVID Vaccine) files: JSON lines, one RNA a line.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/inputs.h"

namespace ribo {

/// The keys of the measured lists = the columns of target.reactivity.
inline constexpr std::array<std::string_view, 5> kOpenVaccineTargets = {
    "reactivity", "deg_Mg_pH10", "deg_pH10", "deg_Mg_50C", "deg_50C"};
/// The keys of their errors, in the same order.
inline constexpr std::array<std::string_view, 5> kOpenVaccineErrors = {
    "reactivity_error", "deg_error_Mg_pH10", "deg_error_pH10", "deg_error_Mg_50C", "deg_error_50C"};

struct OpenVaccineRow {
  std::string id;
  std::vector<uint8_t> tokens;
  std::vector<float> targets;  // [seq_scored, 5], the first positions; empty without labels
  std::vector<float> errors;   // of `targets`; NaN where the row has none
  float signal_to_noise;       // NaN where the row has none
  bool sn_filter = false;      // SN_filter = 1
};

/// All rows of the files, in their order. Keys: `id` or `seq_id`, `sequence`, `seq_length`,
/// `seq_scored`; with labels also the five lists, `signal_to_noise` and `SN_filter`, and perhaps
/// the lists of errors. Without `labels_required` a row may have none of the five lists. Throws
/// Error `file:line: what; remedy`.
std::vector<OpenVaccineRow> read_openvaccine(const Paths& files, bool labels_required);

}  // namespace ribo
