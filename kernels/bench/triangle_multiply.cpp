#include "triangle_multiply/triangle_multiply.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kPair = 64, kHidden = 64;  // RibonanzaNet's

// Six linear maps of every pair and the product over the third position; three gates. The normed
// input is read by the maps, its projections are written and read. Backward: two products for each
// of forward's; the five maps of the input and the gates again.
Least least(const Setting& s) {
  const auto length = static_cast<double>(s.length), size = s.element_bytes(),
             pairs = static_cast<double>(s.batch) * length * length;
  const double products = pairs * kHidden * (6 * kPair + length);
  return {.forward = {.bytes = size * pairs * (3 * kPair + 4 * kHidden),
                      .exps = 3 * pairs * kHidden,
                      .products = products},
          .backward = {.bytes = size * pairs * (4 * kPair + 13 * kHidden),
                       .exps = 3 * pairs * kHidden,
                       .products = 2 * products + 5 * pairs * kHidden * kPair}};
}

struct Inputs {
  explicit Inputs(const Setting& s) : x(s.leaf({s.batch, s.length, s.length, kPair})) {
    const auto map = [&](int64_t out, int64_t in) { return s.leaf({out, in}, 0.1); };
    const auto vector = [&](int64_t size) { return s.leaf({size}); };
    w = {vector(kPair),       vector(kPair),   map(kHidden, kPair), vector(kHidden),
         map(kHidden, kPair), vector(kHidden), map(kHidden, kPair), vector(kHidden),
         map(kHidden, kPair), vector(kHidden), map(kHidden, kPair), vector(kHidden),
         vector(kHidden),     vector(kHidden), map(kPair, kHidden), vector(kPair)};
  }
  std::vector<at::Tensor> all() const {
    return {x,
            w.norm_weight,
            w.norm_bias,
            w.left_weight,
            w.left_bias,
            w.left_gate_weight,
            w.left_gate_bias,
            w.right_weight,
            w.right_bias,
            w.right_gate_weight,
            w.right_gate_bias,
            w.out_gate_weight,
            w.out_gate_bias,
            w.out_norm_weight,
            w.out_norm_bias,
            w.out_weight,
            w.out_bias};
  }
  at::Tensor x;
  TriangleWeights w;
};

Problem ours(const Setting& setting, bool outgoing) {
  const Inputs in(setting);
  return {in.all(), [=] { return triangle_multiply(in.x, in.w, {}, outgoing); }};
}

// As RibonanzaNet writes it.
at::Tensor one_by_one(const Inputs& in, bool outgoing) {
  const TriangleWeights& w = in.w;
  const at::Tensor u = at::layer_norm(in.x, {kPair}, w.norm_weight, w.norm_bias);
  const auto gated = [&u](const at::Tensor& weight, const at::Tensor& bias,
                          const at::Tensor& gate_weight, const at::Tensor& gate_bias) {
    return at::linear(u, weight, bias) * at::linear(u, gate_weight, gate_bias).sigmoid();
  };
  const at::Tensor left = gated(w.left_weight, w.left_bias, w.left_gate_weight, w.left_gate_bias);
  const at::Tensor right =
      gated(w.right_weight, w.right_bias, w.right_gate_weight, w.right_gate_bias);
  const at::Tensor z = at::einsum(outgoing ? "bikd,bjkd->bijd" : "bkjd,bkid->bijd", {left, right});
  const at::Tensor normed = at::layer_norm(z, {kHidden}, w.out_norm_weight, w.out_norm_bias);
  return at::linear(normed * at::linear(u, w.out_gate_weight, w.out_gate_bias).sigmoid(),
                    w.out_weight, w.out_bias);
}

Problem original(const Setting& setting, bool outgoing) {
  const Inputs in(setting);
  return {in.all(), [=] { return one_by_one(in, outgoing); }};
}

}  // namespace

void add_triangle_multiply() {
  for (Setting s : pair_settings()) {
    const std::string size = s.shape;
    for (const bool outgoing : {true, false}) {
      s.shape = size + (outgoing ? "/outgoing" : "/ingoing");
      add_passes("triangle_multiply/ribo", s, least(s), [=] { return ours(s, outgoing); });
      add_passes("triangle_multiply/original", s, {}, [=] { return original(s, outgoing); });
    }
  }
}

}  // namespace ribo::kernels::bench
