// A page of pictures: what a model predicts of a few sequences, and what it looks at.
#pragma once

#include <cstdint>
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
  int64_t pair_width = 0;                  // those channels
  std::vector<SquareMap> attention;        // of each head: rows attend to columns and sum to 1
  int64_t layer = 0, layers = 0;           // whose attention, from 1, and how many there are
};

/// One HTML file that needs nothing else: no scripts, fonts or network. Each picture is drawn when
/// it is added; its maps need not stay in memory.
class PicturePage {
 public:
  /// `facts` say where it all comes from, a line each.
  PicturePage(std::string title, std::vector<std::string> facts);
  void add(const Picture& picture);
  size_t size() const { return ids_.size(); }
  std::string html() const;

 private:
  const std::string title_;
  const std::vector<std::string> facts_;
  std::vector<std::string> ids_;
  std::string absent_, sections_;  // HTML
};

}  // namespace ribo
