#include "triangle_multiply/triangle_multiply.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "common/isa.h"
#include "common/lengths.h"
#include "train/precision.h"
#include "triangle_arguments.h"
#include "triangle_multiply/triangle_multiply_aten.h"

namespace ribo::kernels {
namespace {

const std::vector<std::string> kNames = {"x",
                                         "norm weight",
                                         "norm bias",
                                         "left weight",
                                         "left bias",
                                         "left gate",
                                         "left gate bias",
                                         "right weight",
                                         "right bias",
                                         "right gate",
                                         "right gate bias",
                                         "out gate",
                                         "out gate bias",
                                         "out norm weight",
                                         "out norm bias",
                                         "out weight",
                                         "out bias"};

// x, then TriangleWeights' members in their order.
using Arguments = std::vector<at::Tensor>;

Arguments random_arguments(int64_t batch, int64_t length, int64_t channels, int64_t hidden) {
  return testing::random_triangle(batch, length, channels, hidden, at::kDouble);
}

TriangleWeights weights_of(const Arguments& a) {
  return {a[1], a[2],  a[3],  a[4],  a[5],  a[6],  a[7],  a[8],
          a[9], a[10], a[11], a[12], a[13], a[14], a[15], a[16]};
}

using Update =
    std::function<at::Tensor(const Arguments&, const at::Tensor& lengths, bool outgoing)>;

at::Tensor ours(const Arguments& a, const at::Tensor& lengths, bool outgoing) {
  return triangle_multiply(a[0], weights_of(a), lengths, outgoing);
}

// The definition; autograd differentiates it.
at::Tensor definition(const Arguments& a, const at::Tensor& lengths, bool outgoing) {
  const int64_t length = a[0].size(1);
  const at::Tensor mask = lengths.defined() ? at::arange(length).unsqueeze(0) < lengths.unsqueeze(1)
                                            : at::ones({a[0].size(0), length}, at::kBool);
  const at::Tensor inside = (mask.unsqueeze(2) & mask.unsqueeze(1)).unsqueeze(3);
  const auto gate = [&](const at::Tensor& x, size_t i) {
    return at::sigmoid(at::linear(x, a[i], a[i + 1]));
  };
  const at::Tensor m = inside.to(a[0].scalar_type());
  const at::Tensor x =
      at::layer_norm(a[0].masked_fill(~inside, 0), {a[0].size(3)}, a[1], a[2], 1e-5);
  const at::Tensor left = at::linear(x, a[3], a[4]) * m * gate(x, 5);
  const at::Tensor right = at::linear(x, a[7], a[8]) * m * gate(x, 9);
  at::Tensor z = outgoing ? at::einsum("bikd,bjkd->bijd", {left, right})
                          : at::einsum("bkjd,bkid->bijd", {left, right});
  z = at::layer_norm(z, {a[13].size(0)}, a[13], a[14], 1e-5) * gate(x, 11);
  return at::linear(z, a[15], a[16]).masked_fill(~inside, 0);
}

struct Result {
  at::Tensor y;
  std::vector<at::Tensor> grads;
};

Result differentiate(const Update& f, const Arguments& a, const at::Tensor& cotangent,
                     const at::Tensor& lengths, bool outgoing) {
  Arguments leaves;
  for (const at::Tensor& x : a) leaves.push_back(x.detach().clone().set_requires_grad(true));
  const at::Tensor y = f(leaves, lengths, outgoing);
  return {y.detach(), torch::autograd::grad({y}, leaves, {cotangent})};
}

Arguments to(const Arguments& a, at::ScalarType type) {
  Arguments out;
  for (const at::Tensor& x : a) out.push_back(x.to(type));
  return out;
}

// Relative to the largest value; or absolute, where one channel normalises to its bias and the
// gradients behind it are rounding alone.
double difference(const at::Tensor& a, const at::Tensor& b, double least = 1e-30) {
  if (b.numel() == 0) return 0;
  const at::Tensor want = b.to(at::kDouble);
  return (a.to(at::kDouble) - want).abs().max().item<double>() /
         std::max(least, want.abs().max().item<double>());
}

void expect_near(const Result& got, const Result& want, double tolerance, const std::string& what) {
  EXPECT_LT(difference(got.y, want.y), tolerance) << what;
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_EQ(got.grads[i].sizes(), want.grads[i].sizes()) << kNames[i];
    EXPECT_LT(difference(got.grads[i], want.grads[i], 1), tolerance) << kNames[i] << ", " << what;
  }
}

void expect_equal(const Result& got, const Result& want, const std::string& what) {
  EXPECT_TRUE(at::equal(got.y, want.y)) << what;
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_TRUE(at::equal(got.grads[i], want.grads[i])) << kNames[i] << ", " << what;
  }
}

