#include "layer_norm/layer_norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/gradients.h"

namespace ribo::kernels {
namespace {

using Inputs = std::vector<at::Tensor>;  // x, weight, bias

at::Tensor kernel(const Inputs& x) { return layer_norm(x[0], x[1], x[2]); }

at::Tensor definition(const Inputs& x) {
  const at::Tensor centred = x[0] - x[0].mean(-1, true);
  at::Tensor y = centred / (centred.square().mean(-1, true) + 1e-5).sqrt();
  if (x[1].defined()) y = y * x[1];
  return x[2].defined() ? y + x[2] : y;
}

TEST(LayerNorm, IsItsDefinition) {
  at::manual_seed(1);
  const at::TensorOptions real(at::kDouble);
  for (const bool weighted : {true, false}) {
    for (const bool biased : {true, false}) {
      const Inputs in = {at::randn({2, 3, 16}, real) + 0.5,
                         weighted ? at::randn({16}, real) : at::Tensor(),
                         biased ? at::randn({16}, real) : at::Tensor()};
      const at::Tensor cotangent = at::randn({2, 3, 16}, real);
      const auto got = testing::differentiate(kernel, in, cotangent);
      const auto want = testing::differentiate(definition, in, cotangent);
      EXPECT_LT(testing::difference(got.value, want.value), 1e-12);
      ASSERT_EQ(got.grads.size(), want.grads.size());
      for (size_t i = 0; i < want.grads.size(); ++i) {
        EXPECT_LT(testing::difference(got.grads[i], want.grads[i]), 1e-11) << i;
      }
    }
  }
}

TEST(LayerNorm, RefusalsNameTheArgument) {
  try {
    layer_norm(at::zeros({2, 16}), at::ones({8}), {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()), "layer_norm: weight is Float [8] on cpu, expected [C] = [16]");
  }
}

}  // namespace
}  // namespace ribo::kernels
