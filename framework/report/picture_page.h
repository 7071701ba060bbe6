// A page of pictures: what a model predicts of a few sequences, and what it looks at.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/heat_map.h"
#include "report/profile_plot.h"

namespace ribo {

/// One sequence of L residues. Maps are [L, L]; they are of the 5'->3' direction.
struct Picture {
  std::string id;
  std::string letters;
  std::vector<ProfilePanel> profile;
  std::optional<SquareMap> pairing;        // probabilities of base pairs
  std::optional<SquareMap> pair_strength;  // norms over the channels of the pair track, >= 0
  std::vector<SquareMap> attention;        // of each head: rows attend to columns and sum to 1
};

struct PicturePage {
  std::string title;
  std::vector<std::string> facts;  // where it all comes from, a line each
  int64_t pair_width = 0;          // channels of the pair track
  int64_t layer = 0, layers = 0;   // whose attention is shown, from 1, and how many there are
  std::vector<Picture> pictures;
};

/// One HTML file that needs nothing else: no scripts, fonts or network.
RIBO_API std::string picture_html(const PicturePage& page);

}  // namespace ribo
