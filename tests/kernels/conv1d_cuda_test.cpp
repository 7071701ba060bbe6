// CPU = CUDA, where there is a GPU. cuda_on_host/ tests the same kernels' arithmetic without one.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "conv1d/conv1d.h"
#include "support/gradients.h"

namespace ribo::kernels {
namespace {

using testing::difference;

class Conv1dCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "skipped: no GPU here, CUDA kernels run on the host only";
  }
};

// On either device, in `type`; the weights stay float32 or float64.
void expect_same(const testing::TensorFunction& f, const std::vector<at::Tensor>& inputs,
                 at::ScalarType type, double tolerance) {
  const at::ScalarType real = type == at::kDouble ? at::kDouble : at::kFloat;
  const auto run = [&](at::Device device) {
    std::vector<at::Tensor> in;
    for (const at::Tensor& x : inputs) in.push_back(x.to(device, in.empty() ? type : real));
    at::manual_seed(2);
    const at::Tensor cotangent = at::randn(inputs[0].sizes()).to(device, type);
    return testing::differentiate(f, in, cotangent);
  };
  const auto want = run(at::kCPU), got = run(at::kCUDA), again = run(at::kCUDA);
  EXPECT_LT(difference(got.value.cpu(), want.value), tolerance);
  for (size_t i = 0; i < want.grads.size(); ++i) {
    EXPECT_LT(difference(got.grads[i].cpu(), want.grads[i]), tolerance) << "gradient " << i;
    EXPECT_TRUE(at::equal(got.grads[i], again.grads[i])) << "gradient " << i;
  }
}

void expect_same_in_all_types(const testing::TensorFunction& f,
                              const std::vector<at::Tensor>& inputs) {
  expect_same(f, inputs, at::kDouble, 1e-12);
  expect_same(f, inputs, at::kFloat, 1e-5);
  expect_same(f, inputs, at::kBFloat16, 2e-2);
  expect_same(f, inputs, at::kHalf, 4e-3);
}

TEST_F(Conv1dCuda, CausalAgreesWithTheCpu) {
  at::manual_seed(1);
  for (const int64_t length : {1, 2, 15, 16, 17, 177, 1023}) {
    for (const bool reverse : {false, true}) {
      const at::Tensor lengths = at::randint(0, length + 1, {3}, at::kLong);
      const testing::TensorFunction f = [&](const std::vector<at::Tensor>& in) {
        return causal_conv1d(in[0], in[1], in[2], lengths, true, reverse);
      };
      expect_same_in_all_types(
          f, {at::randn({3, length, 140}).narrow(2, 70, 70), at::randn({70, 4}), at::randn({70})});
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
