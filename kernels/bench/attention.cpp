#include "attention/attention.h"

#include <cmath>

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kHeads = 8, kWidth = 32;                  // of RibonanzaNet's base model
constexpr int64_t kTriangleHeads = 4, kTriangleWidth = 16;  // of its pair representation

// Logits and the sum over values, a product each; q, k, v, bias read, the output written. Backward:
// the logits again, and two products for each of forward's. `rows` of a sequence share a bias.
Least least(const Setting& s, double rows, double heads, double width) {
  const auto length = static_cast<double>(s.length), size = s.element_bytes();
  const double e = rows * length * heads * width, weights = rows * heads * length * length;
  const double biases = heads * length * length;
  const auto batch = static_cast<double>(s.batch);
  return {.forward = batch * Work{.bytes = size * (4 * e + biases),
                                  .exps = weights,
                                  .products = 2 * weights * width},
          .backward = batch * Work{.bytes = size * (8 * e + 2 * biases),
                                   .exps = weights,
                                   .products = 5 * weights * width}};
}

Problem pair_bias(const Setting& s, bool torch) {
  const auto tensor = [&] { return s.leaf({s.batch, kHeads, s.length, kWidth}); };
  const at::Tensor q = tensor(), k = tensor(), v = tensor(),
                   bias = s.leaf({s.batch, kHeads, s.length, s.length});
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

Problem triangle(const Setting& s, bool original) {
  const auto tensor = [&] {
    return s.leaf({s.batch, s.length, s.length, kTriangleHeads, kTriangleWidth});
  };
  const at::Tensor q = tensor(), k = tensor(), v = tensor(),
                   bias = s.leaf({s.batch, s.length, s.length, kTriangleHeads});
  return {{q, k, v, bias}, [=] {
            return original ? all_weights(q, k, v, bias)
                            : triangle_attention(q, k, v, bias, {}, /*columns=*/false);
          }};
}

}  // namespace

void add_attention() {
  for (const Setting& s : pair_settings()) {
    add_passes("pair_bias_attention/ribo", s, least(s, 1, kHeads, kWidth),
               [s] { return pair_bias(s, false); });
    add_passes("pair_bias_attention/torch", s, {}, [s] { return pair_bias(s, true); });
    const auto rows = static_cast<double>(s.length);
    add_passes("triangle_attention/ribo", s, least(s, rows, kTriangleHeads, kTriangleWidth),
               [s] { return triangle(s, false); });
    add_passes("triangle_attention/original", s, {}, [s] { return triangle(s, true); });
  }
}

}  // namespace ribo::kernels::bench
