// CPU = CUDA, where there is a GPU. cuda_on_host/ tests the same kernels' arithmetic without one.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "selective_scan/selective_scan.h"
#include "support/gpu.h"

namespace ribo::kernels {
namespace {

using Args = SelectiveScanArgs;
constexpr at::Tensor Args::*kInputs[] = {&Args::u, &Args::delta,      &Args::A,
                                         &Args::B, &Args::C,          &Args::D,
                                         &Args::z, &Args::delta_bias, &Args::initial_state};

class SelectiveScanCuda : public testing::CudaTest {};

struct Size {
  int64_t batch, length, channels, groups, states;
};

Args random_args(const Size& s) {
  at::manual_seed(1);
  Args a;
  a.u = at::randn({s.batch, s.length, 2 * s.channels}).narrow(2, 0, s.channels);
  a.delta = at::randn({s.batch, s.length, s.channels});
  a.A = -at::rand({s.channels, s.states}) * static_cast<double>(s.states) - 0.1;
  a.B = at::randn({s.batch, s.length, s.groups, s.states});
  a.C = at::randn({s.batch, s.length, s.groups, s.states});
  a.D = at::randn({s.channels});
  a.z = at::randn({s.batch, s.length, s.channels});
  a.delta_bias = at::randn({s.channels});
  a.initial_state = at::randn({s.batch, s.channels, s.states});
  a.lengths = at::randint(0, s.length + 1, {s.batch}, at::kLong);
  a.delta_softplus = true;
  return a;
}

// y, last_state and the gradients of sum(y wy) + sum(last_state wh), as double on the CPU.
std::vector<at::Tensor> run(Args a, at::Device device, at::ScalarType type) {
  at::manual_seed(2);
  const at::Tensor wy = at::randn(a.u.sizes()), wh = at::randn(a.initial_state.sizes());
  std::vector<at::Tensor> leaves;
  for (const auto in : kInputs) {
    a.*in = (a.*in).detach().to(device, type).set_requires_grad(true);
    leaves.push_back(a.*in);
  }
  a.lengths = a.lengths.to(device);
  const auto [y, last_state] = selective_scan(a);
  std::vector<at::Tensor> out = torch::autograd::grad(
      {y, last_state}, leaves, {wy.to(y.options()), wh.to(last_state.options())});
  out.insert(out.begin(), {y, last_state});
  for (at::Tensor& x : out) x = x.detach().to(at::kCPU, at::kDouble);
  return out;
}

void expect_same(const Args& a, at::ScalarType type, double tolerance) {
  const auto want = run(a, at::kCPU, type), got = run(a, at::kCUDA, type);
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_LE(testing::difference(got[i], want[i]), tolerance)
        << "output " << i << ", L = " << a.u.size(1);
  }
}

// Long sequences of few channels are worked on in segments, short ones of many are not.
constexpr Size kSizes[] = {{1, 1, 1, 1, 1},    {2, 15, 3, 1, 2},      {2, 16, 8, 1, 16},
                           {3, 17, 130, 1, 8}, {2, 1023, 64, 2, 16},  {1, 40, 40, 1, 256},
                           {2, 50, 24, 2, 40}, {64, 177, 512, 1, 16}, {0, 9, 8, 1, 4}};

TEST_F(SelectiveScanCuda, AgreesWithTheCpu) {
  for (const Size& size : kSizes) {
    for (const bool reverse : {false, true}) {
      Args a = random_args(size);
      a.reverse = reverse;
      expect_same(a, at::kFloat, 1e-4);
      expect_same(a, at::kBFloat16, 2e-2);
      expect_same(a, at::kHalf, 2e-2);
    }
  }
}

TEST_F(SelectiveScanCuda, AgreesWithTheCpuInFloat64) {
  for (const Size& size : {Size{2, 100, 20, 2, 5}, Size{1, 33, 128, 1, 16}}) {
    expect_same(random_args(size), at::kDouble, 1e-11);
  }
}

TEST_F(SelectiveScanCuda, MoreStatesThanFitAreRefused) {
  const Args a = random_args({1, 20, 8, 1, 256});
  EXPECT_NO_THROW(run(a, at::kCUDA, at::kFloat));
  try {
    expect_same(a, at::kDouble, 1e-11);
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("256 states in Double"), std::string::npos) << e.what();
  }
}

TEST_F(SelectiveScanCuda, IsDeterministic) {
  const Args a = random_args({4, 300, 96, 1, 16});
  const auto first = run(a, at::kCUDA, at::kFloat), second = run(a, at::kCUDA, at::kFloat);
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << i;
}

}  // namespace
}  // namespace ribo::kernels
