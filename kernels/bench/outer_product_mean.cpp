#include "outer_product_mean/outer_product_mean.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kInner = 32, kPair = 64;  // RibonanzaNet's

// The residual read, the output written; the weight with one factor, that with the other. Backward:
// the output's gradient, which is the residual's too; two products for each of forward's.
Least least(const Setting& s) {
  const auto positions = static_cast<double>(s.batch * s.length),
             pairs = positions * static_cast<double>(s.length), size = s.element_bytes();
  const double products = (pairs + positions * kInner) * kInner * kPair;
  return {.forward = {.bytes = size * 2 * pairs * kPair, .products = products},
          .backward = {.bytes = size * pairs * kPair, .products = 2 * products}};
}

struct Inputs {
  explicit Inputs(const Setting& s)
      : a(s.leaf({s.batch, s.length, kInner})),
        b(s.leaf({s.batch, s.length, kInner})),
        weight(s.leaf({kPair, kInner * kInner}, 0.03)),
        bias(s.leaf({kPair})),
        residual(s.leaf({s.batch, s.length, s.length, kPair})) {}
  std::vector<at::Tensor> all() const { return {a, b, weight, bias, residual}; }
  at::Tensor a, b, weight, bias, residual;
};

Problem ours(const Setting& setting) {
  const Inputs in(setting);
  return {in.all(),
          [in] { return outer_product_mean(in.a, in.b, in.weight, in.bias, in.residual, {}); }};
}

// As RibonanzaNet writes it: every outer product, then the projection.
Problem original(const Setting& setting) {
  const Inputs in(setting);
  return {in.all(), [in] {
            const at::Tensor outer = at::einsum("bjc,bid->bijcd", {in.b, in.a}).flatten(3);
            return at::linear(outer, in.weight, in.bias) + in.residual;
          }};
}

}  // namespace

void add_outer_product_mean() {
  for (const Setting& s : pair_settings()) {
    add_passes("outer_product_mean/ribo", s, least(s), [s] { return ours(s); });
    add_passes("outer_product_mean/original", s, {}, [s] { return original(s); });
  }
}

}  // namespace ribo::kernels::bench
