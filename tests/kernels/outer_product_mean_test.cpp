#include "outer_product_mean/outer_product_mean.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/isa.h"
#include "outer_product_mean/outer_product_mean_aten.h"
#include "support/gradients.h"
#include "support/memory.h"
#include "train/precision.h"

namespace ribo::kernels {
namespace {

using testing::difference;
using testing::differentiate;
using Inputs = std::vector<at::Tensor>;  // a, b, weight, bias, residual, lengths

const std::vector<std::string> kNames = {"a", "b", "weight", "bias", "residual"};

Inputs random_inputs(int64_t batch, int64_t length, int64_t width, int64_t channels,
                     at::ScalarType type = at::kDouble) {
  const at::TensorOptions real(type);
  return {at::randn({batch, length, width}, real),
          at::randn({batch, length, width}, real),
          at::randn({channels, width * width}, real),
          at::randn({channels}, real),
          at::randn({batch, length, length, channels}, real),
          at::Tensor()};
}

at::Tensor kernel(const Inputs& x) {
  return outer_product_mean(x[0], x[1], x[2], x[3], x[4], x[5]);
}

at::Tensor pairs_inside(const at::Tensor& lengths, int64_t length) {
  const at::Tensor inside = at::arange(length) < lengths.unsqueeze(1);
  return inside.unsqueeze(1).logical_and(inside.unsqueeze(2)).unsqueeze(3);
}

// As RibonanzaNet computes it: the outer product [B, L, L, K K], then its projection.
at::Tensor definition(const Inputs& x) {
  const int64_t batch = x[0].size(0), length = x[0].size(1), width = x[0].size(2);
  const at::Tensor outer =
      at::einsum("bid,bjc->bijcd", {x[0], x[1]}).reshape({batch, length, length, width * width});
  const at::Tensor out = at::linear(outer, x[2], x[3]) + x[4];
  if (!x[5].defined()) return out;
  return at::where(pairs_inside(x[5], length), out, at::zeros({}, out.options()));
}

// With the gradients that the device without a kernel of its own uses.
testing::Derivative aten(const Inputs& x, const at::Tensor& cotangent) {
  const OuterProductTensors in{x[0], x[1], x[2], x[3], x[4], x[5]};
  const OuterProductGrads g = outer_product_backward_aten(in, cotangent);
  return {outer_product_forward_aten(in), {g.a, g.b, g.weight, g.bias, g.residual}};
}

void expect_close(const testing::Derivative& got, const testing::Derivative& want, double tolerance,
                  const std::string& what) {
  EXPECT_LT(difference(got.value, want.value), tolerance) << what;
  for (size_t i = 0; i < want.grads.size(); ++i) {
    EXPECT_LT(difference(got.grads[i], want.grads[i]), tolerance) << kNames[i] << ", " << what;
  }
}

TEST(OuterProductMean, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  at::manual_seed(1);
  for (const int64_t length : {1, 2, 15, 16, 17, 40}) {
    for (const auto& [width, channels] : {std::pair{1, 1}, {5, 3}, {32, 64}, {33, 17}}) {
      if (length == 40 && width > 5) continue;
      Inputs in = random_inputs(2, length, width, channels);
      const at::Tensor cotangent = at::randn_like(in[4]);
      const std::string what = cat("L ", length, ", K ", width, ", C ", channels);
      expect_close(differentiate(kernel, in, cotangent), differentiate(definition, in, cotangent),
                   1e-12, what);
      in[5] = at::tensor({length / 2, length}, at::kLong);
      const testing::Derivative want = differentiate(definition, in, cotangent);
      expect_close(differentiate(kernel, in, cotangent), want, 1e-12, what + ", ragged");
      expect_close(aten(in, cotangent), want, 1e-12, what + ", ragged, by LibTorch's operators");
    }
  }
}

TEST(OuterProductMean, GradientsAgreeWithNumericalDifferences) {
  at::manual_seed(2);
  Inputs in = random_inputs(2, 5, 3, 4);
  in[5] = at::tensor({3, 5}, at::kLong);
  const at::Tensor cotangent = at::randn_like(in[4]);
  const auto numeric = testing::numerical_gradients(kernel, in, cotangent);
  const auto got = differentiate(kernel, in, cotangent).grads;
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_LT(difference(got[i], numeric[i]), 1e-7) << kNames[i];
  }
}

TEST(OuterProductMean, EveryInstructionSetAgreesInFloat32) {
  at::manual_seed(3);
  for (const int64_t channels : {64, 10}) {
    Inputs in = random_inputs(2, 35, 32, channels, at::kFloat);
    in[5] = at::tensor({35, 20}, at::kLong);
    const at::Tensor cotangent = at::randn_like(in[4]);
    Inputs wide;
    for (const at::Tensor& x : in) wide.push_back(x.is_floating_point() ? x.to(at::kDouble) : x);
    const testing::Derivative want = differentiate(definition, wide, cotangent.to(at::kDouble));
    for (const Isa most : {Isa::generic, Isa::avx2, Isa::avx512}) {
      limit_isa(most);
      expect_close(differentiate(kernel, in, cotangent), want, 2e-6,
                   cat("instruction set ", static_cast<int>(isa()), ", C ", channels));
    }
  }
}

TEST(OuterProductMean, ResultsDoNotDependOnTheNumberOfThreads) {
  at::manual_seed(4);
  const Inputs in = random_inputs(1, 50, 32, 64, at::kFloat);
  const at::Tensor cotangent = at::randn_like(in[4]);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const testing::Derivative one = differentiate(kernel, in, cotangent);
  at::set_num_threads(3);
  const testing::Derivative three = differentiate(kernel, in, cotangent);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one.value, three.value));
  // a and weight are left to the matrix products of LibTorch.
  for (const size_t i : {1, 3, 4})
    EXPECT_TRUE(at::equal(one.grads[i], three.grads[i])) << kNames[i];
}

