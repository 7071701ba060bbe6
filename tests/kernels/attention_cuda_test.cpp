// CPU = CUDA, where there is a GPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "support/gpu.h"

namespace ribo::kernels {
namespace {

using Inputs = std::vector<at::Tensor>;  // q, k, v, bias, lengths

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Size {
  int64_t batch, length, heads, width;
};

struct Operator {
  std::string name;
  testing::TensorFunction kernel;
  bool pairs = false;    // q, k, v are [B, L, L, H, d], bias [B, L, L, H]
  bool columns = false;  // which of the pairs' positions is the query's

  Inputs inputs(const Size& s) const {
    at::manual_seed(1);
    const auto heads = [&] {
      return pairs ? at::randn({s.batch, s.length, s.length, s.heads, s.width})
                   : at::randn({s.batch, s.heads, s.length, s.width});
    };
    const at::Tensor q = heads(), k = heads(), v = heads();
    const at::Tensor bias = at::randn({s.batch, s.heads, s.length, s.length});
    return {q, k, v, pairs ? bias.permute({0, 2, 3, 1}).contiguous() : bias, {}};
  }
  // Which of the elements of q's or the bias's shape a bool [B, L] of positions covers.
  at::Tensor in_q(const at::Tensor& positions) const {
    if (!pairs) return positions.unsqueeze(1).unsqueeze(3);
    return positions.unsqueeze(1).logical_or(positions.unsqueeze(2)).unsqueeze(3).unsqueeze(4);
  }
  at::Tensor in_bias(const at::Tensor& positions) const {
    const at::Tensor both = positions.unsqueeze(1).logical_or(positions.unsqueeze(2));
    return both.unsqueeze(pairs ? 3 : 1);
  }
};

std::vector<Operator> operators() {
  const auto triangle = [](bool columns) {
    return [columns](const Inputs& x) {
      return triangle_attention(x[0], x[1], x[2], x[3], x[4], columns);
    };
  };
  return {{"pair_bias_attention",
           [](const Inputs& x) { return pair_bias_attention(x[0], x[1], x[2], x[3], x[4]); }},
          {"triangle_attention by rows", triangle(false), true, false},
          {"triangle_attention by columns", triangle(true), true, true}};
}

class AttentionCuda : public testing::CudaTest {};

// From none to all of the positions.
at::Tensor ragged(int64_t batch, int64_t length) {
  return at::linspace(0, static_cast<double>(length), batch, at::kDouble).to(at::kLong);
}

TEST_F(AttentionCuda, AgreesWithTheCpu) {
  for (const Operator& op : operators()) {
    for (const Size& s : {Size{3, 1, 2, 8}, {3, 16, 4, 16}, {3, 17, 1, 5}, {3, 40, 2, 32}}) {
      Inputs in = op.inputs(s);
      for (const bool padded : {false, true}) {
        in[4] = padded ? ragged(s.batch, s.length) : at::Tensor();
        for (const auto& [type, tolerance] :
             {std::pair(at::kDouble, 1e-11), {at::kFloat, 1e-4}, {at::kBFloat16, 2e-2}}) {
          const Inputs typed = testing::in_type(in, type);
          testing::expect_same_on_gpu(
              op.kernel, typed, at::randn_like(typed[0]), tolerance,
              cat(op.name, ", ", type, ", L ", s.length, padded ? ", padded" : ""));
        }
      }
    }
  }
}

TEST_F(AttentionCuda, AgreesWithTheCpuAtTheSizesOfRibonanzaNet) {
  for (const Operator& op : operators()) {
    const Inputs in = op.inputs(op.pairs ? Size{1, 100, 4, 16} : Size{2, 177, 8, 32});
    testing::expect_same_on_gpu(op.kernel, in, at::randn_like(in[0]), 1e-4, op.name);
    const Inputs narrow = testing::in_type(in, at::kBFloat16);
    testing::expect_same_on_gpu(op.kernel, narrow, at::randn_like(narrow[0]), 2e-2,
                                op.name + ", bfloat16");
  }
}

// Wider than a product's operands, and longer than a block's keys.
TEST_F(AttentionCuda, AgreesWithTheCpuAtOtherSizes) {
  for (const Operator& op : operators()) {
    for (const Size& s : {Size{2, 37, 2, 64}, {2, 40, 3, 24}, {1, 200, 2, 16}}) {
      Inputs in = op.inputs(s);
      for (const bool padded : {false, true}) {
        if (padded) in[4] = at::full({s.batch}, s.length - 3, at::kLong);
        for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
          const Inputs typed = testing::in_type(in, type);
          testing::expect_same_on_gpu(
              op.kernel, typed, at::randn_like(typed[0]), 2e-2,
              cat(op.name, ", ", type, ", L ", s.length, padded ? ", padded" : ""));
        }
      }
    }
  }
}

TEST_F(AttentionCuda, TheSameBitsEveryTime) {
  for (const Operator& op : operators()) {
    Inputs in = testing::in_type(op.inputs({2, 130, 4, 16}), at::kBFloat16);
    in[4] = at::tensor({130, 77}, at::kLong);
    const at::Tensor cotangent = at::randn_like(in[0]);
    const auto one = testing::differentiate_on(at::kCUDA, op.kernel, in, cotangent);
    const auto two = testing::differentiate_on(at::kCUDA, op.kernel, in, cotangent);
    EXPECT_TRUE(one.value.equal(two.value)) << op.name;
    for (size_t i = 0; i < one.grads.size(); ++i) {
      EXPECT_TRUE(one.grads[i].equal(two.grads[i])) << op.name << ", gradient " << i;
    }
  }
}

// The same seed draws the same weights to drop in every type.
TEST_F(AttentionCuda, DropoutIsTheSameInEveryType) {
  const Inputs in = Operator{}.inputs({2, 77, 4, 32});
  const at::Tensor cotangent = at::randn_like(in[0]);
  const auto dropped = [&](at::ScalarType type) {
    const auto kernel = [](const Inputs& x) {
      at::manual_seed(3);
      return pair_bias_attention(x[0], x[1], x[2], x[3], at::tensor({77, 50}, at::kLong), 0.2);
    };
    const Inputs typed = testing::in_type(in, type);
    return testing::differentiate_on(at::kCUDA, kernel, typed, cotangent.to(type));
  };
  const auto want = dropped(at::kFloat);
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const auto got = dropped(type);
    EXPECT_LE(testing::difference(got.value, want.value), 2e-2) << type;
    for (size_t i = 0; i < want.grads.size(); ++i) {
      EXPECT_LE(testing::difference(got.grads[i], want.grads[i]), 2e-2) << type << ", " << i;
    }
  }
}