struct Size {
  int64_t batch, length, channels, hidden;
};
std::string text(const Size& s, bool outgoing) {
  return cat("B ", s.batch, ", L ", s.length, ", C ", s.channels, ", H ", s.hidden,
             outgoing ? ", outgoing" : ", ingoing");
}

// Lengths around a tile's and a vector's, widths that no vector divides.
const std::vector<Size> kSizes = {{1, 1, 8, 8},   {2, 2, 3, 5},   {1, 8, 16, 16}, {1, 15, 4, 8},
                                  {2, 16, 6, 4},  {1, 17, 20, 9}, {2, 33, 5, 7},  {1, 21, 33, 1},
                                  {1, 20, 1, 12}, {1, 65, 8, 3}};

TEST(TriangleMultiply, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  at::manual_seed(1);
  for (const Size& s : kSizes) {
    for (const bool outgoing : {true, false}) {
      const Arguments a = random_arguments(s.batch, s.length, s.channels, s.hidden);
      const at::Tensor cotangent = at::randn_like(a[0]);
      expect_near(differentiate(ours, a, cotangent, {}, outgoing),
                  differentiate(definition, a, cotangent, {}, outgoing), 1e-10, text(s, outgoing));
    }
  }
}

TEST(TriangleMultiply, GradientsAgreeWithNumericalDifferences) {
  at::manual_seed(2);
  for (const bool outgoing : {true, false}) {
    const Arguments a = random_arguments(2, 4, 3, 2);
    const at::Tensor lengths = at::tensor({4, 3}, at::kLong), cotangent = at::randn_like(a[0]);
    const Result got = differentiate(ours, a, cotangent, lengths, outgoing);
    constexpr double kStep = 1e-6;
    for (size_t i = 0; i < a.size(); ++i) {
      at::Tensor numeric = at::empty_like(a[i]);
      for (int64_t j = 0; j < numeric.numel(); ++j) {
        double value[2];
        for (int side = 0; side < 2; ++side) {
          Arguments moved = a;
          moved[i] = a[i].clone();
          moved[i].view(-1)[j] += side == 0 ? kStep : -kStep;
          value[side] = (ours(moved, lengths, outgoing) * cotangent).sum().item<double>();
        }
        numeric.view(-1)[j] = (value[0] - value[1]) / (2 * kStep);
      }
      EXPECT_LT(difference(got.grads[i], numeric, 1), 1e-6) << kNames[i];
    }
  }
}

TEST(TriangleMultiply, Float32AgreesOnEveryInstructionSet) {
  at::manual_seed(3);
  const Isa best = isa();
  for (const Size& s : std::vector<Size>{{1, 49, 64, 64}, {2, 19, 12, 20}, {1, 17, 31, 33}}) {
    for (const bool outgoing : {true, false}) {
      const Arguments a = random_arguments(s.batch, s.length, s.channels, s.hidden);
      const at::Tensor cotangent = at::randn_like(a[0]);
      const Result want = differentiate(definition, a, cotangent, {}, outgoing);
      for (const Isa most : {Isa::generic, Isa::avx2, Isa::avx512}) {
        limit_isa(most);
        expect_near(differentiate(ours, to(a, at::kFloat), cotangent.to(at::kFloat), {}, outgoing),
                    want, 2e-5,
                    cat(text(s, outgoing), ", instruction set ", static_cast<int>(isa())));
      }
      limit_isa(best);
    }
  }
}

