#include "pair_transition/pair_transition.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kPair = 64, kHidden = 4 * kPair;  // RibonanzaNet's

// Backward: two products for each of forward's, and the hidden layer again.
Least least(const Setting& s) {
  const auto pairs = static_cast<double>(s.batch * s.length * s.length), size = s.element_bytes();
  return {.forward = {.bytes = size * pairs * 2 * kPair, .products = 2 * pairs * kPair * kHidden},
          .backward = {.bytes = size * pairs * 3 * kPair, .products = 5 * pairs * kPair * kHidden}};
}

struct Inputs {
  explicit Inputs(const Setting& s)
      : x(s.leaf({s.batch, s.length, s.length, kPair})),
        norm_weight(s.leaf({kPair})),
        norm_bias(s.leaf({kPair})),
        w1(s.leaf({kHidden, kPair}, 0.1)),
        b1(s.leaf({kHidden})),
        w2(s.leaf({kPair, kHidden}, 0.1)),
        b2(s.leaf({kPair})) {}
  std::vector<at::Tensor> all() const { return {x, norm_weight, norm_bias, w1, b1, w2, b2}; }
  at::Tensor x, norm_weight, norm_bias, w1, b1, w2, b2;
};

Problem ours(const Setting& setting) {
  const Inputs in(setting);
  return {in.all(), [in] {
            return pair_transition(in.x, in.norm_weight, in.norm_bias, in.w1, in.b1, in.w2, in.b2,
                                   {});
          }};
}

// As RibonanzaNet writes it.
Problem original(const Setting& setting) {
  const Inputs in(setting);
  return {in.all(), [in] {
            const at::Tensor u = at::layer_norm(in.x, {kPair}, in.norm_weight, in.norm_bias);
            return in.x + at::linear(at::linear(u, in.w1, in.b1).relu(), in.w2, in.b2);
          }};
}

}  // namespace

void add_pair_transition() {
  for (const Setting& s : pair_settings()) {
    add_passes("pair_transition/ribo", s, least(s), [s] { return ours(s); });
    add_passes("pair_transition/original", s, {}, [s] { return original(s); });
  }
}

}  // namespace ribo::kernels::bench
