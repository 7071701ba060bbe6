#include "ribo/streams.h"

#include <ATen/ATen.h>

namespace ribo {

const at::Tensor& Streams::get(std::string_view name) const {
  auto it = tensors_.find(name);
  if (it != tensors_.end()) return it->second;
  std::string have;
  for (const auto& [key, tensor] : tensors_) have += (have.empty() ? "" : ", ") + key;
  throw Error(cat("no stream \"", name, "\" here; there are: ", have.empty() ? "none" : have));
}

void Streams::erase(std::string_view name) {
  auto it = tensors_.find(name);
  if (it != tensors_.end()) tensors_.erase(it);
}

at::Tensor zero_padding(const at::Tensor& x, const at::Tensor& mask) {
  at::Tensor outside = mask.logical_not();
  while (outside.dim() < x.dim()) outside = outside.unsqueeze(-1);
  return x.masked_fill(outside, 0);
}

}  // namespace ribo
