#include "conv1d/conv1d.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "common/isa.h"
#include "support/gradients.h"

namespace ribo::kernels {
namespace {

using testing::Derivative;
using testing::difference;
using testing::differentiate;
using testing::TensorFunction;

const at::TensorOptions kReal = at::kDouble;

// x[b, t + shift, c], zero outside the sequence.
at::Tensor shifted(const at::Tensor& x, const at::Tensor& lengths, int64_t shift) {
  const int64_t length = x.size(1);
  const at::Tensor t = at::arange(length, at::kLong) + shift;
  const at::Tensor ends = lengths.defined() ? lengths : at::full({x.size(0)}, length, at::kLong);
  const at::Tensor inside = t.ge(0).unsqueeze(0).logical_and(t.unsqueeze(0) < ends.unsqueeze(1));
  const at::Tensor moved = x.index_select(1, t.clamp(0, length - 1));
  return at::where(inside.unsqueeze(2), moved, at::zeros({}, x.options()));
}

at::Tensor outside_zero(const at::Tensor& y, const at::Tensor& lengths) {
  if (!lengths.defined()) return y;
  const at::Tensor inside = at::arange(y.size(1)).unsqueeze(0) < lengths.unsqueeze(1);
  return at::where(inside.unsqueeze(2), y, at::zeros({}, y.options()));
}

// The definition: a tap at a time.
at::Tensor definition(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                      const std::vector<int64_t>& first, int64_t step, const at::Tensor& bias,
                      const at::Tensor& lengths, bool silu) {
  at::Tensor y = bias.defined() ? bias.expand_as(x) : at::zeros_like(x);
  for (size_t i = 0; i < weights.size(); ++i) {
    for (int64_t k = 0; k < weights[i].size(1); ++k) {
      y = y + shifted(x, lengths, first[i] + step * k) * weights[i].select(1, k);
    }
  }
  return outside_zero(silu ? at::silu(y) : y, lengths);
}

at::Tensor causal_definition(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             const at::Tensor& lengths, bool silu, bool reverse) {
  const int64_t far = weight.size(1) - 1;
  return definition(x, {weight}, {reverse ? far : -far}, reverse ? -1 : 1, bias, lengths, silu);
}

at::Tensor depthwise_definition(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                const at::Tensor& bias, const at::Tensor& lengths, bool causal) {
  std::vector<int64_t> first;
  for (const at::Tensor& w : weights) first.push_back(causal ? 1 - w.size(1) : -(w.size(1) / 2));
  return definition(x, weights, first, 1, bias, lengths, false);
}

struct Causal {
  int64_t batch, length, channels, width;
  bool silu, reverse, bias;
  std::vector<int64_t> lengths;  // empty: all whole
};

at::Tensor tensor_of(const std::vector<int64_t>& lengths) {
  return lengths.empty() ? at::Tensor() : at::tensor(lengths, at::kLong);
}

std::vector<at::Tensor> random_inputs(const Causal& c, const at::TensorOptions& options = kReal) {
  return {at::randn({c.batch, c.length, c.channels}, options),
          at::randn({c.channels, c.width}, options),
          c.bias ? at::randn({c.channels}, options) : at::Tensor()};
}

TensorFunction kernel(const Causal& c) {
  return [c](const std::vector<at::Tensor>& in) {
    return causal_conv1d(in[0], in[1], in[2], tensor_of(c.lengths), c.silu, c.reverse);
  };
}
TensorFunction reference(const Causal& c) {
  return [c](const std::vector<at::Tensor>& in) {
    return causal_definition(in[0], in[1], in[2], tensor_of(c.lengths), c.silu, c.reverse);
  };
}

void expect_same(const Derivative& got, const Derivative& want, double tolerance) {
  EXPECT_LT(difference(got.value, want.value), tolerance) << "value";
  ASSERT_EQ(got.grads.size(), want.grads.size());
  for (size_t i = 0; i < want.grads.size(); ++i) {
    EXPECT_LT(difference(got.grads[i], want.grads[i]), tolerance) << "gradient " << i;
  }
}

void expect_equal(const Derivative& got, const Derivative& want) {
  EXPECT_TRUE(at::equal(got.value, want.value)) << "value";
  for (size_t i = 0; i < want.grads.size(); ++i) {
    EXPECT_TRUE(at::equal(got.grads[i], want.grads[i])) << "gradient " << i;
  }
}

std::string describe(const Causal& c) {
  return cat("B ", c.batch, ", L ", c.length, ", C ", c.channels, ", K ", c.width,
             c.silu ? ", silu" : "", c.reverse ? ", reverse" : "");
}

// Lengths around the kernel's tiles and pieces, channels around its slices and vectors.
const std::vector<Causal>& cases() {
  static const std::vector<Causal> all = {
      {1, 1, 1, 4, true, false, true, {}},
      {2, 2, 3, 4, true, true, true, {}},
      {1, 15, 64, 4, true, false, true, {}},
      {2, 16, 65, 4, false, true, false, {16, 3}},
      {3, 17, 37, 4, true, false, true, {0, 17, 1}},
      {2, 130, 5, 1, true, true, false, {}},
      {2, 65, 70, 2, true, false, true, {64, 65}},
      {1, 300, 33, 63, true, true, true, {257}},
      {2, 20, 8, 63, false, false, true, {20, 7}},
      {2, 1023, 66, 4, true, false, true, {1023, 600}},
      {2, 1023, 4, 9, true, true, true, {256, 1000}},
  };
  return all;
}

TEST(CausalConv1d, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  at::manual_seed(1);
  for (const Causal& c : cases()) {
    SCOPED_TRACE(describe(c));
    const auto in = random_inputs(c);
    const at::Tensor cotangent = at::randn_like(in[0]);
    expect_same(differentiate(kernel(c), in, cotangent), differentiate(reference(c), in, cotangent),
                1e-12);
  }
}

TEST(CausalConv1d, GradientsAgreeWithNumericalDifferences) {
  at::manual_seed(2);
  for (const bool reverse : {false, true}) {
    const Causal c = {2, 9, 3, 4, true, reverse, true, {9, 5}};
    const auto in = random_inputs(c);
    const at::Tensor cotangent = at::randn_like(in[0]);
    const Derivative got = differentiate(kernel(c), in, cotangent);
    const auto want = testing::numerical_gradients(kernel(c), in, cotangent);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_LT(difference(got.grads[i], want[i]), 1e-8);
  }
}

// What the backward convolution of a bidirectional block is: the mirror image, without a copy.
TEST(CausalConv1d, ReverseIsTheMirrorImage) {
  at::manual_seed(3);
  const Causal there = {2, 77, 40, 4, true, false, true, {}};
  Causal back = there;
  back.reverse = true;
  const auto in = random_inputs(there);
  const at::Tensor mirrored = kernel(there)({in[0].flip(1), in[1], in[2]}).flip(1);
  EXPECT_LT(difference(kernel(back)(in), mirrored), 1e-14);
}

TEST(CausalConv1d, EveryInstructionSetAndFloat32Agree) {
  at::manual_seed(4);
  for (const Causal& c : cases()) {
    SCOPED_TRACE(describe(c));
    auto in = random_inputs(c);
    const at::Tensor cotangent = at::randn_like(in[0]);
    const Derivative want = differentiate(reference(c), in, cotangent);
    auto single = in;
    for (at::Tensor& x : single) {
      if (x.defined()) x = x.to(at::kFloat);
    }
    for (const Isa most : {Isa::generic, Isa::avx2, Isa::avx512}) {
      limit_isa(most);
      expect_same(differentiate(kernel(c), in, cotangent), want, 1e-12);
      expect_same(differentiate(kernel(c), single, cotangent.to(at::kFloat)), want, 1e-5);
    }
  }
  limit_isa(Isa::amx);
}

TEST(CausalConv1d, TheSameBitsForAnyNumberOfThreads) {
  at::manual_seed(5);
  const Causal c = {3, 600, 200, 4, true, false, true, {600, 0, 300}};
  const auto in = random_inputs(c, at::kFloat);
  const at::Tensor cotangent = at::randn_like(in[0]);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Derivative want = differentiate(kernel(c), in, cotangent);
  for (const int n : {2, 3, 7}) {
    at::set_num_threads(n);
    expect_equal(differentiate(kernel(c), in, cotangent), want);
  }
  at::set_num_threads(threads);
}

// Neither NaN behind a length nor more of it changes a bit in front.
TEST(CausalConv1d, PaddingIsNeverRead) {
  at::manual_seed(6);
  for (const bool reverse : {false, true}) {
    const Causal c = {3, 90, 70, 4, true, reverse, true, {90, 31, 0}};
    auto in = random_inputs(c, at::kFloat);
    const at::Tensor cotangent = at::randn_like(in[0]);
    const Derivative want = differentiate(kernel(c), in, cotangent);

    Causal wide = c;
    wide.length = 400;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    at::Tensor x = at::full({3, 400, 70}, nan), g = x.clone();
    for (int64_t b = 0; b < 3; ++b) {
      x[b].narrow(0, 0, c.lengths[b]).copy_(in[0][b].narrow(0, 0, c.lengths[b]));
      g[b].narrow(0, 0, c.lengths[b]).copy_(cotangent[b].narrow(0, 0, c.lengths[b]));
    }
    Derivative got = differentiate(kernel(wide), {x, in[1], in[2]}, g);
    for (at::Tensor* y : {&got.value, &got.grads[0]}) {
      EXPECT_EQ(y->narrow(1, 90, 310).count_nonzero().item<int64_t>(), 0);
      *y = y->narrow(1, 0, 90);
    }
    EXPECT_TRUE(at::equal(got.value, want.value));
    EXPECT_TRUE(at::equal(got.grads[0], want.grads[0]));
    // The weights' gradients are added in pieces of time, which begin anew at each sequence.
    EXPECT_TRUE(at::equal(got.grads[1], want.grads[1]));
    EXPECT_TRUE(at::equal(got.grads[2], want.grads[2]));
  }
}

TEST(CausalConv1d, NaNInASequenceShows) {
  at::Tensor x = at::zeros({1, 20, 9});
  x[0][5][3] = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor y = causal_conv1d(x, at::ones({9, 4}), {}, {}, true, false);
  EXPECT_EQ(y.isnan().sum().item<int64_t>(), 4);
  EXPECT_TRUE(y[0].select(1, 3).narrow(0, 5, 4).isnan().all().item<bool>());
}

TEST(CausalConv1d, AnyMagnitudeGivesFiniteNumbersNearFloat64s) {
  at::manual_seed(7);
  for (const double scale : {1e-30, 1e-4, 1.0, 30.0, 90.0, 1e4, 1e18, 1e37}) {
    const Causal c = {2, 50, 40, 4, true, false, true, {}};
    auto in = random_inputs(c, at::kFloat);
    in[0] *= scale;
    in[2] *= scale;
    in[1] /= 8;
    const at::Tensor cotangent = at::randn_like(in[0]);
    const Derivative got = differentiate(kernel(c), in, cotangent);
    for (at::Tensor& x : in) x = x.to(at::kDouble);
    const Derivative want = differentiate(reference(c), in, cotangent.to(at::kDouble));
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(got.grads[i].isfinite().all().item<bool>()) << scale;
      // x's sums of four: where they cancel at |x| = 1e4, their rounding is what SiLU's slope sees.
      if (scale <= 90) {
        EXPECT_LT(difference(got.grads[i], want.grads[i]), 1e-4) << scale;
      }
    }
    EXPECT_LT(difference(got.value, want.value), 1e-5) << scale;
  }
}

TEST(CausalConv1d, TakesHalfOfAProjectionAsItLies) {
  at::manual_seed(8);
  const Causal c = {2, 45, 48, 4, true, false, true, {45, 20}};
  auto in = random_inputs(c);
  const at::Tensor cotangent = at::randn_like(in[0]);
  const Derivative want = differentiate(kernel(c), in, cotangent);
  const auto half = [&](const at::Tensor& x) {
    return at::cat({at::randn_like(x), x}, -1).chunk(2, -1)[1];
  };
  const auto channels_first = [](const at::Tensor& x) {
    return x.transpose(1, 2).contiguous().transpose(1, 2);
  };
  const at::Tensor tap_major = in[1].t().contiguous().t(),
                   spaced = in[2].repeat({2}).narrow(0, 48, 48);
  expect_equal(differentiate(kernel(c), {half(in[0]), tap_major, spaced}, half(cotangent)), want);
  expect_equal(
      differentiate(kernel(c), {channels_first(in[0]), in[1], in[2]}, channels_first(cotangent)),
      want);
  // One cotangent for all, as sum()'s backward gives it.
  const at::Tensor ones = at::ones({}, kReal).expand_as(in[0]);
  expect_equal(differentiate(kernel(c), in, ones),
               differentiate(kernel(c), in, at::ones_like(in[0])));
}

TEST(CausalConv1d, KeepsEachTensorsTypeAndComputesInFloat32) {
  at::manual_seed(9);
  const Causal c = {2, 60, 48, 4, true, false, true, {60, 33}};
  const auto in = random_inputs(c, at::kFloat);
  const at::Tensor cotangent = at::randn_like(in[0]);
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor x = in[0].to(type);
    const Derivative got = differentiate(kernel(c), {x, in[1], in[2]}, cotangent.to(type));
    const Derivative exact = differentiate(kernel(c), {x.to(at::kFloat), in[1], in[2]},
                                           cotangent.to(type).to(at::kFloat));
    EXPECT_TRUE(at::equal(got.value, exact.value.to(type)));  // rounded once, at the end
    EXPECT_TRUE(at::equal(got.grads[0], exact.grads[0].to(type)));
    EXPECT_EQ(got.grads[1].scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(got.grads[1], exact.grads[1]));
    expect_same(got, differentiate(kernel(c), in, cotangent), 2e-2);
  }
  const Derivative plain = differentiate(kernel(c), in, cotangent);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const Derivative under = differentiate(kernel(c), in, cotangent);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_EQ(under.value.scalar_type(), at::kFloat);
  expect_equal(under, plain);
}

