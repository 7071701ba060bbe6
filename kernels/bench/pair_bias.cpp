#include "pair_bias/pair_bias.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kPair = 64, kHeads = 8;  // RibonanzaNet's

// The pair track read, a number a head written; backward: both read, the track's gradient written.
Least least(const Setting& s) {
  const auto pairs = static_cast<double>(s.batch * s.length * s.length), size = s.element_bytes();
  const double track = size * pairs * kPair, bias = size * pairs * kHeads;
  return {.forward = {.bytes = track + bias, .ops = pairs * kPair * kHeads},
          .backward = {.bytes = 2 * track + bias, .ops = 2 * pairs * kPair * kHeads}};
}

struct Inputs {
  explicit Inputs(const Setting& s)
      : pair(s.leaf({s.batch, s.length, s.length, kPair})),
        norm_weight(s.leaf({kPair})),
        weight(s.leaf({kHeads, kPair})) {}
  std::vector<at::Tensor> all() const { return {pair, norm_weight, weight}; }
  at::Tensor pair, norm_weight, weight;
};

Problem ours(const Setting& setting) {
  const Inputs in(setting);
  return {in.all(), [in] { return pair_bias(in.pair, in.norm_weight, {}, in.weight); }};
}

Problem original(const Setting& setting) {
  const Inputs in(setting);
  return {in.all(), [in] {
            const at::Tensor x = at::layer_norm(in.pair, {kPair}, in.norm_weight);
            return at::linear(x, in.weight).permute({0, 3, 1, 2});
          }};
}

}  // namespace

void add_pair_bias() {
  for (const Setting& s : pair_settings()) {
    add_passes("pair_bias/ribo", s, least(s), [s] { return ours(s); });
    add_passes("pair_bias/original", s, {}, [s] { return original(s); });
  }
}

}  // namespace ribo::kernels::bench
