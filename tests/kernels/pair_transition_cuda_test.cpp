// CPU = CUDA, where there is a GPU. cuda_on_host/ tests the same kernels' arithmetic without one.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "pair_transition/pair_transition.h"
#include "support/gpu.h"

namespace ribo::kernels {
namespace {

using Inputs = std::vector<at::Tensor>;  // x, norm_weight, norm_bias, w1, b1, w2, b2, lengths

class PairTransitionCuda : public testing::CudaTest {};

// Under autocast to a type on the GPU.
struct Autocast {
  std::optional<at::ScalarType> type;

  at::Tensor operator()(const Inputs& x) const {
    const bool narrow = type && x[0].is_cuda();
    if (narrow) {
      at::autocast::set_autocast_dtype(at::kCUDA, *type);
      at::autocast::set_autocast_enabled(at::kCUDA, true);
    }
    const at::Tensor y = pair_transition(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]);
    if (narrow) at::autocast::set_autocast_enabled(at::kCUDA, false);
    return y;
  }
};

// b1 keeps the ReLU from its kink, where rounding lets it fall to either side.
Inputs random_inputs(int64_t batch, int64_t length, int64_t channels, int64_t hidden) {
  at::manual_seed(1);
  return {at::randn({batch, length, length, channels}) + 0.5,
          at::randn({channels}),
          at::randn({channels}),
          at::randn({hidden, channels}) / std::sqrt(channels),
          8 * at::randn({hidden}).sign(),
          at::randn({channels, hidden}) / std::sqrt(hidden),
          at::randn({channels}),
          {}};
}

// True in the padding: [B, L, L, 1].
at::Tensor padding(const at::Tensor& lengths, int64_t length) {
  const at::Tensor outside = at::arange(length).ge(lengths.unsqueeze(1));
  return outside.unsqueeze(1).logical_or(outside.unsqueeze(2)).unsqueeze(3);
}

struct Size {
  int64_t batch, length, channels, hidden;
};
// Of the last four the kernels of pair_transition_cuda.h take one.
constexpr Size kSizes[] = {{1, 1, 64, 256}, {3, 33, 64, 256}, {1, 177, 64, 256}, {2, 20, 64, 128},
                           {2, 17, 16, 32}, {1, 30, 32, 256}, {1, 21, 128, 128}, {2, 9, 16, 16},
                           {1, 9, 24, 96},  {1, 9, 16, 40},   {1, 9, 128, 512}};

TEST_F(PairTransitionCuda, AgreesWithTheCpu) {
  for (const Size& s : kSizes) {
    Inputs in = random_inputs(s.batch, s.length, s.channels, s.hidden);
    for (const bool padded : {false, true}) {
      if (padded) {
        in[7] = at::linspace(0, double(s.length), s.batch, at::kDouble).to(at::kLong);
        const at::Tensor outside = padding(in[7], s.length);
        in[0] = in[0].masked_fill(outside, NAN);
      }
      const std::string where =
          cat("L ", s.length, ", C ", s.channels, ", H ", s.hidden, padded ? ", padded" : "");
      const at::Tensor cotangent = at::randn(in[0].sizes());
      for (const auto& [type, tolerance] : {std::pair(at::kDouble, 1e-11),
                                            {at::kFloat, 1e-2},  // TF32 may be on
                                            {at::kBFloat16, 2e-2},
                                            {at::kHalf, 5e-3}}) {
        testing::expect_same_on_gpu(Autocast{}, testing::in_type(in, type), cotangent.to(type),
                                    tolerance, cat(type, ", ", where));
      }
      for (const auto& [type, tolerance] : {std::pair(at::kBFloat16, 2e-2), {at::kHalf, 5e-3}}) {
        testing::expect_same_on_gpu(Autocast{type}, in, cotangent, tolerance,
                                    cat("autocast to ", type, ", ", where));
      }
    }
  }
}

TEST_F(PairTransitionCuda, MixedTypesAndStridesDontMatter) {
  Inputs in = random_inputs(2, 20, 64, 256);
  in[0] = in[0].permute({0, 3, 1, 2}).contiguous().permute({0, 2, 3, 1}).to(at::kBFloat16);
  in[3] = in[3].t().contiguous().t();
  in[4] = in[4].to(at::kBFloat16);
  in[6] = at::cat({in[6], in[6]}).narrow(0, 1, 64);
  const at::Tensor cotangent = at::randn({2, 20, 64, 20}).transpose(2, 3).to(at::kBFloat16);
  testing::expect_same_on_gpu(Autocast{}, in, cotangent, 2e-2, "mixed types");
}

// The residual is not rounded to the type of the products.
TEST_F(PairTransitionCuda, ResidualKeepsItsType) {
  Inputs in = random_inputs(1, 30, 64, 256);
  for (const size_t i : {5, 6}) in[i].zero_();
  for (at::Tensor& x : in) {
    if (x.defined()) x = x.to(at::kCUDA);
  }
  EXPECT_TRUE(at::equal(Autocast{at::kBFloat16}(in), in[0]));
}

TEST_F(PairTransitionCuda, SameBitsEveryTime) {
  const Inputs in = random_inputs(2, 100, 64, 256);
  const at::Tensor cotangent = at::randn(in[0].sizes());
  const Autocast f{at::kBFloat16};
  const auto first = testing::differentiate_on(at::kCUDA, f, in, cotangent);
  const auto second = testing::differentiate_on(at::kCUDA, f, in, cotangent);
  EXPECT_TRUE(at::equal(first.value, second.value));
  for (size_t i = 0; i < first.grads.size(); ++i) {
    EXPECT_TRUE(at::equal(first.grads[i], second.grads[i])) << i;
  }
}

TEST_F(PairTransitionCuda, OfNothingIsNothing) {
  Inputs in = random_inputs(2, 8, 64, 256);
  in[7] = at::zeros({2}, at::kLong);
  const auto padded = testing::differentiate_on(at::kCUDA, Autocast{at::kBFloat16}, in, in[0]);
  in = random_inputs(0, 8, 64, 256);
  const auto empty = testing::differentiate_on(at::kCUDA, Autocast{at::kBFloat16}, in, in[0]);
  for (const auto& got : {padded, empty}) {
    EXPECT_EQ(got.value.abs().sum().item<double>(), 0);
    for (const at::Tensor& grad : got.grads) EXPECT_EQ(grad.abs().sum().item<double>(), 0);
  }
}

}  // namespace
}  // namespace ribo::kernels