TEST(CausalConv1d, AnEmptyBatchHasEmptyOutputAndZeroGradients) {
  for (const auto& sizes : std::vector<std::vector<int64_t>>{{0, 5, 3}, {2, 0, 3}}) {
    const Causal c = {sizes[0], sizes[1], sizes[2], 4, true, false, true, {}};
    const auto in = random_inputs(c);
    const Derivative got = differentiate(kernel(c), in, at::randn_like(in[0]));
    EXPECT_EQ(got.value.sizes(), in[0].sizes());
    EXPECT_EQ(got.grads[0].sizes(), in[0].sizes());
    EXPECT_TRUE(at::equal(got.grads[1], at::zeros({3, 4}, kReal)));
    EXPECT_TRUE(at::equal(got.grads[2], at::zeros({3}, kReal)));
  }
}

TEST(CausalConv1d, RefusesASecondDerivative) {
  const at::Tensor x = at::randn({1, 8, 4}).requires_grad_(true);
  const at::Tensor y = causal_conv1d(x, at::randn({4, 4}), {}, {}, true, false);
  EXPECT_THROW(
      torch::autograd::grad({y.sum()}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true),
      Error);
  torch::autograd::grad({y.sum()}, {x});
}

struct Depthwise {
  int64_t batch, length, channels;
  std::vector<int64_t> widths;
  bool causal;
  std::vector<int64_t> lengths;
};