TEST(TriangleMultiply, ASequenceInAPaddedBatchIsAsAlone) {
  at::manual_seed(4);
  const int64_t length = 19;
  const std::vector<int64_t> ends = {19, 0, 1, 16, 7};
  const at::Tensor lengths = at::tensor(ends, at::kLong);
  for (const bool outgoing : {true, false}) {
    Arguments a = to(random_arguments(5, length, 9, 6), at::kFloat);
    at::Tensor cotangent = at::randn_like(a[0]);
    const at::Tensor mask = at::arange(length).unsqueeze(0) < lengths.unsqueeze(1);
    const at::Tensor outside = ~(mask.unsqueeze(2) & mask.unsqueeze(1)).unsqueeze(3);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    a[0].masked_fill_(outside, nan);
    cotangent.masked_fill_(outside, nan);
    const Result got = differentiate(ours, a, cotangent, lengths, outgoing);
    EXPECT_EQ(got.y.masked_select(outside).abs().sum().item<double>(), 0);
    EXPECT_EQ(got.grads[0].masked_select(outside).abs().sum().item<double>(), 0);

    std::vector<at::Tensor> sums(kNames.size());
    for (size_t b = 0; b < ends.size(); ++b) {
      const auto own = [&](const at::Tensor& x) {
        return x.narrow(0, static_cast<int64_t>(b), 1).narrow(1, 0, ends[b]).narrow(2, 0, ends[b]);
      };
      Arguments alone = a;
      alone[0] = own(a[0]);
      const Result want = differentiate(ours, alone, own(cotangent).contiguous(), {}, outgoing);
      EXPECT_TRUE(at::equal(own(got.y), want.y)) << "length " << ends[b];
      EXPECT_TRUE(at::equal(own(got.grads[0]), want.grads[0])) << "length " << ends[b];
      for (size_t i = 1; i < kNames.size(); ++i) {
        const at::Tensor d = want.grads[i].to(at::kDouble);
        sums[i] = sums[i].defined() ? sums[i] + d : d;
      }
    }
    for (size_t i = 1; i < kNames.size(); ++i) {
      EXPECT_LT(difference(got.grads[i], sums[i]), 1e-5) << kNames[i];
    }
  }
}

// Larger than what is kept in the caches, and a last tile that is not whole.
TEST(TriangleMultiply, LargeTensorsAgreeWithTheDefinition) {
  at::manual_seed(11);
  const Arguments a = random_arguments(1, 131, 64, 64);
  const at::Tensor cotangent = at::randn_like(a[0]);
  for (const bool outgoing : {true, false}) {
    expect_near(differentiate(ours, to(a, at::kFloat), cotangent.to(at::kFloat), {}, outgoing),
                differentiate(definition, a, cotangent, {}, outgoing), 2e-5,
                outgoing ? "outgoing" : "ingoing");
  }
}

// A dropout's factors for pairs [B, L, L, C]: one draw for all rows, for all columns, for neither.
at::Tensor factors(const at::Tensor& x, const std::string& wise) {
  std::vector<int64_t> sizes = x.sizes().vec();
  if (wise == "row") sizes[1] = 1;
  if (wise == "column") sizes[2] = 1;
  return at::dropout(at::ones(sizes, x.options()), 0.3, true);
}

