// CPU = CUDA, where there is a GPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "outer_product_mean/outer_product_mean.h"
#include "support/gpu.h"

namespace ribo::kernels {
namespace {

using Inputs = std::vector<at::Tensor>;  // a, b, weight, bias, residual, lengths

class OuterProductMeanCuda : public testing::CudaTest {};

at::Tensor kernel(const Inputs& x) {
  return outer_product_mean(x[0], x[1], x[2], x[3], x[4], x[5]);
}

Inputs random_inputs(int64_t batch, int64_t length, int64_t width, int64_t channels) {
  at::manual_seed(1);
  return {at::randn({batch, length, width}),
          at::randn({batch, length, width}),
          at::randn({channels, width * width}).mul_(1 / static_cast<double>(width)),
          at::randn({channels}),
          at::randn({batch, length, length, channels}),
          {}};
}

// From none to all of the positions.
at::Tensor ragged(int64_t batch, int64_t length) {
  return at::linspace(0, static_cast<double>(length), batch, at::kDouble).to(at::kLong);
}

TEST_F(OuterProductMeanCuda, AgreesWithTheCpu) {
  for (const int64_t length : {1, 15, 16, 17, 70}) {
    for (const auto& [width, channels] : {std::pair{32, 64}, {5, 3}, {33, 17}}) {
      Inputs in = random_inputs(3, length, width, channels);
      for (const bool padded : {false, true}) {
        in[5] = padded ? ragged(3, length) : at::Tensor();
        for (const auto& [type, tolerance] :
             {std::pair(at::kDouble, 1e-11), {at::kFloat, 1e-4}, {at::kBFloat16, 2e-2}}) {
          const Inputs typed = testing::in_type(in, type);
          testing::expect_same_on_gpu(
              kernel, typed, at::randn_like(typed[4]), tolerance,
              cat(type, ", L ", length, ", K ", width, ", C ", channels, padded ? ", padded" : ""));
        }
      }
    }
  }
}

TEST_F(OuterProductMeanCuda, AgreesWithTheCpuWithoutBiasAndResidual) {
  Inputs in = random_inputs(2, 40, 32, 64);
  const at::Tensor cotangent = at::randn_like(in[4]);
  in[3] = in[4] = at::Tensor();
  testing::expect_same_on_gpu(kernel, in, cotangent, 1e-4, "without bias and residual");
}

// More positions than a block of the backward pass holds.
TEST_F(OuterProductMeanCuda, AgreesWithTheCpuAtLargerSizes) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    Inputs in = random_inputs(2, 250, 32, 64);
    in[5] = at::tensor({250, 201}, at::kLong);
    const Inputs typed = testing::in_type(in, type);
    testing::expect_same_on_gpu(kernel, typed, at::randn_like(typed[4]), 2e-2, cat(type));
  }
}

TEST_F(OuterProductMeanCuda, TheSameBitsEveryTime) {
  for (const int64_t length : {177, 250}) {
    Inputs in = testing::in_type(random_inputs(3, length, 32, 64), at::kBFloat16);
    in[5] = at::tensor({length, length / 2, length - 1}, at::kLong);
    const at::Tensor cotangent = at::randn_like(in[4]);
    const auto one = testing::differentiate_on(at::kCUDA, kernel, in, cotangent);
    const auto two = testing::differentiate_on(at::kCUDA, kernel, in, cotangent);
    EXPECT_TRUE(one.value.equal(two.value));
    for (size_t i = 0; i < one.grads.size(); ++i) EXPECT_TRUE(one.grads[i].equal(two.grads[i]));
  }
}

// As under autocast: narrow factors on float32 weights and pairs.
TEST_F(OuterProductMeanCuda, AgreesWithTheCpuInMixedTypes) {
  Inputs in = random_inputs(2, 40, 32, 64);
  for (const size_t i : {0, 1}) in[i] = in[i].to(at::kBFloat16);
  for (const bool padded : {false, true}) {
    if (padded) in[5] = at::tensor({40, 21}, at::kLong);
    testing::expect_same_on_gpu(kernel, in, at::randn_like(in[4]), 2e-2, "bfloat16 and float32");
  }
}

TEST_F(OuterProductMeanCuda, PaddingIsNeverRead) {
  const int64_t batch = 3, length = 20;
  for (const auto& [type, tolerance] : {std::pair(at::kFloat, 1e-4), {at::kBFloat16, 2e-2}}) {
    Inputs clean = testing::in_type(random_inputs(batch, length, 32, 64), type);
    clean[5] = ragged(batch, length);
    const at::Tensor outside = at::arange(length).ge(clean[5].unsqueeze(1));
    const at::Tensor pairs = outside.unsqueeze(1).logical_or(outside.unsqueeze(2)).unsqueeze(3);
    const at::Tensor cotangent = at::randn_like(clean[4]);
    Inputs dirty = clean;
    for (const size_t i : {0, 1}) dirty[i] = clean[i].masked_fill(outside.unsqueeze(2), NAN);
    dirty[4] = clean[4].masked_fill(pairs, NAN);
    const auto want = testing::differentiate_on(at::kCPU, kernel, clean, cotangent);
    const auto got =
        testing::differentiate_on(at::kCUDA, kernel, dirty, cotangent.masked_fill(pairs, NAN));
    EXPECT_LE(testing::difference(got.value, want.value), tolerance) << type;
    for (size_t i = 0; i < want.grads.size(); ++i) {
      EXPECT_LE(testing::difference(got.grads[i], want.grads[i]), tolerance)
          << type << ", gradient " << i;
    }
  }
}

}  // namespace
}  // namespace ribo::kernels
