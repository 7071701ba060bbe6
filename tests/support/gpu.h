// The CPU's numbers beside those of a GPU, where there is one.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/gradients.h"

namespace ribo::testing {

/// Tests that need a GPU; elsewhere they are skipped.
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "skipped: there is no GPU here";
  }
};

/// differentiate() with everything on `device`; returned on the CPU.
inline Derivative differentiate_on(at::Device device, const TensorFunction& f,
                                   std::vector<at::Tensor> inputs, const at::Tensor& cotangent) {
  for (at::Tensor& x : inputs) {
    if (x.defined()) x = x.to(device);
  }
  Derivative out = differentiate(f, inputs, cotangent.to(device));
  out.value = out.value.cpu();
  for (at::Tensor& grad : out.grads) grad = grad.cpu();
  return out;
}

/// f and its gradients are the same on both devices, of the same types. Returns the GPU's.
inline Derivative expect_same_on_gpu(const TensorFunction& f, const std::vector<at::Tensor>& inputs,
                                     const at::Tensor& cotangent, double tolerance,
                                     const std::string& what) {
  const Derivative want = differentiate_on(at::kCPU, f, inputs, cotangent);
  const Derivative got = differentiate_on(at::kCUDA, f, inputs, cotangent);
  EXPECT_LE(difference(got.value, want.value), tolerance) << what;
  EXPECT_EQ(got.value.scalar_type(), want.value.scalar_type()) << what;
  for (size_t i = 0; i < want.grads.size(); ++i) {
    EXPECT_LE(difference(got.grads[i], want.grads[i]), tolerance) << what << ", gradient " << i;
    EXPECT_EQ(got.grads[i].scalar_type(), want.grads[i].scalar_type()) << what;
  }
  return got;
}

/// The tensors of floating type in another one.
inline std::vector<at::Tensor> in_type(std::vector<at::Tensor> inputs, at::ScalarType type) {
  for (at::Tensor& x : inputs) {
    if (x.defined() && x.is_floating_point()) x = x.to(type);
  }
  return inputs;
}

/// f on a GPU in bfloat16 or float16 is f in float32 of the same numbers: on the CPU LibTorch
/// rounds in between.
inline void expect_narrow_on_gpu(const TensorFunction& f, const std::vector<at::Tensor>& inputs,
                                 const at::Tensor& cotangent, at::ScalarType type, double tolerance,
                                 const std::string& what) {
  const std::vector<at::Tensor> narrow = in_type(inputs, type);
  const at::Tensor rounded = cotangent.to(type);
  const Derivative want =
      differentiate_on(at::kCPU, f, in_type(narrow, at::kFloat), rounded.to(at::kFloat));
  const Derivative got = differentiate_on(at::kCUDA, f, narrow, rounded);
  EXPECT_LE(difference(got.value, want.value), tolerance) << what;
  EXPECT_EQ(got.value.scalar_type(), type) << what;
  for (size_t i = 0; i < want.grads.size(); ++i) {
    EXPECT_LE(difference(got.grads[i], want.grads[i]), tolerance) << what << ", gradient " << i;
    EXPECT_EQ(got.grads[i].scalar_type(), type) << what;
  }
}

}  // namespace ribo::testing