TEST(TriangleMultiply, AddsTheResidualAndDropsOut) {
  at::manual_seed(12);
  for (const Size& s : std::vector<Size>{{2, 17, 20, 9}, {1, 21, 33, 4}, {1, 1, 8, 8}}) {
    for (const std::string wise : {"row", "column", "neither", "nothing"}) {
      for (const bool padded : {false, true}) {
        const Arguments a = random_arguments(s.batch, s.length, s.channels, s.hidden);
        const at::Tensor keep = wise == "nothing" ? at::Tensor() : factors(a[0], wise);
        const at::Tensor cotangent = at::randn_like(a[0]);
        const at::Tensor lengths =
            padded ? at::randint(0, s.length + 1, {s.batch}, at::kLong) : at::Tensor();
        const Result got = differentiate(
            [&](const Arguments& x, const at::Tensor& ends, bool outgoing) {
              return add_triangle_multiply(x[0], weights_of(x), ends, outgoing, keep);
            },
            a, cotangent, lengths, true);
        const Result want = differentiate(
            [&](const Arguments& x, const at::Tensor& ends, bool outgoing) {
              const at::Tensor y = definition(x, ends, outgoing);
              return keep.defined() ? x[0] + y * keep : x[0] + y;
            },
            a, cotangent, lengths, true);
        expect_near(got, want, 1e-10, cat(text(s, true), ", ", wise, padded ? ", padded" : ""));
      }
    }
  }
}

TEST(TriangleMultiply, RefusesFactorsThatDoNotFit) {
  const Arguments a = to(random_arguments(2, 5, 4, 4), at::kFloat);
  const auto refuses = [&](const at::Tensor& keep, const std::string& expected) {
    try {
      add_triangle_multiply(a[0], weights_of(a), {}, true, keep);
      ADD_FAILURE() << "accepted " << keep.sizes();
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("keep"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(expected), std::string::npos) << e.what();
    }
  };
  refuses(at::ones({2, 5, 5}), "1 for either length");
  refuses(at::ones({1, 5, 5, 4}), "1 for either length");
  refuses(at::ones({2, 5, 5, 1}), "1 for either length");
  refuses(at::ones({2, 1, 5, 4}, at::kDouble), "x's type");
  refuses(at::ones({2, 1, 5, 4}).set_requires_grad(true), "no gradient");
}

TEST(TriangleMultiply, DoesNotDependOnTheNumberOfThreads) {
  at::manual_seed(5);
  const Arguments a = to(random_arguments(2, 41, 16, 16), at::kFloat);
  const at::Tensor lengths = at::tensor({41, 30}, at::kLong), cotangent = at::randn_like(a[0]);
  const int threads = at::get_num_threads();
  for (const bool outgoing : {true, false}) {
    at::set_num_threads(1);
    const Result want = differentiate(ours, a, cotangent, lengths, outgoing);
    for (const int n : {2, 3}) {
      at::set_num_threads(n);
      expect_equal(differentiate(ours, a, cotangent, lengths, outgoing), want, cat(n, " threads"));
    }
  }
  at::set_num_threads(threads);
}

TEST(TriangleMultiply, OtherDevicesOperatorsAgree) {
  at::manual_seed(6);
  for (const bool outgoing : {true, false}) {
    const Arguments a = random_arguments(2, 13, 6, 5);
    const at::Tensor lengths = at::tensor({13, 6}, at::kLong), real = a[0];
    const TriangleTensors in = {a[0],
                                at::randn({25, 6}, real.options()),
                                at::randn({25}, real.options()),
                                a[13],
                                a[14],
                                a[15].t().contiguous(),
                                a[16],
                                lengths,
                                outgoing};
    // The same through the operator: a norm that folds into the maps as it is.
    Arguments plain = a;
    plain[1] = at::ones_like(a[1]);
    plain[2] = at::zeros_like(a[2]);
    for (int i = 0; i < 5; ++i) {
      plain[3 + 2 * i] = in.in_weight.narrow(0, 5 * i, 5).contiguous();
      plain[4 + 2 * i] = in.in_bias.narrow(0, 5 * i, 5).contiguous();
    }
    const at::Tensor cotangent = at::randn_like(a[0]);
    const Result want = differentiate(ours, plain, cotangent, lengths, outgoing);
    const TriangleResult y = triangle_forward_aten(in);
    const TriangleGrads d = triangle_backward_aten(in, y, cotangent);
    EXPECT_LT(difference(y.y, want.y), 1e-11);
    EXPECT_LT(difference(d.x, want.grads[0]), 1e-11);
    for (int i = 0; i < 5; ++i) {
      EXPECT_LT(difference(d.in_weight.narrow(0, 5 * i, 5), want.grads[3 + 2 * i]), 1e-11);
      EXPECT_LT(difference(d.in_bias.narrow(0, 5 * i, 5), want.grads[4 + 2 * i]), 1e-11);
    }
    EXPECT_LT(difference(d.norm_weight, want.grads[13]), 1e-11);
    EXPECT_LT(difference(d.norm_bias, want.grads[14]), 1e-11);
    EXPECT_LT(difference(d.out_weight.t(), want.grads[15]), 1e-11);
    EXPECT_LT(difference(d.out_bias, want.grads[16]), 1e-11);
  }
}

