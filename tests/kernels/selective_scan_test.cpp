#include "selective_scan/selective_scan.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <map>
#include <string>
#include <vector>

#include "train/safetensors.h"

namespace ribo::kernels {
namespace {

struct Inputs {
  at::Tensor u, delta, A, B, C, D;
  std::vector<at::Tensor> list() const { return {u, delta, A, B, C, D}; }
};
const std::vector<std::string> kNames = {"u", "delta", "A", "B", "C", "D"};

Inputs random_inputs(int64_t batch, int64_t length, int64_t channels, int64_t states,
                     double largest_delta = 0.5) {
  const auto real = at::TensorOptions(at::kDouble);
  return {at::randn({batch, length, channels}, real),
          at::rand({batch, length, channels}, real) * largest_delta,
          -at::rand({channels, states}, real) * static_cast<double>(states) - 0.1,
          at::randn({batch, length, states}, real),
          at::randn({batch, length, states}, real),
          at::randn({channels}, real)};
}

at::Tensor scan(const Inputs& in) { return selective_scan(in.u, in.delta, in.A, in.B, in.C, in.D); }

// The definition, a position at a time; autograd differentiates it.
at::Tensor naive(const Inputs& in) {
  at::Tensor h = at::zeros({in.u.size(0), in.u.size(2), in.A.size(1)}, in.u.options());
  std::vector<at::Tensor> y;
  for (int64_t t = 0; t < in.u.size(1); ++t) {
    const at::Tensor u = in.u.select(1, t), delta = in.delta.select(1, t).unsqueeze(-1);
    const at::Tensor B = in.B.select(1, t).unsqueeze(1), C = in.C.select(1, t).unsqueeze(1);
    h = at::exp(delta * in.A) * h + delta * u.unsqueeze(-1) * B;
    y.push_back((h * C).sum(-1) + in.D * u);
  }
  return at::stack(y, 1);
}

struct Result {
  at::Tensor y;
  std::vector<at::Tensor> grads;
};
Result differentiate(at::Tensor (*f)(const Inputs&), const Inputs& in, const at::Tensor& weight) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& x : in.list()) {
    leaves.push_back(x.detach().clone().set_requires_grad(true));
  }
  const at::Tensor y = f({leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], leaves[5]});
  return {y.detach(), torch::autograd::grad({y}, leaves, {weight})};
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>() / std::max(1.0, b.abs().max().item<double>());
}

struct Size {
  int64_t batch, length, channels, states;
};

// Lengths around the chunk's, one state, one channel.
TEST(SelectiveScan, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  at::manual_seed(1);
  for (const Size& s : std::vector<Size>{{1, 1, 1, 1},
                                         {2, 5, 3, 4},
                                         {2, 15, 3, 2},
                                         {1, 16, 4, 3},
                                         {3, 17, 2, 16},
                                         {2, 32, 5, 1},
                                         {1, 100, 6, 8}}) {
    const Inputs in = random_inputs(s.batch, s.length, s.channels, s.states);
    const at::Tensor weight = at::randn_like(in.u);
    const Result got = differentiate(scan, in, weight), want = differentiate(naive, in, weight);
    EXPECT_LT(difference(got.y, want.y), 1e-12) << "L = " << s.length;
    for (size_t i = 0; i < kNames.size(); ++i) {
      EXPECT_LT(difference(got.grads[i], want.grads[i]), 1e-12)
          << kNames[i] << ", L = " << s.length;
    }
  }
}

TEST(SelectiveScan, GradientsAgreeWithNumericalDifferences) {
  at::manual_seed(2);
  const Inputs in = random_inputs(2, 19, 2, 3);
  const at::Tensor weight = at::randn_like(in.u);
  const Result got = differentiate(scan, in, weight);
  constexpr double kStep = 1e-6;
  for (size_t i = 0; i < kNames.size(); ++i) {
    at::Tensor numeric = at::empty_like(in.list()[i]);
    for (int64_t j = 0; j < numeric.numel(); ++j) {
      double value[2];
      for (int side = 0; side < 2; ++side) {
        std::vector<at::Tensor> x = in.list();
        x[i] = x[i].clone();
        x[i].view(-1)[j] += side == 0 ? kStep : -kStep;
        value[side] = (scan({x[0], x[1], x[2], x[3], x[4], x[5]}) * weight).sum().item<double>();
      }
      numeric.view(-1)[j] = (value[0] - value[1]) / (2 * kStep);
    }
    EXPECT_LT(difference(got.grads[i], numeric), 1e-7) << kNames[i];
  }
}

// Computed in float64 by an independent implementation, in the layout [B, D, L]; delta before its
// softplus; y = scan * silu(z) where there is a gate z.
class SelectiveScanFixture : public ::testing::TestWithParam<const char*> {};

