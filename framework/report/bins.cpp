#include "report/bins.h"

#include <algorithm>
#include <cmath>

#include "config/text.h"

namespace ribo {
namespace {

// values[i] belongs to bin k when edges[k-1] <= values[i] < edges[k]; NaN to the one behind them
// all.
std::vector<Bin> bins_between(const std::vector<double>& edges, const std::vector<double>& values) {
  std::vector<Bin> bins(edges.size() + 2);
  for (size_t k = 0; k <= edges.size(); ++k) {
    if (k > 0) bins[k].lower = edges[k - 1];
    if (k < edges.size()) bins[k].upper = edges[k];
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const auto above = std::upper_bound(edges.begin(), edges.end(), values[i]);
    const auto k =
        std::isnan(values[i]) ? edges.size() + 1 : static_cast<size_t>(above - edges.begin());
    bins[k].members.push_back(i);
  }
  bins.back().label = "unknown";
  std::erase_if(bins, [](const Bin& bin) { return bin.members.empty(); });
  return bins;
}

}  // namespace

std::vector<Bin> bins_by_length(const std::vector<int64_t>& lengths) {
  std::vector<double> edges = {33, 65, 97};
  for (double power = 128; power <= 1 << 20; power *= 2) {
    edges.push_back(power + 1);
    edges.push_back(power * 1.5 + 1);
  }
  std::vector<Bin> bins = bins_between(edges, {lengths.begin(), lengths.end()});
  for (Bin& bin : bins) {
    bin.label = cat(format_number(bin.lower.value_or(1)), "..",
                    bin.upper ? format_number(*bin.upper - 1) : "");
  }
  return bins;
}

std::vector<Bin> bins_by_signal_to_noise(const std::vector<double>& values) {
  std::vector<Bin> bins = bins_between({0.5, 1, 2, 4, 8, 16}, values);
  for (Bin& bin : bins) {
    if (!bin.label.empty()) continue;
    bin.label = !bin.lower   ? cat("< ", format_number(*bin.upper))
                : !bin.upper ? cat(">= ", format_number(*bin.lower))
                             : cat(format_number(*bin.lower), "..", format_number(*bin.upper));
  }
  return bins;
}

}  // namespace ribo