// Each argument in turn is much larger or smaller than usual.
TEST(TriangleMultiply, StaysFiniteAndExactOverMagnitudes) {
  at::manual_seed(7);
  for (size_t i = 0; i < kNames.size(); ++i) {
    for (const double factor : {1e-4, 30.0, 1e3}) {
      Arguments a = to(random_arguments(1, 9, 8, 8), at::kFloat);
      a[i] = a[i] * factor;
      const at::Tensor cotangent = at::randn_like(a[0]);
      const Result got = differentiate(ours, a, cotangent, {}, i % 2 == 0);
      const Result want =
          differentiate(definition, to(a, at::kDouble), cotangent.to(at::kDouble), {}, i % 2 == 0);
      EXPECT_LT(difference(got.y, want.y), 1e-4) << kNames[i] << " times " << factor;
      for (size_t g = 0; g < kNames.size(); ++g) {
        EXPECT_TRUE(got.grads[g].isfinite().all().item<bool>()) << kNames[g];
        EXPECT_LT(difference(got.grads[g], want.grads[g]), 1e-3)
            << "gradient of " << kNames[g] << ", " << kNames[i] << " times " << factor;
      }
    }
  }
}

TEST(TriangleMultiply, ShowsNaN) {
  at::manual_seed(8);
  Arguments a = to(random_arguments(1, 6, 4, 4), at::kFloat);
  a[0][0][1][2][3] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor y = ours(a, {}, true);
  EXPECT_TRUE(y[0][1].isnan().all().item<bool>());
  EXPECT_FALSE(y[0][2][3].isnan().any().item<bool>());
}

TEST(TriangleMultiply, AcceptsStridedAndEmptyInputs) {
  at::manual_seed(9);
  Arguments a = to(random_arguments(2, 7, 4, 6), at::kFloat);
  const at::Tensor want = ours(a, {}, false), x = a[0];
  a[0] = x.permute({3, 1, 2, 0}).contiguous().permute({3, 1, 2, 0});
  a[3] = a[3].t().contiguous().t();
  ASSERT_FALSE(a[0].is_contiguous());
  EXPECT_TRUE(at::equal(ours(a, {}, false), want));

  for (const auto& shape : {std::vector<int64_t>{0, 7, 7, 4}, std::vector<int64_t>{2, 0, 0, 4}}) {
    a[0] = at::empty(shape);
    const Result got = differentiate(ours, a, at::empty(shape), {}, true);
    EXPECT_EQ(got.y.sizes(), a[0].sizes());
    EXPECT_EQ(got.grads[3].abs().sum().item<double>(), 0);
  }
}

TEST(TriangleMultiply, ComputesInFloat32ForNarrowInputs) {
  at::manual_seed(10);
  const Arguments narrow = to(random_arguments(1, 18, 8, 8), at::kBFloat16);
  const Arguments wide = to(narrow, at::kFloat);
  const at::Tensor cotangent = at::ones_like(wide[0]);
  const Result want = differentiate(ours, wide, cotangent, {}, true);
  const Result low = differentiate(ours, narrow, cotangent.to(at::kBFloat16), {}, true);
  EXPECT_EQ(low.y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(low.y, want.y.to(at::kBFloat16)));  // rounded once, at the end
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_TRUE(at::equal(low.grads[i], want.grads[i].to(at::kBFloat16))) << kNames[i];
  }
}