TEST_P(SelectiveScanFixture, Agrees) {
  const Tensors file =
      read_safetensors(std::string(RIBO_TEST_FIXTURES "/") + GetParam() + ".safetensors");
  std::map<std::string, at::Tensor> in;
  for (const auto& [name, tensor] : file) {
    if (name.starts_with("in.")) in[name.substr(3)] = tensor.clone().set_requires_grad(true);
  }
  const auto channel_last = [](const at::Tensor& x) { return x.transpose(-1, -2); };
  at::Tensor delta = channel_last(in.at("delta"));
  if (in.contains("delta_bias")) delta = delta + in.at("delta_bias");
  delta = at::softplus(delta);

  // Some files give each group of channels its own B and C [B, G, N, L].
  const bool grouped = in.at("B").dim() == 4;
  const int64_t groups = grouped ? in.at("B").size(1) : 1;
  const int64_t width = in.at("A").size(0) / groups;
  std::vector<at::Tensor> parts;
  for (int64_t g = 0; g < groups; ++g) {
    const auto own = [&](const at::Tensor& x, int64_t dim) {
      return x.narrow(dim, g * width, width);
    };
    const auto of_group = [&](const char* name) {
      const at::Tensor& x = in.at(name);
      return channel_last(grouped ? x.select(1, g) : x);
    };
    parts.push_back(selective_scan(own(channel_last(in.at("u")), 2), own(delta, 2),
                                   own(in.at("A"), 0), of_group("B"), of_group("C"),
                                   in.contains("D") ? own(in.at("D"), 0) : at::Tensor()));
  }
  at::Tensor y = channel_last(at::cat(parts, 2));
  if (in.contains("z")) y = y * at::silu(in.at("z"));
  EXPECT_LT(difference(y, file.at("out.y")), 1e-6);
  y.backward(file.at("cotangent"));
  for (const auto& [name, tensor] : in) {
    EXPECT_LT(difference(tensor.grad(), file.at("grad." + name)), 2e-6) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, SelectiveScanFixture,
                         ::testing::Values("scan_basic", "scan_bare", "scan_grouped_nogate",
                                           "scan_n16_long"));

TEST(SelectiveScan, LargeStepsForgetWithoutNaN) {
  at::manual_seed(3);
  const Inputs in = random_inputs(1, 40, 4, 16, 1e4);
  const at::Tensor weight = at::randn_like(in.u);
  const Result got = differentiate(scan, in, weight), want = differentiate(naive, in, weight);
  EXPECT_LT(difference(got.y, want.y), 1e-12);
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_TRUE(got.grads[i].isfinite().all().item<bool>()) << kNames[i];
    EXPECT_LT(difference(got.grads[i], want.grads[i]), 1e-12) << kNames[i];
  }
}

TEST(SelectiveScan, PositionsWithoutAStepPassTheStateOn) {
  at::manual_seed(4);
  const Inputs in = random_inputs(2, 20, 3, 4);
  Inputs gap = random_inputs(2, 30, 3, 4);
  gap.A = in.A;
  gap.D = in.D;
  const auto widen = [](at::Tensor wide, const at::Tensor& x) {
    wide.narrow(1, 0, 12).copy_(x.narrow(1, 0, 12));
    wide.narrow(1, 22, 8).copy_(x.narrow(1, 12, 8));
  };
  widen(gap.u, in.u);
  widen(gap.B, in.B);
  widen(gap.C, in.C);
  gap.delta.zero_();
  widen(gap.delta, in.delta);
  const at::Tensor want = scan(in), got = scan(gap);
  EXPECT_LT(difference(got.narrow(1, 0, 12), want.narrow(1, 0, 12)), 1e-12);
  EXPECT_LT(difference(got.narrow(1, 22, 8), want.narrow(1, 12, 8)), 1e-12);
}

TEST(SelectiveScan, WithoutASkipAddsNone) {
  at::manual_seed(5);
  Inputs in = random_inputs(1, 9, 3, 2);
  const at::Tensor with = scan(in);
  const at::Tensor without = selective_scan(in.u, in.delta, in.A, in.B, in.C, at::Tensor());
  EXPECT_LT(difference(without + in.D * in.u, with), 1e-12);
}

TEST(SelectiveScan, KeepsItsStateInFloat32UnderAutocastAndForNarrowInputs) {
  at::manual_seed(6);
  Inputs in = random_inputs(2, 50, 4, 8);
  std::vector<at::Tensor> narrow, wide;
  for (const at::Tensor& x : in.list()) {
    narrow.push_back(x.to(at::kBFloat16));
    wide.push_back(narrow.back().to(at::kFloat));
  }
  const at::Tensor weight = at::ones({2, 50, 4});
  const Result want =
      differentiate(scan, {wide[0], wide[1], wide[2], wide[3], wide[4], wide[5]}, weight);

  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const Result same =
      differentiate(scan, {wide[0], wide[1], wide[2], wide[3], wide[4], wide[5]}, weight);
  const Result low =
      differentiate(scan, {narrow[0], narrow[1], narrow[2], narrow[3], narrow[4], narrow[5]},
                    weight.to(at::kBFloat16));
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();

  EXPECT_EQ(same.y.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(same.y, want.y));
  EXPECT_EQ(low.y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(low.y, want.y.to(at::kBFloat16)));  // rounded once, at the end
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_TRUE(at::equal(same.grads[i], want.grads[i])) << kNames[i];
    EXPECT_TRUE(at::equal(low.grads[i], want.grads[i].to(at::kBFloat16))) << kNames[i];
  }
}

TEST(SelectiveScan, SaysWhichShapeIsWrong) {
  Inputs in = random_inputs(2, 5, 3, 4);
  in.B = in.B.narrow(1, 0, 4);
  try {
    scan(in);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "selective_scan: B is [2, 4, 4], expected [B, L, N] for u [2, 5, 3]");
  }
}

TEST(SelectiveScan, RefusesASecondDerivative) {
  Inputs in = random_inputs(1, 3, 2, 2);
  in.u.set_requires_grad(true);
  const at::Tensor y = scan(in).sum();
  EXPECT_THROW(torch::autograd::grad({y}, {in.u}, {}, /*retain_graph=*/true, /*create_graph=*/true),
               Error);
}

}  // namespace
}  // namespace ribo::kernels
