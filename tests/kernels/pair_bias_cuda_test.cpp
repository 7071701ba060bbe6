// CPU = CUDA, where there is a GPU. cuda_on_host/ tests the same kernels' arithmetic without one.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pair_bias/pair_bias.h"
#include "support/gpu.h"

namespace ribo::kernels {
namespace {

using Inputs = std::vector<at::Tensor>;  // pair, norm_weight, norm_bias, weight

class PairBiasCuda : public testing::CudaTest {};

at::Tensor kernel(const Inputs& x) { return pair_bias(x[0], x[1], x[2], x[3]); }

Inputs random_inputs(int64_t batch, int64_t length, int64_t channels, int64_t heads) {
  at::manual_seed(1);
  return {at::randn({batch, length, length, channels}) + 0.5, at::randn({channels}),
          at::randn({channels}), at::randn({heads, channels})};
}

TEST_F(PairBiasCuda, AgreesWithTheCpu) {
  for (const int64_t channels : {16, 32, 64, 128}) {
    for (const int64_t heads : {1, 4, 8}) {
      for (const int64_t length : {1, 7, 33}) {
        Inputs in = random_inputs(2, length, channels, heads);
        if (heads == 4) in[2] = at::Tensor();
        const at::Tensor cotangent = at::randn({2, heads, length, length});
        const std::string where = cat("C ", channels, ", heads ", heads, ", L ", length);
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

// With LibTorch's operators.
TEST_F(PairBiasCuda, OtherSizesAgreeWithTheCpu) {
  for (const auto& [channels, heads] : {std::pair{24, 8}, {64, 9}}) {
    const Inputs in = random_inputs(2, 9, channels, heads);
    testing::expect_same_on_gpu(kernel, in, at::randn({2, heads, 9, 9}), 1e-4,
                                cat("C ", channels, ", heads ", heads));
  }
}

// A pair track of any type, weights of float32, a result of autocast's.
TEST_F(PairBiasCuda, TakesTheTypesOfAutocast) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    for (const at::ScalarType stored : {at::kFloat, type}) {
      Inputs in = random_inputs(2, 40, 64, 8);
      const at::Tensor want = kernel(in);
      for (at::Tensor& x : in) x = x.to(at::kCUDA);
      in[0] = in[0].to(stored);
      at::autocast::set_autocast_dtype(at::kCUDA, type);
      at::autocast::set_autocast_enabled(at::kCUDA, true);
      const at::Tensor got = kernel(in);
      at::autocast::set_autocast_enabled(at::kCUDA, false);
      EXPECT_EQ(got.scalar_type(), type);
      EXPECT_LT(testing::difference(got.cpu(), want), 1e-2);
    }
  }
}

TEST_F(PairBiasCuda, SameBitsEveryTime) {
  const Inputs in = random_inputs(3, 100, 64, 8);
  const at::Tensor cotangent = at::randn({3, 8, 100, 100});
  const auto first = testing::differentiate_on(at::kCUDA, kernel, in, cotangent);
  const auto second = testing::differentiate_on(at::kCUDA, kernel, in, cotangent);
  EXPECT_TRUE(at::equal(first.value, second.value));
  for (size_t i = 0; i < first.grads.size(); ++i) {
    EXPECT_TRUE(at::equal(first.grads[i], second.grads[i])) << i;
  }
}

TEST_F(PairBiasCuda, OfNothingIsNothing) {
  const Inputs in = random_inputs(0, 5, 64, 8);
  const auto got = testing::differentiate_on(at::kCUDA, kernel, in, at::zeros({0, 8, 5, 5}));
  EXPECT_EQ(got.value.numel(), 0);
  for (const at::Tensor& grad : got.grads) EXPECT_EQ(grad.abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace ribo::kernels