TEST(TriangleMultiply, AutocastRoundsOperandsOfProductsWhereTheCpuCan) {
  at::manual_seed(14);
  const Isa best = isa();
  for (const Size& s : std::vector<Size>{{1, 49, 64, 64}, {2, 19, 12, 20}, {1, 300, 16, 8}}) {
    for (const bool outgoing : {true, false}) {
      const Arguments a = to(random_arguments(s.batch, s.length, s.channels, s.hidden), at::kFloat);
      const at::Tensor cotangent = at::randn_like(a[0]),
                       lengths = at::full({s.batch}, s.length - 2);
      const Result want = differentiate(ours, a, cotangent, lengths, outgoing);
      for (const Isa most : {Isa::avx512, Isa::bf16, Isa::amx}) {
        limit_isa(most);
        if (isa() != most && most != Isa::avx512) continue;
        const AutocastScope autocast(at::kCPU, "bf16");
        const Result got = differentiate(ours, a, cotangent, lengths, outgoing);
        EXPECT_EQ(got.y.scalar_type(), at::kFloat);
        if (most == Isa::avx512) {
          expect_equal(got, want, "no bfloat16");
          continue;
        }
        EXPECT_FALSE(at::equal(got.y, want.y)) << text(s, outgoing);
        const auto error = [](const at::Tensor& x, const at::Tensor& y) {
          return ((x - y).norm() / y.norm()).item<double>();
        };
        EXPECT_LT(error(got.y, want.y), 1e-2) << text(s, outgoing);
        for (size_t i = 0; i < kNames.size(); ++i) {
          EXPECT_LT(error(got.grads[i], want.grads[i]), 2e-2) << text(s, outgoing) << kNames[i];
        }
      }
      limit_isa(best);
    }
  }
}

TEST(TriangleMultiply, SaysWhatIsWrong) {
  const Arguments good = to(random_arguments(2, 5, 3, 4), at::kFloat);
  const auto message = [&](size_t i, const at::Tensor& x, const at::Tensor& lengths = {}) {
    Arguments a = good;
    a[i] = x;
    try {
      ours(a, lengths, true);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  EXPECT_EQ(message(0, at::zeros({2, 5, 4, 3})),
            "triangle_multiply: x is Float [2, 5, 4, 3] on cpu, expected [B, L, L, C]");
  EXPECT_EQ(message(0, at::zeros({2, 5, 5, 3}, at::kLong)),
            "triangle_multiply: x is Long [2, 5, 5, 3] on cpu, expected a floating type");
  EXPECT_EQ(message(3, at::zeros({4, 2})),
            "triangle_multiply: left_weight is Float [4, 2] on cpu, expected [H, C] = [any, 3]");
  EXPECT_EQ(
      message(9, at::zeros({5, 3})),
      "triangle_multiply: right_gate_weight is Float [5, 3] on cpu, expected [H, C] = [4, 3]");
  EXPECT_EQ(message(15, at::zeros({4, 3})),
            "triangle_multiply: out_weight is Float [4, 3] on cpu, expected [C, H] = [3, 4]");
  EXPECT_EQ(message(14, at::Tensor()),
            "triangle_multiply: out_norm_bias is not given, expected [H] = [4]");
  EXPECT_EQ(message(0, good[0], at::tensor({5, 6}, at::kLong)),
            "triangle_multiply: lengths[1] is 6, expected 0 to 5");
}

TEST(TriangleMultiply, RefusesASecondDerivative) {
  Arguments a = random_arguments(1, 3, 2, 2);
  a[0].set_requires_grad(true);
  const at::Tensor y = ours(a, {}, true).sum();
  EXPECT_THROW(torch::autograd::grad({y}, {a[0]}, {}, /*retain_graph=*/true, /*create_graph=*/true),
               Error);
}

}  // namespace
}  // namespace ribo::kernels
