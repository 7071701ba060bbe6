// CPU = CUDA, where there is a GPU. cuda_on_host/ tests the same kernels' arithmetic without one.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "layer_norm/layer_norm.h"
#include "support/gpu.h"

namespace ribo::kernels {
namespace {

using Inputs = std::vector<at::Tensor>;  // x, weight, bias

class LayerNormCuda : public testing::CudaTest {};

at::Tensor kernel(const Inputs& x) { return layer_norm(x[0], x[1], x[2]); }

// The last has no kernel.
TEST_F(LayerNormCuda, AgreesWithTheCpu) {
  at::manual_seed(1);
  for (const int64_t channels : {16, 32, 64, 128, 48}) {
    for (const int64_t rows : {1, 31, 5000}) {
      for (const bool weighted : {true, false}) {
        const Inputs in = {at::randn({rows, channels}) + 0.5,
                           weighted ? at::randn({channels}) : at::Tensor(),
                           weighted ? at::randn({channels}) : at::Tensor()};
        const at::Tensor cotangent = at::randn({rows, channels});
        const std::string where = cat("C ", channels, ", rows ", rows);
        for (const auto& [type, tolerance] : {std::pair(at::kDouble, 1e-11), {at::kFloat, 1e-4}}) {
          testing::expect_same_on_gpu(kernel, testing::in_type(in, type), cotangent.to(type),
                                      tolerance, cat(type, ", ", where));
        }
        for (const auto& [type, tolerance] : {std::pair(at::kBFloat16, 1e-2), {at::kHalf, 2e-3}}) {
          testing::expect_narrow_on_gpu(kernel, in, cotangent, type, tolerance,
                                        cat(type, ", ", where));
        }
      }
    }
  }
}

TEST_F(LayerNormCuda, StridesDontMatterAndBitsAreTheSameEveryTime) {
  at::manual_seed(1);
  const Inputs in = {at::randn({64, 9000}).t(), at::randn({64}), at::randn({64})};
  const at::Tensor cotangent = at::randn({64, 9000}).t();
  const auto first = testing::expect_same_on_gpu(kernel, in, cotangent, 1e-4, "strides");
  const auto second = testing::differentiate_on(at::kCUDA, kernel, in, cotangent);
  EXPECT_TRUE(at::equal(first.value, second.value));
  for (size_t i = 0; i < first.grads.size(); ++i) {
    EXPECT_TRUE(at::equal(first.grads[i], second.grads[i])) << i;
  }
}

TEST_F(LayerNormCuda, OfNothingIsNothing) {
  const auto got = testing::differentiate_on(
      at::kCUDA, kernel, {at::zeros({0, 64}), at::ones({64}), at::ones({64})}, at::zeros({0, 64}));
  EXPECT_EQ(got.value.numel(), 0);
  for (const at::Tensor& grad : got.grads) EXPECT_EQ(grad.abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace ribo::kernels
