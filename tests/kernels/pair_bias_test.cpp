#include "pair_bias/pair_bias.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/isa.h"
#include "support/gradients.h"
#include "train/precision.h"

namespace ribo::kernels {
namespace {

using Inputs = std::vector<at::Tensor>;  // pair, norm_weight, norm_bias, weight

at::Tensor kernel(const Inputs& x) { return pair_bias(x[0], x[1], x[2], x[3]); }

struct Size {
  int64_t length, channels, heads;
};
// Of the first LibTorch's operators take care.
constexpr Size kSizes[] = {{3, 6, 4}, {3, 16, 4}, {1, 64, 8}, {7, 64, 8}, {23, 32, 33}, {9, 80, 1}};

Inputs random_inputs(const Size& s = kSizes[0], at::ScalarType type = at::kDouble) {
  at::manual_seed(1);
  const at::TensorOptions real(type);
  return {at::randn({2, s.length, s.length, s.channels}, real) + 0.5, at::randn({s.channels}, real),
          at::randn({s.channels}, real), at::randn({s.heads, s.channels}, real)};
}

// The norm and the map by their formulas.
at::Tensor definition(const Inputs& x) {
  const at::Tensor centred = x[0] - x[0].mean(-1, true);
  const at::Tensor normed = centred / (centred.square().mean(-1, true) + 1e-5).sqrt() * x[1];
  return at::einsum("bijc,hc->bhij", {x[2].defined() ? normed + x[2] : normed, x[3]});
}

TEST(PairBias, IsItsDefinition) {
  for (const Isa most : {Isa::generic, Isa::avx2, Isa::avx512}) {
    limit_isa(most);
    for (const Size& s : kSizes) {
      for (const bool biased : {true, false}) {
        for (const auto& [type, tolerance] : {std::pair(at::kDouble, 1e-11), {at::kFloat, 2e-5}}) {
          Inputs in = random_inputs(s, type);
          if (!biased) in[2] = at::Tensor();
          const at::Tensor cotangent = at::randn({2, s.heads, s.length, s.length}, type);
          const std::string where = cat(type, ", L ", s.length, ", C ", s.channels);
          const auto got = testing::differentiate(kernel, in, cotangent);
          const auto want = testing::differentiate(definition, in, cotangent);
          EXPECT_LT(testing::difference(got.value, want.value), tolerance) << where;
          ASSERT_EQ(got.grads.size(), want.grads.size());
          for (size_t i = 0; i < want.grads.size(); ++i) {
            EXPECT_LT(testing::difference(got.grads[i], want.grads[i]), tolerance)
                << where << ", gradient " << i;
          }
        }
      }
    }
  }
  limit_isa(Isa::amx);
}

TEST(PairBias, GradientsAreThoseOfNumericalDifferences) {
  const Inputs in = random_inputs(kSizes[1]);
  const at::Tensor cotangent = at::randn({2, 4, 3, 3}, at::kDouble);
  const auto got = testing::differentiate(kernel, in, cotangent);
  const auto want = testing::numerical_gradients(kernel, in, cotangent);
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_LT(testing::difference(got.grads[i], want[i]), 1e-7) << i;
  }
}

TEST(PairBias, ThreadsChangeNoBit) {
  const Inputs in = random_inputs({40, 64, 8}, at::kFloat);
  const at::Tensor cotangent = at::randn({2, 8, 40, 40});
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = testing::differentiate(kernel, in, cotangent);
  at::set_num_threads(2);
  const auto two = testing::differentiate(kernel, in, cotangent);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one.value, two.value));
  for (size_t i = 0; i < one.grads.size(); ++i) EXPECT_TRUE(at::equal(one.grads[i], two.grads[i]));
}

TEST(PairBias, HasTheTypeOfAutocast) {
  for (const Size& s : kSizes) {
    const Inputs in = random_inputs(s, at::kFloat);
    const at::Tensor want = kernel(in);
    const AutocastScope bf16(at::kCPU, "bf16");
    const at::Tensor got = kernel(in);
    EXPECT_EQ(got.scalar_type(), at::kBFloat16);
    EXPECT_LT(testing::difference(got, want), 2e-2);
  }
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
