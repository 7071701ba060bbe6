#include "pair.h"

#include <ATen/ATen.h>

namespace ribo::pair {

Shape added_to(Shapes& shapes) {
  if (shapes.has("pair")) return shapes.need("pair", 4);
  return {dim::batch, dim::length, dim::length, shapes.declared("pair")};
}

int64_t width_of(const Shapes& in) {
  return in.has("pair") ? in.width("pair") : in.declared("pair");
}

void add(Streams& streams, const at::Tensor& update) {
  const at::Tensor pair = streams.has("pair") ? streams.get("pair") + update : update;
  streams.set("pair", zero_pairs(pair, streams.mask()));
}

at::Tensor zero_pairs(const at::Tensor& x, const at::Tensor& mask) {
  if (mask.is_cpu() && mask.all().item<bool>()) return x;
  at::Tensor outside = mask.unsqueeze(1).logical_and(mask.unsqueeze(2)).logical_not();
  while (outside.dim() < x.dim()) outside = outside.unsqueeze(-1);
  return x.masked_fill(outside, 0);
}

at::Tensor drop_shared(const at::Tensor& update, double p, bool training, std::string_view wise) {
  if (!training || p == 0) return update;
  std::vector<int64_t> sizes = update.sizes().vec();
  sizes[wise == "row" ? 1 : 2] = 1;
  return update * at::dropout(at::ones(sizes, update.options()), p, true);
}

}  // namespace ribo::pair
