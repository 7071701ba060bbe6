#include "attention/attention.h"

#include <cmath>

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

// Logits and the sum over values, a product each; q, k, v, bias read, the output written.
Work forward_work(double rows, double length, double heads, double width) {
  const double e = rows * length * heads * width, weights = rows * heads * length * length;
  return {.bytes = 4 * (4 * e + heads * length * length),
          .exps = weights,
          .products = 2 * weights * width};
}

// The logits again, and two products for each of forward's.
Work backward_work(double rows, double length, double heads, double width) {
  const double e = rows * length * heads * width, weights = rows * heads * length * length;
  return {.bytes = 4 * (8 * e + 2 * heads * length * length),
          .exps = weights,
          .products = 5 * weights * width};
}

Problem pair_bias(int64_t length, int64_t heads, int64_t width, bool torch) {
  const at::Tensor q = leaf({1, heads, length, width}), k = leaf({1, heads, length, width}),
                   v = leaf({1, heads, length, width}), bias = leaf({1, heads, length, length});
  return {{q, k, v, bias}, [=] {
            return torch ? at::scaled_dot_product_attention(q, k, v, bias)
                         : pair_bias_attention(q, k, v, bias, {});
          }};
}

// As RibonanzaNet writes it: all weights at once.
at::Tensor all_weights(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const at::Tensor& bias) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  const at::Tensor logits = at::einsum("brihd,brjhd->brijh", {q, k}) * scale + bias.unsqueeze(1);
  return at::einsum("brijh,brjhd->brihd", {at::softmax(logits, 3), v});
}

Problem triangle(int64_t length, int64_t heads, int64_t width, bool original) {
  const auto tensor = [=] { return leaf({1, length, length, heads, width}); };
  const at::Tensor q = tensor(), k = tensor(), v = tensor(),
                   bias = leaf({1, length, length, heads});
  return {{q, k, v, bias}, [=] {
            return original ? all_weights(q, k, v, bias)
                            : triangle_attention(q, k, v, bias, {}, /*columns=*/false);
          }};
}

}  // namespace

void add_attention() {
  constexpr int64_t kLength = 177;
  constexpr int64_t kHeads = 8, kWidth = 32;                  // of RibonanzaNet's base model
  constexpr int64_t kTriangleHeads = 4, kTriangleWidth = 16;  // of its pair representation
  add_passes("pair_bias_attention/ribo/L=177", forward_work(1, kLength, kHeads, kWidth),
             backward_work(1, kLength, kHeads, kWidth),
             [] { return pair_bias(kLength, kHeads, kWidth, false); });
  add_passes("pair_bias_attention/torch/L=177", {}, {},
             [] { return pair_bias(kLength, kHeads, kWidth, true); });
  add_passes("triangle_attention/ribo/L=177",
             forward_work(kLength, kLength, kTriangleHeads, kTriangleWidth),
             backward_work(kLength, kLength, kTriangleHeads, kTriangleWidth),
             [] { return triangle(kLength, kTriangleHeads, kTriangleWidth, false); });
  add_passes("triangle_attention/original/L=177", {}, {},
             [] { return triangle(kLength, kTriangleHeads, kTriangleWidth, true); });
}

}  // namespace ribo::kernels::bench
