// CPU = CUDA, where there is a GPU. cuda_on_host/ tests the same kernels' arithmetic without one.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "conv1d/conv1d.h"
#include "ribo/error.h"
#include "support/gpu.h"

namespace ribo::kernels {
namespace {

class Conv1dCuda : public testing::CudaTest {};

// And the same bits each time. The weights stay float32 or float64.
void expect_same_in_all_types(const testing::TensorFunction& f,
                              const std::vector<at::Tensor>& inputs) {
  for (const auto& [type, tolerance] : {std::pair(at::kDouble, 1e-12),
                                        {at::kFloat, 1e-5},
                                        {at::kBFloat16, 2e-2},
                                        {at::kHalf, 4e-3}}) {
    auto in = testing::in_type(inputs, type == at::kDouble ? at::kDouble : at::kFloat);
    in[0] = in[0].to(type);
    at::manual_seed(2);
    const at::Tensor cotangent = at::randn(in[0].sizes()).to(type);
    const auto got = testing::expect_same_on_gpu(f, in, cotangent, tolerance, cat(type));
    const auto again = testing::differentiate_on(at::kCUDA, f, in, cotangent);
    for (size_t i = 0; i < got.grads.size(); ++i) {
      EXPECT_TRUE(at::equal(got.grads[i], again.grads[i])) << type << ", gradient " << i;
    }
  }
}

TEST_F(Conv1dCuda, CausalAgreesWithTheCpu) {
  at::manual_seed(1);
  for (const int64_t length : {1, 2, 15, 16, 17, 177, 1023}) {
    for (const bool reverse : {false, true}) {
      const at::Tensor lengths = at::randint(0, length + 1, {3}, at::kLong);
      const testing::TensorFunction f = [&](const std::vector<at::Tensor>& in) {
        return causal_conv1d(in[0], in[1], in[2], lengths, true, reverse);
      };
      // Channels that do not fill 16 bytes, and such that do.
      for (const int64_t c : {70, 72}) {
        expect_same_in_all_types(
            f, {at::randn({3, length, 2 * c}).narrow(2, c, c), at::randn({c, 4}), at::randn({c})});
      }
    }
  }
}

TEST_F(Conv1dCuda, DepthwiseAgreesWithTheCpu) {
  at::manual_seed(2);
  for (const bool causal : {false, true}) {
    const testing::TensorFunction f = [&](const std::vector<at::Tensor>& in) {
      return depthwise_conv1d(in[0], {in[1], in[2], in[3]}, {}, {}, causal);
    };
    expect_same_in_all_types(
        f, {at::randn({2, 300, 33}), at::randn({33, 3}), at::randn({33, 5}), at::randn({33, 63})});
  }
  const at::Tensor none = at::empty({0, 5, 3}, at::kCUDA);
  EXPECT_EQ(depthwise_conv1d(none, {at::ones({3, 3}, at::kCUDA)}, {}, {}, false).sizes(),
            none.sizes());
}

}  // namespace
}  // namespace ribo::kernels
