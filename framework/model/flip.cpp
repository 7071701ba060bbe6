#include "model/flip.h"

#include <ATen/ATen.h>

namespace ribo {
namespace {

std::vector<int64_t> length_dims(const Shape& shape) {
  std::vector<int64_t> out;
  for (size_t d = 1; d < shape.size(); ++d) {
    if (shape[d] == dim::length) out.push_back(static_cast<int64_t>(d));
  }
  return out;
}

// `dims` of x [B, ...] reversed within the first `lengths` entries.
at::Tensor reverse(const at::Tensor& x, const std::vector<int64_t>& dims,
                   const std::vector<int64_t>& lengths) {
  at::Tensor out = x.clone();
  std::vector<int64_t> within = dims;
  for (int64_t& d : within) --d;
  for (size_t b = 0; b < lengths.size(); ++b) {
    at::Tensor from = x[static_cast<int64_t>(b)], to = out[static_cast<int64_t>(b)];
    for (const int64_t d : within) {
      from = from.narrow(d, 0, lengths[b]);
      to = to.narrow(d, 0, lengths[b]);
    }
    to.copy_(from.flip(within));
  }
  return out;
}

std::vector<int64_t> lengths_of(const at::Tensor& mask) {
  const at::Tensor lengths = mask.sum(1).cpu();
  return {lengths.const_data_ptr<int64_t>(), lengths.const_data_ptr<int64_t>() + lengths.numel()};
}

}  // namespace

Streams reverse_streams(const Streams& streams, const Shapes& shapes) {
  const std::vector<int64_t> lengths = lengths_of(streams.mask());
  Streams out;
  for (const auto& [name, tensor] : streams) {
    const auto it = shapes.streams().find(name);
    const auto dims =
        it == shapes.streams().end() ? std::vector<int64_t>() : length_dims(it->second.shape);
    out.set(name, dims.empty() ? tensor : reverse(tensor, dims, lengths));
  }
  const at::Tensor& mask = streams.mask();
  out.set("reversed", streams.has("reversed")
                          ? streams.get("reversed").logical_not()
                          : at::ones({mask.size(0)}, mask.options().dtype(at::kBool)));
  return out;
}

void forward_both_ways(Model& model, Streams& streams) {
  Streams back = reverse_streams(streams, model.shapes());
  model.forward(streams);
  model.forward(back);
  const std::vector<int64_t> lengths = lengths_of(streams.mask());
  for (const auto& [name, stream] : model.shapes().streams()) {
    if (!name.starts_with("pred.")) continue;
    const at::Tensor there = reverse(back.get(name), length_dims(stream.shape), lengths);
    streams.set(name, (streams.get(name) + there) / 2);
  }
}

}  // namespace ribo
