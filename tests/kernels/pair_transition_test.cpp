#include "pair_transition/pair_transition.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "common/isa.h"
#include "pair_transition/pair_transition_aten.h"
#include "support/gradients.h"
#include "train/precision.h"

namespace ribo::kernels {
namespace {

using testing::Derivative;
using testing::difference;
using testing::differentiate;
using testing::numerical_gradients;
using Tensors = std::vector<at::Tensor>;

// x, norm_weight, norm_bias, w1, b1, w2, b2; then lengths.
const std::vector<std::string> kNames = {"x", "norm_weight", "norm_bias", "w1", "b1", "w2", "b2"};

Tensors random_inputs(at::IntArrayRef positions, int64_t channels, int64_t hidden,
                      const at::Tensor& lengths = {}) {
  const auto real = at::TensorOptions(at::kDouble);
  std::vector<int64_t> shape = positions.vec();
  shape.push_back(channels);
  return {at::randn(shape, real) + 0.5, at::randn({channels}, real),
          at::randn({channels}, real),  at::randn({hidden, channels}, real) / std::sqrt(channels),
          at::randn({hidden}, real),    at::randn({channels, hidden}, real) / std::sqrt(hidden),
          at::randn({channels}, real),  lengths};
}

at::Tensor transition(const Tensors& in) {
  return pair_transition(in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7]);
}

// True in the padding: [B, L, L, 1].
at::Tensor padding(const at::Tensor& lengths, int64_t length) {
  const at::Tensor here = at::arange(length).unsqueeze(0) < lengths.unsqueeze(1);
  return here.unsqueeze(2).logical_and(here.unsqueeze(1)).logical_not().unsqueeze(3);
}

at::Tensor definition(const Tensors& in) {
  const bool padded = in[7].defined();
  const at::Tensor x = padded ? in[0].masked_fill(padding(in[7], in[0].size(1)), 0) : in[0];
  const at::Tensor normed = at::layer_norm(x, {x.size(-1)}, in[1], in[2], 1e-5);
  const at::Tensor y = x + at::linear(at::relu(at::linear(normed, in[3], in[4])), in[5], in[6]);
  return padded ? y.masked_fill(padding(in[7], in[0].size(1)), 0) : y;
}

Tensors to(const Tensors& in, at::ScalarType type) {
  Tensors out;
  for (const at::Tensor& x : in) {
    out.push_back(x.defined() && x.is_floating_point() ? x.to(type) : x);
  }
  return out;
}

void expect_same(const Derivative& got, const Derivative& want, double tolerance,
                 const std::string& where) {
  EXPECT_LE(difference(got.value, want.value), tolerance) << where;
  ASSERT_EQ(got.grads.size(), want.grads.size());
  for (size_t i = 0; i < want.grads.size(); ++i) {
    EXPECT_LE(difference(got.grads[i], want.grads[i]), tolerance) << where << " " << kNames[i];
  }
}

// Puts back the best instruction set and the number of threads.
class PairTransition : public ::testing::Test {
 protected:
  PairTransition() { at::manual_seed(1); }
  ~PairTransition() override {
    limit_isa(Isa::amx);
    at::set_num_threads(threads_);
  }

 private:
  const int threads_ = at::get_num_threads();
};

struct Size {
  std::vector<int64_t> positions;
  int64_t channels, hidden;
};
const std::vector<Size> kSizes = {{{1}, 1, 1},          {{2}, 3, 5},           {{15}, 8, 16},
                                  {{16}, 16, 33},       {{17}, 24, 96},        {{1023}, 17, 40},
                                  {{1, 7, 7}, 64, 256}, {{3, 2, 5}, 300, 270}, {{49}, 33, 7}};

TEST_F(PairTransition, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  for (const Isa most : {Isa::generic, Isa::avx2, Isa::avx512}) {
    limit_isa(most);
    for (const Size& s : kSizes) {
      const Tensors in = random_inputs(s.positions, s.channels, s.hidden);
      const at::Tensor weight = at::randn_like(in[0]);
      const Derivative want = differentiate(definition, in, weight);
      const std::string where = cat(s.positions, " ", s.channels, " ", s.hidden);
      expect_same(differentiate(transition, in, weight), want, 1e-12, where);
      const Derivative single =
          differentiate(transition, to(in, at::kFloat), weight.to(at::kFloat));
      EXPECT_EQ(single.value.scalar_type(), at::kFloat);
      expect_same(single, want, 2e-5, where + " float32");
    }
  }
}

TEST_F(PairTransition, GradientsAreThoseOfNumericalDifferences) {
  const Tensors in = random_inputs({2, 3, 3}, 5, 7, at::tensor({3, 2}));
  const at::Tensor weight = at::randn_like(in[0]);
  const Tensors want = numerical_gradients(transition, in, weight);
  const Derivative got = differentiate(transition, in, weight);
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_LE(difference(got.grads[i], want[i]), 1e-7) << kNames[i];
  }
}