TEST(DepthwiseConv1d, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  at::manual_seed(11);
  for (const Depthwise& c : std::vector<Depthwise>{{2, 40, 70, {3, 5, 7}, false, {40, 9}},
                                                   {2, 40, 70, {3, 5, 7}, true, {40, 9}},
                                                   {1, 1, 1, {9}, false, {}},
                                                   {2, 17, 3, {1}, false, {}},
                                                   {1, 300, 20, {63, 15}, false, {299}},
                                                   {2, 33, 20, {2, 4, 1}, true, {}},
                                                   {1, 16, 8, {7, 7}, false, {}}}) {
    std::vector<at::Tensor> in = {at::randn({c.batch, c.length, c.channels}, kReal),
                                  at::randn({c.channels}, kReal)};
    for (const int64_t width : c.widths) in.push_back(at::randn({c.channels, width}, kReal));
    const auto with = [&](const auto& f) -> TensorFunction {
      return [&](const std::vector<at::Tensor>& x) {
        return f(x[0], std::vector<at::Tensor>(x.begin() + 2, x.end()), x[1], tensor_of(c.lengths),
                 c.causal);
      };
    };
    const at::Tensor cotangent = at::randn_like(in[0]);
    expect_same(differentiate(with(depthwise_conv1d), in, cotangent),
                differentiate(with(depthwise_definition), in, cotangent), 1e-12);
  }
}

