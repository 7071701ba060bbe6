#include "pair.h"

#include <ATen/ATen.h>

namespace ribo::pair {

at::Tensor lengths(const Streams& streams) {
  const at::Tensor& mask = streams.mask();
  if (mask.is_cpu() && mask.all().item<bool>()) return {};
  return mask.sum(1);
}

at::Tensor zero_pairs(const at::Tensor& x, const at::Tensor& lengths) {
  if (!lengths.defined()) return x;
  const at::Tensor outside =
      at::arange(x.size(1), lengths.options()).unsqueeze(0).ge(lengths.unsqueeze(1));
  at::Tensor pairs = outside.unsqueeze(1).logical_or(outside.unsqueeze(2));
  while (pairs.dim() < x.dim()) pairs = pairs.unsqueeze(-1);
  return x.masked_fill(pairs, 0);
}

at::Tensor kept(const at::Tensor& pair, double p, bool training, std::string_view wise) {
  if (!training || p == 0) return {};
  std::vector<int64_t> sizes = pair.sizes().vec();
  sizes[wise == "row" ? 1 : 2] = 1;
  return at::dropout(at::ones(sizes, pair.options()), p, true);
}

at::Tensor add_dropped(const at::Tensor& pair, const at::Tensor& update, double p, bool training,
                       std::string_view wise) {
  const at::Tensor keep = kept(update, p, training, wise);
  // In one pass over the pairs, where a product and a sum would be two.
  return keep.defined() ? at::addcmul(pair, update, keep) : pair + update;
}

}  // namespace ribo::pair