// As under autocast.
TEST_F(AttentionCuda, AgreesWithTheCpuWithABiasOfFloat32) {
  for (const Operator& op : operators()) {
    Inputs in = testing::in_type(op.inputs({2, 33, 4, 16}), at::kBFloat16);
    in[3] = in[3].to(at::kFloat);
    testing::expect_same_on_gpu(op.kernel, in, at::randn_like(in[0]), 2e-2, op.name);
  }
}

// Some weights of every query, and all of one's.
TEST_F(AttentionCuda, ABiasOfMinusInfinityHides) {
  for (const Operator& op : operators()) {
    Inputs in = op.inputs({2, 20, 2, 8});
    const at::Tensor hidden = at::rand({2, 2, 20, 20}).lt(0.3);
    hidden.select(2, 7).fill_(true);
    in[3] = in[3].masked_fill(op.pairs ? hidden.permute({0, 2, 3, 1}) : hidden, -kInfinity);
    for (const auto& [type, tolerance] : {std::pair(at::kFloat, 1e-4), {at::kBFloat16, 2e-2}}) {
      const Inputs typed = testing::in_type(in, type);
      const auto got = testing::expect_same_on_gpu(op.kernel, typed, at::randn_like(typed[0]),
                                                   tolerance, cat(op.name, ", ", type));
      const at::Tensor of_that = got.value.select(op.columns ? 1 : 2, 7);
      EXPECT_EQ(of_that.count_nonzero().item<int64_t>(), 0) << op.name;
    }
  }
}

TEST_F(AttentionCuda, PaddingIsNeverRead) {
  for (const Operator& op : operators()) {
    for (const auto& [type, tolerance] : {std::pair(at::kFloat, 1e-4), {at::kBFloat16, 2e-2}}) {
      const Size s{3, 20, 2, 8};
      Inputs clean = testing::in_type(op.inputs(s), type);
      clean[4] = ragged(s.batch, s.length);
      const at::Tensor outside = at::arange(s.length).ge(clean[4].unsqueeze(1));
      Inputs dirty = clean;
      for (const size_t i : {0, 1, 2}) dirty[i] = clean[i].masked_fill(op.in_q(outside), NAN);
      dirty[3] = clean[3].masked_fill(op.in_bias(outside), NAN);
      const at::Tensor cotangent = at::randn_like(clean[0]);
      const auto want = testing::differentiate_on(at::kCPU, op.kernel, clean, cotangent);
      const auto got = testing::differentiate_on(at::kCUDA, op.kernel, dirty,
                                                 cotangent.masked_fill(op.in_q(outside), NAN));
      EXPECT_LE(testing::difference(got.value, want.value), tolerance) << op.name;
      for (size_t i = 0; i < want.grads.size(); ++i) {
        EXPECT_LE(testing::difference(got.grads[i], want.grads[i]), tolerance)
            << op.name << ", gradient " << i;
      }
    }
  }
}

// The fine-tuning of a pair track alone.
TEST_F(AttentionCuda, OnlyTheBiasMayWantAGradient) {
  for (const Operator& op : operators()) {
    Inputs in = op.inputs({2, 24, 4, 16});
    in[4] = ragged(2, 24);
    const at::Tensor cotangent = at::randn_like(in[0]);
    const at::Tensor want = testing::differentiate(op.kernel, in, cotangent).grads[3];
    for (at::Tensor& x : in) x = x.to(at::kCUDA);
    in[3].set_requires_grad(true);
    const auto got = torch::autograd::grad({op.kernel(in)}, {in[3]}, {cotangent.to(at::kCUDA)});
    EXPECT_LE(testing::difference(got[0].cpu(), want), 1e-4) << op.name;
  }
}

}  // namespace
}  // namespace ribo::kernels
