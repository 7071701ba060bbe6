#include "outer_product_mean/outer_product_mean.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kInner = 32, kPair = 64;  // RibonanzaNet's

// The residual read, the output written; the weight with one factor, that with the other.
Work forward_work(double length) {
  const double pairs = length * length;
  return {.bytes = 4 * 2 * pairs * kPair, .products = (pairs + length * kInner) * kInner * kPair};
}

// The output's gradient, which is the residual's too; two products for each of forward's.
Work backward_work(double length) {
  return {.bytes = 4 * length * length * kPair, .products = 2 * forward_work(length).products};
}

struct Inputs {
  explicit Inputs(int64_t length)
      : a(leaf({1, length, kInner})),
        b(leaf({1, length, kInner})),
        weight(leaf({kPair, kInner * kInner}, 0.03)),
        bias(leaf({kPair})),
        residual(leaf({1, length, length, kPair})) {}
  std::vector<at::Tensor> all() const { return {a, b, weight, bias, residual}; }
  at::Tensor a, b, weight, bias, residual;
};

Problem ours(int64_t length) {
  const Inputs in(length);
  return {in.all(),
          [in] { return outer_product_mean(in.a, in.b, in.weight, in.bias, in.residual, {}); }};
}

// As RibonanzaNet writes it: every outer product, then the projection.
Problem original(int64_t length) {
  const Inputs in(length);
  return {in.all(), [in] {
            const at::Tensor outer = at::einsum("bjc,bid->bijcd", {in.b, in.a}).flatten(3);
            return at::linear(outer, in.weight, in.bias) + in.residual;
          }};
}

}  // namespace

void add_outer_product_mean() {
  constexpr int64_t kLength = 177;
  add_passes("outer_product_mean/ribo/L=177", forward_work(kLength), backward_work(kLength),
             [] { return ours(kLength); });
  add_passes("outer_product_mean/original/L=177", {}, {}, [] { return original(kLength); });
}

}  // namespace ribo::kernels::bench
