#include "layer_norm/layer_norm.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kPair = 64;  // RibonanzaNet's

// The pair track read and written; backward: it and the gradient read, its own gradient written.
Least least(const Setting& s) {
  const auto pairs = static_cast<double>(s.batch * s.length * s.length);
  const double track = s.element_bytes() * pairs * kPair;
  return {.forward = {.bytes = 2 * track}, .backward = {.bytes = 3 * track}};
}

struct Inputs {
  explicit Inputs(const Setting& s)
      : x(s.leaf({s.batch, s.length, s.length, kPair})),
        weight(s.leaf({kPair})),
        bias(s.leaf({kPair})) {}
  std::vector<at::Tensor> all() const { return {x, weight, bias}; }
  at::Tensor x, weight, bias;
};

Problem ours(const Setting& setting) {
  const Inputs in(setting);
  return {in.all(), [in] { return layer_norm(in.x, in.weight, in.bias); }};
}

Problem torch_layer_norm(const Setting& setting) {
  const Inputs in(setting);
  return {in.all(), [in] { return at::layer_norm(in.x, {kPair}, in.weight, in.bias); }};
}

}  // namespace

void add_layer_norm() {
  for (const Setting& s : pair_settings()) {
    if (!s.on_gpu()) continue;  // elsewhere they are the same
    add_passes("layer_norm/ribo", s, least(s), [s] { return ours(s); });
    add_passes("layer_norm/torch", s, {}, [s] { return torch_layer_norm(s); });
  }
}

}  // namespace ribo::kernels::bench