TEST_F(PairTransition, PaddingIsNeitherReadNorWritten) {
  const Tensors in = random_inputs({4, 17, 17}, 24, 40, at::tensor({17, 0, 1, 12}));
  const at::Tensor outside = padding(in[7], 17);
  const at::Tensor weight = at::randn_like(in[0]);
  const Derivative want = differentiate(definition, in, weight);
  Tensors dirty = in;
  dirty[0] = in[0].masked_fill(outside, std::numeric_limits<double>::quiet_NaN());
  const at::Tensor dirty_weight =
      weight.masked_fill(outside, std::numeric_limits<double>::quiet_NaN());
  const Derivative got = differentiate(transition, dirty, dirty_weight);
  expect_same(got, want, 1e-12, "");
  EXPECT_EQ(got.value.masked_select(outside).abs().sum().item<double>(), 0);
  EXPECT_EQ(got.grads[0].masked_select(outside).abs().sum().item<double>(), 0);
}

// What runs on a device that has no kernel for the problem.
TEST_F(PairTransition, ByLibTorchsOperatorsIsTheSame) {
  for (const at::Tensor& lengths : {at::Tensor(), at::tensor({9, 4})}) {
    const Tensors in = random_inputs({2, 9, 9}, 6, 10, lengths);
    const at::Tensor weight = at::randn_like(in[0]);
    Tensors dirty = in;
    if (lengths.defined()) {
      dirty[0] = in[0].masked_fill(padding(lengths, 9), std::numeric_limits<double>::quiet_NaN());
    }
    const TransitionTensors args{dirty[0], in[1], in[2],   in[3], in[4],
                                 in[5],    in[6], lengths, 1e-5,  at::kDouble};
    const TransitionGrads grads = transition_backward_aten(args, weight);
    expect_same({transition_forward_aten(args), {grads.begin(), grads.end()}},
                differentiate(definition, in, weight), 1e-12, "");
  }
}

TEST_F(PairTransition, SameBitsForAnyNumberOfThreads) {
  const Tensors in = to(random_inputs({2, 45, 45}, 24, 56, at::tensor({45, 31})), at::kFloat);
  const at::Tensor weight = at::randn_like(in[0]);
  at::set_num_threads(1);
  const Derivative want = differentiate(transition, in, weight);
  for (const int threads : {2, 3}) {
    at::set_num_threads(threads);
    const Derivative got = differentiate(transition, in, weight);
    EXPECT_TRUE(at::equal(got.value, want.value));
    for (size_t i = 0; i < want.grads.size(); ++i) {
      EXPECT_TRUE(at::equal(got.grads[i], want.grads[i])) << kNames[i];
    }
  }
}

TEST_F(PairTransition, NarrowTypesComputeInFloat32) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const Tensors in = to(random_inputs({2, 9, 9}, 24, 40, at::tensor({9, 5})), type);
    const at::Tensor weight = at::randn_like(in[0]);
    const Derivative got = differentiate(transition, in, weight);
    EXPECT_EQ(got.value.scalar_type(), type);
    const Derivative want = differentiate(transition, to(in, at::kFloat), weight.to(at::kFloat));
    // All that is lost is the rounding of the results.
    EXPECT_TRUE(at::equal(got.value, want.value.to(type)));
    for (size_t i = 0; i < want.grads.size(); ++i) {
      EXPECT_TRUE(at::equal(got.grads[i], want.grads[i].to(type))) << kNames[i];
    }
  }
}

TEST_F(PairTransition, AutocastRoundsOperandsOfProductsWhereTheCpuCan) {
  for (const Size& s : kSizes) {
    Tensors in = to(random_inputs(s.positions, s.channels, s.hidden), at::kFloat);
    in[4] = 8 * at::sign(in[4]);  // no ReLU near its kink, where it may fall to either side
    const at::Tensor weight = at::randn_like(in[0]);
    const Derivative want = differentiate(transition, in, weight);
    for (const Isa most : {Isa::avx512, Isa::bf16, Isa::amx}) {
      limit_isa(most);
      if (isa() != most && most != Isa::avx512) continue;
      const AutocastScope autocast(at::kCPU, "bf16");
      const Derivative got = differentiate(transition, in, weight);
      const std::string where = cat(s.positions, " ", s.channels, " ", s.hidden);
      if (most == Isa::avx512) {
        EXPECT_TRUE(at::equal(got.value, want.value)) << where;
        continue;
      }
      const auto error = [](const at::Tensor& x, const at::Tensor& y) {
        return ((x - y).norm() / (y.norm() + 1e-3)).item<double>();
      };
      EXPECT_LT(error(got.value, want.value), 1e-2) << where;
      if (s.channels > 1) EXPECT_FALSE(at::equal(got.value, want.value)) << where;
      for (size_t i = 0; i < want.grads.size(); ++i) {
        EXPECT_LT(error(got.grads[i], want.grads[i]), 2e-2) << where << " " << kNames[i];
      }
    }
  }
}

