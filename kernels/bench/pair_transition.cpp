#include "pair_transition/pair_transition.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kPair = 64, kHidden = 4 * kPair;  // RibonanzaNet's

Work forward_work(double pairs) {
  return {.bytes = 4 * pairs * 2 * kPair, .products = 2 * pairs * kPair * kHidden};
}

// Two products for each of forward's, and the hidden layer again.
Work backward_work(double pairs) {
  return {.bytes = 4 * pairs * 3 * kPair, .products = 5 * pairs * kPair * kHidden};
}

struct Inputs {
  explicit Inputs(int64_t length)
      : x(leaf({1, length, length, kPair})),
        norm_weight(leaf({kPair})),
        norm_bias(leaf({kPair})),
        w1(leaf({kHidden, kPair}, 0.1)),
        b1(leaf({kHidden})),
        w2(leaf({kPair, kHidden}, 0.1)),
        b2(leaf({kPair})) {}
  std::vector<at::Tensor> all() const { return {x, norm_weight, norm_bias, w1, b1, w2, b2}; }
  at::Tensor x, norm_weight, norm_bias, w1, b1, w2, b2;
};

Problem ours(int64_t length) {
  const Inputs in(length);
  return {in.all(), [in] {
            return pair_transition(in.x, in.norm_weight, in.norm_bias, in.w1, in.b1, in.w2, in.b2,
                                   {});
          }};
}

// As RibonanzaNet writes it.
Problem original(int64_t length) {
  const Inputs in(length);
  return {in.all(), [in] {
            const at::Tensor u = at::layer_norm(in.x, {kPair}, in.norm_weight, in.norm_bias);
            return in.x + at::linear(at::linear(u, in.w1, in.b1).relu(), in.w2, in.b2);
          }};
}

}  // namespace

void add_pair_transition() {
  constexpr int64_t kLength = 177;
  add_passes("pair_transition/ribo/L=177", forward_work(kLength * kLength),
             backward_work(kLength * kLength), [] { return ours(kLength); });
  add_passes("pair_transition/original/L=177", {}, {}, [] { return original(kLength); });
}

}  // namespace ribo::kernels::bench