template <class F>
std::string refusal(const F& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

TEST(Conv1d, SaysWhichArgumentIsWrong) {
  const at::Tensor x = at::zeros({2, 5, 3}), w = at::zeros({3, 4}), none;
  const auto causal = [&](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
                          const at::Tensor& lengths) {
    return refusal([&] { causal_conv1d(x, w, bias, lengths, true, false); });
  };
  const auto depthwise = [&](const std::vector<at::Tensor>& weights, bool causal) {
    return refusal([&] { depthwise_conv1d(x, weights, {}, {}, causal); });
  };
  EXPECT_EQ(causal(x[0], w, none, none),
            "causal_conv1d: x is Float [5, 3] on cpu, expected [B, L, C] = [any, any, any]");
  EXPECT_EQ(causal(x.to(at::kInt), w, none, none),
            "causal_conv1d: x is Int [2, 5, 3] on cpu, expected a floating type");
  EXPECT_EQ(causal(x, at::zeros({4, 3}), none, none),
            "causal_conv1d: weight is Float [4, 3] on cpu, expected [C, K] = [3, any]");
  EXPECT_EQ(causal(x, at::zeros({3, 64}), none, none),
            "causal_conv1d: weight is Float [3, 64] on cpu, expected a width of 1 to 63");
  EXPECT_EQ(causal(x, w, at::zeros({4}), none),
            "causal_conv1d: bias is Float [4] on cpu, expected [C] = [3]");
  EXPECT_EQ(causal(x, w, none, at::zeros({3}, at::kLong)),
            "causal_conv1d: lengths is Long [3] on cpu, expected [B] = [2]");
  EXPECT_EQ(causal(x, w, none, at::tensor({5, 6}, at::kLong)),
            "causal_conv1d: lengths[1] is 6, expected 0 to 5");
  EXPECT_EQ(depthwise({}, false),
            "depthwise_conv1d: weights is empty, expected at least one filter");
  EXPECT_EQ(
      depthwise({at::zeros({3, 3}), w}, false),
      "depthwise_conv1d: weights[1] is Float [3, 4] on cpu, expected an odd width of 1 to 63");
  EXPECT_EQ(depthwise({at::zeros({3, 3}), w}, true), "accepted");
}

}  // namespace
}  // namespace ribo::kernels