TEST(OuterProductMean, PaddingIsNeverRead) {
  at::manual_seed(5);
  Inputs clean = random_inputs(3, 9, 4, 6);
  clean[5] = at::tensor({9, 4, 0}, at::kLong);
  Inputs dirty = clean;
  const at::Tensor inside = at::arange(9) < clean[5].unsqueeze(1);
  for (const size_t i : {0, 1}) {
    dirty[i] = clean[i].masked_fill(inside.logical_not().unsqueeze(2), NAN);
  }
  const at::Tensor outside = pairs_inside(clean[5], 9).logical_not();
  dirty[4] = clean[4].masked_fill(outside, NAN);
  const at::Tensor cotangent = at::randn_like(clean[4]);
  const testing::Derivative want = differentiate(kernel, clean, cotangent);
  const at::Tensor bad = cotangent.masked_fill(outside, NAN);
  for (const testing::Derivative& got : {differentiate(kernel, dirty, bad), aten(dirty, bad)}) {
    expect_close(got, want, 1e-12, "NaN in the padding");
    EXPECT_EQ(got.value.masked_select(outside).count_nonzero().item<int64_t>(), 0);
    EXPECT_EQ(got.grads[4].masked_select(outside).count_nonzero().item<int64_t>(), 0);
    for (const size_t i : {0, 1}) {
      const at::Tensor there = inside.logical_not().unsqueeze(2);
      EXPECT_EQ(got.grads[i].masked_select(there).count_nonzero().item<int64_t>(), 0) << kNames[i];
    }
  }
}

TEST(OuterProductMean, NaNInsideShows) {
  Inputs in = random_inputs(1, 7, 3, 4);
  in[0][0][2][1] = NAN;
  const at::Tensor out = kernel(in);
  EXPECT_TRUE(out[0][2].isnan().all().item<bool>());
  EXPECT_FALSE(out[0][3].isnan().any().item<bool>());
}

// Beside the residual's size only a few [B, L, C, K], however long the sequence.
TEST(OuterProductMean, NeverMakesTheOuterProduct) {
  const int64_t length = 96;
  const Inputs in = random_inputs(1, length, 32, 8, at::kFloat);
  const at::Tensor cotangent = at::randn_like(in[4]);
  const int64_t pairs = length * length * 8 * 4, outer = length * length * 32 * 32 * 4;
  testing::MemoryCounter memory;
  differentiate(kernel, in, cotangent);
  EXPECT_LT(memory.peak(), 12 * pairs);
  EXPECT_LT(memory.peak(), outer / 8);
}

TEST(OuterProductMean, KeepsOnlyItsArguments) {
  const Inputs in = random_inputs(1, 40, 32, 64, at::kFloat);
  Inputs leaves;
  for (size_t i = 0; i < kNames.size(); ++i) {
    leaves.push_back(in[i].detach().requires_grad_(true));
  }
  leaves.push_back(in[5]);
  testing::MemoryCounter memory;
  const at::Tensor out = kernel(leaves);
  EXPECT_LT(memory.live(), static_cast<int64_t>(out.nbytes()) + 4096);
}

TEST(OuterProductMean, WorksWithoutBiasAndResidualAndOnAnEmptyBatch) {
  at::manual_seed(6);
  Inputs in = random_inputs(2, 6, 3, 5);
  in[3] = at::zeros_like(in[3]);
  in[4] = at::zeros_like(in[4]);
  const at::Tensor cotangent = at::randn_like(in[4]);
  const testing::Derivative want = differentiate(definition, in, cotangent);
  in[3] = in[4] = at::Tensor();
  const testing::Derivative got = differentiate(kernel, in, cotangent);
  EXPECT_LT(difference(got.value, want.value), 1e-12);
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(difference(got.grads[i], want.grads[i]), 1e-12);

  const Inputs none = random_inputs(0, 6, 3, 5);
  const testing::Derivative empty = differentiate(kernel, none, none[4]);
  EXPECT_EQ(empty.value.sizes(), none[4].sizes());
  EXPECT_EQ(empty.grads[2].count_nonzero().item<int64_t>(), 0);
}

