// The profile of a sequence as a drawing: what was predicted over what was measured.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ribo/error.h"

namespace ribo {

/// One target along a sequence of L residues. NaN = no value there.
struct ProfilePanel {
  std::string target;
  std::vector<float> predicted;      // [L]
  std::vector<float> measured = {};  // [L], or empty
  std::vector<float> error = {};     // [L], of `measured`, or empty
};

/// The mean of |predicted - measured| over the positions that have both, and their number.
struct ProfileError {
  double mae = 0;
  size_t positions = 0;
};
ProfileError profile_error(const ProfilePanel& panel);

/// A panel for each target, one below the other, with the bases along the axis; long sequences
/// wrap into rows of at most 120 residues. Measured values are bars, the predicted ones a line;
/// both have gaps where there is no value.
std::string profile_svg(std::string_view letters, const std::vector<ProfilePanel>& panels,
                        std::string_view label);

}  // namespace ribo
