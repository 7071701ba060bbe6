#include "predict/batches.h"

#include <algorithm>
#include <numeric>

namespace ribo {

std::vector<std::vector<size_t>> plan_batches(const std::vector<size_t>& lengths,
                                              const BatchLimits& limits) {
  std::vector<size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
  std::vector<std::vector<size_t>> batches;
  for (size_t i = 0; i < order.size();) {
    const size_t longest = std::max<size_t>(lengths[order[i]], 1);
    size_t count = std::min(limits.sequences, limits.residues / longest);
    if (limits.pairs > 0) count = std::min(count, limits.pairs / (longest * longest));
    count = std::min(std::max<size_t>(count, 1), order.size() - i);
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(i);
    batches.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(count));
    i += count;
  }
  return batches;
}

}  // namespace ribo