TEST(OuterProductMean, AcceptsAnyStrides) {
  at::manual_seed(7);
  const Inputs in = random_inputs(2, 7, 4, 6);
  Inputs strided;
  for (const at::Tensor& x : in) {
    strided.push_back(x.defined() ? x.transpose(0, -1).contiguous().transpose(0, -1) : x);
  }
  const at::Tensor cotangent = at::ones({}, at::kDouble).expand({2, 7, 7, 6});
  expect_close(differentiate(kernel, strided, cotangent), differentiate(definition, in, cotangent),
               1e-12, "strided");
}

// Autocast rounds operands where the CPU can; narrow inputs are widened, and the residual's type is
// returned.
TEST(OuterProductMean, AutocastRoundsOperandsOfProductsWhereTheCpuCan) {
  at::manual_seed(8);
  const Isa best = isa();
  const Inputs in = random_inputs(2, 20, 32, 16, at::kFloat);
  const at::Tensor cotangent = at::randn_like(in[4]);
  const testing::Derivative want = differentiate(kernel, in, cotangent);
  Inputs narrow = in;
  for (size_t i = 0; i < 2; ++i) narrow[i] = in[i].to(at::kBFloat16);
  for (const Isa most : {Isa::avx512, Isa::bf16, Isa::amx}) {
    limit_isa(most);
    if (isa() != most && most != Isa::avx512) continue;
    const AutocastScope autocast(at::kCPU, "bf16");
    const testing::Derivative got = differentiate(kernel, in, cotangent);
    EXPECT_EQ(at::equal(got.value, want.value), isa() <= Isa::avx512);
    expect_close(got, want, 2e-2, "autocast");
    const testing::Derivative mixed = differentiate(kernel, narrow, cotangent);
    EXPECT_EQ(mixed.value.scalar_type(), at::kFloat);
    EXPECT_EQ(mixed.grads[0].scalar_type(), at::kBFloat16);
    EXPECT_EQ(mixed.grads[2].scalar_type(), at::kFloat);
    expect_close(mixed, want, 2e-2, "bfloat16");
  }
  limit_isa(best);
}

TEST(OuterProductMean, LargeMagnitudesDoNotOverflow) {
  at::manual_seed(9);
  for (const double size : {1e-12, 1.0, 1e12}) {
    Inputs in = random_inputs(1, 20, 8, 16, at::kFloat);
    for (const size_t i : {0, 1}) in[i].mul_(size);
    in[4].mul_(size * size);
    Inputs wide;
    for (const at::Tensor& x : in) wide.push_back(x.defined() ? x.to(at::kDouble) : x);
    const at::Tensor want = definition(wide), got = kernel(in).to(at::kDouble);
    EXPECT_LT((got - want).abs().max().item<double>() / want.abs().max().item<double>(), 1e-5);
  }
}

std::string refusal(const Inputs& in) {
  try {
    kernel(in);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(OuterProductMean, SaysWhichArgumentIsWrong) {
  const Inputs good = random_inputs(2, 5, 3, 4, at::kFloat);
  Inputs in = good;
  in[1] = in[1].narrow(1, 0, 4);
  EXPECT_EQ(refusal(in),
            "outer_product_mean: b is Float [2, 4, 3] on cpu, expected [B, L, K] = [2, 5, 3]");
  in = good;
  in[2] = in[2].narrow(1, 0, 8);
  EXPECT_EQ(refusal(in),
            "outer_product_mean: weight is Float [4, 8] on cpu, expected [C, K K] = [any, 9]");
  in = good;
  in[3] = at::zeros({4}, at::kLong);
  EXPECT_EQ(refusal(in), "outer_product_mean: bias is Long [4] on cpu, expected a floating type");
  in = good;
  in[5] = at::tensor({5, 6}, at::kLong);
  EXPECT_EQ(refusal(in), "outer_product_mean: lengths[1] is 6, expected 0 to 5");
}

TEST(OuterProductMean, RefusesASecondDerivative) {
  Inputs in = random_inputs(1, 3, 2, 2);
  in[0].set_requires_grad(true);
  const at::Tensor y = kernel(in).sum();
  EXPECT_THROW(
      torch::autograd::grad({y}, {in[0]}, {}, /*retain_graph=*/true, /*create_graph=*/true), Error);
}

}  // namespace
}  // namespace ribo::kernels
