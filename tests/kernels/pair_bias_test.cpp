#include "pair_bias/pair_bias.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/gradients.h"
#include "train/precision.h"

namespace ribo::kernels {
namespace {

using Inputs = std::vector<at::Tensor>;  // pair, norm_weight, norm_bias, weight

at::Tensor kernel(const Inputs& x) { return pair_bias(x[0], x[1], x[2], x[3]); }

Inputs random_inputs(at::ScalarType type = at::kDouble) {
  at::manual_seed(1);
  const at::TensorOptions real(type);
  return {at::randn({2, 3, 3, 6}, real) + 0.5, at::randn({6}, real), at::randn({6}, real),
          at::randn({4, 6}, real)};
}

// The norm and the map by their formulas.
at::Tensor definition(const Inputs& x) {
  const at::Tensor centred = x[0] - x[0].mean(-1, true);
  const at::Tensor normed = centred / (centred.square().mean(-1, true) + 1e-5).sqrt() * x[1];
  return at::einsum("bijc,hc->bhij", {x[2].defined() ? normed + x[2] : normed, x[3]});
}

TEST(PairBias, IsItsDefinition) {
  Inputs in = random_inputs();
  for (const bool biased : {true, false}) {
    if (!biased) in[2] = at::Tensor();
    const at::Tensor cotangent = at::randn({2, 4, 3, 3}, at::kDouble);
    const auto got = testing::differentiate(kernel, in, cotangent);
    const auto want = testing::differentiate(definition, in, cotangent);
    EXPECT_LT(testing::difference(got.value, want.value), 1e-12);
    ASSERT_EQ(got.grads.size(), want.grads.size());
    for (size_t i = 0; i < want.grads.size(); ++i) {
      EXPECT_LT(testing::difference(got.grads[i], want.grads[i]), 1e-11) << i;
    }
  }
}

TEST(PairBias, GradientsAreThoseOfNumericalDifferences) {
  const Inputs in = random_inputs();
  const at::Tensor cotangent = at::randn({2, 4, 3, 3}, at::kDouble);
  const auto got = testing::differentiate(kernel, in, cotangent);
  const auto want = testing::numerical_gradients(kernel, in, cotangent);
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_LT(testing::difference(got.grads[i], want[i]), 1e-7) << i;
  }
}

TEST(PairBias, HasTheTypeOfAutocast) {
  const Inputs in = random_inputs(at::kFloat);
  const at::Tensor want = kernel(in);
  const AutocastScope bf16(at::kCPU, "bf16");
  const at::Tensor got = kernel(in);
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LT(testing::difference(got, want), 2e-2);
}

std::string refusal(const Inputs& x) {
  try {
    kernel(x);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(PairBias, RefusalsNameTheArgument) {
  Inputs in = random_inputs();
  in[0] = at::zeros({2, 3, 4, 6}, at::kDouble);
  EXPECT_EQ(refusal(in), "pair_bias: pair is Double [2, 3, 4, 6] on cpu, expected [B, L, L, C]");
  in = random_inputs();
  in[3] = at::zeros({4, 5}, at::kDouble);
  EXPECT_NE(refusal(in).find("pair_bias: weight is Double [4, 5] on cpu, expected"),
            std::string::npos)
      << refusal(in);
}

}  // namespace
}  // namespace ribo::kernels