TEST_F(PairTransition, StridesDontMatter) {
  Tensors in = random_inputs({2, 5, 5}, 12, 20);
  const at::Tensor weight = at::randn({2, 5, 12, 5}, at::kDouble).transpose(2, 3);
  const Derivative want = differentiate(definition, in, weight.contiguous());
  in[0] = in[0].permute({3, 0, 2, 1}).contiguous().permute({1, 3, 2, 0});
  in[3] = in[3].t().contiguous().t();
  in[5] = in[5].t().contiguous().t();
  expect_same(differentiate(transition, in, weight), want, 1e-12, "");
}

TEST_F(PairTransition, OfNothingIsNothing) {
  for (const Tensors& in : {random_inputs({0, 4, 4}, 8, 12), random_inputs({0}, 8, 12),
                            random_inputs({2, 3, 3}, 8, 12, at::tensor({0, 0}))}) {
    const Derivative got = differentiate(transition, in, at::ones_like(in[0]));
    EXPECT_EQ(got.value.sizes(), in[0].sizes());
    EXPECT_EQ(got.value.abs().sum().item<double>(), 0);
    for (const at::Tensor& grad : got.grads) EXPECT_EQ(grad.abs().sum().item<double>(), 0);
  }
}

TEST_F(PairTransition, MagnitudesAgreeWithDouble) {
  for (const double scale : {1e-12, 1e-4, 1e4, 1e12}) {
    Tensors in = random_inputs({200}, 64, 96);
    in[0] = in[0] * scale;
    const at::Tensor weight = at::randn_like(in[0]);
    const Derivative got = differentiate(transition, to(in, at::kFloat), weight.to(at::kFloat));
    const Derivative want = differentiate(definition, to(to(in, at::kFloat), at::kDouble), weight);
    expect_same(got, want, 1e-4, cat("x of ", scale));
  }
}

TEST_F(PairTransition, NanShows) {
  const Tensors in = to(random_inputs({60}, 16, 24), at::kFloat);
  in[0][7][3] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor y = transition(in);
  EXPECT_TRUE(y[7].isnan().all().item<bool>());
  EXPECT_EQ(y.isnan().sum().item<int64_t>(), 16);
  const Tensors grads = differentiate(transition, in, at::ones_like(in[0])).grads;
  EXPECT_TRUE(grads[3].isnan().any().item<bool>());
  const Tensors narrow = to(in, at::kBFloat16);
  EXPECT_TRUE(transition(narrow)[7].isnan().all().item<bool>());
}

std::string refusal(const Tensors& in) {
  try {
    transition(in);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST_F(PairTransition, RefusesWhatDoesNotFit) {
  const Tensors good = random_inputs({2, 3, 3}, 4, 6, at::tensor({3, 1}));
  const auto with = [&](size_t i, const at::Tensor& x) {
    Tensors in = good;
    in[i] = x;
    return refusal(in);
  };
  EXPECT_EQ(with(5, at::zeros({6, 4})),
            "pair_transition: w2 is Float [6, 4] on cpu, expected [C, H] = [4, 6]");
  EXPECT_EQ(with(2, at::zeros({3})),
            "pair_transition: norm_bias is Float [3] on cpu, expected [C] = [4]");
  EXPECT_EQ(with(4, at::zeros({6}, at::kLong)),
            "pair_transition: b1 is Long [6] on cpu, expected a floating type");
  EXPECT_EQ(with(0, at::zeros({3, 3, 4})),
            "pair_transition: x is Float [3, 3, 4] on cpu, expected [B, L, L, C] with lengths");
  EXPECT_EQ(with(7, at::tensor({3, 4})), "pair_transition: lengths[1] is 4, expected 0 to 3");
}

TEST_F(PairTransition, RefusesASecondDerivative) {
  const Tensors in = random_inputs({3}, 4, 6);
  const at::Tensor x = in[0].requires_grad_(true);
  const at::Tensor y = transition(in);
  EXPECT_THROW(torch::autograd::grad({y.sum()}, {x}, {}, true, /*create_graph=*/true), Error);
}

}  // namespace
}  // namespace ribo::kernels
