// CPU = CUDA, where there is a GPU. cuda_on_host/ tests the same kernels' arithmetic without one.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "support/gpu.h"
#include "train/precision.h"
#include "triangle_arguments.h"
#include "triangle_multiply/triangle_multiply.h"

namespace ribo::kernels {
namespace {

class TriangleMultiplyCuda : public testing::CudaTest {};

// x, then TriangleWeights' members in their order.
using Arguments = std::vector<at::Tensor>;

Arguments random_arguments(int64_t batch, int64_t length, int64_t channels, int64_t hidden) {
  return testing::random_triangle(batch, length, channels, hidden, at::kFloat);
}

struct Way {
  at::Device device;
  at::ScalarType type;        // of x and the weights
  std::string autocast = "";  // or "bf16"
};

// y and all gradients of sum(y d_y).
std::vector<at::Tensor> run(const Arguments& arguments, const at::Tensor& d_y,
                            const at::Tensor& lengths, bool outgoing, const Way& how) {
  Arguments a;
  for (const at::Tensor& x : arguments) {
    a.push_back(x.detach().to(how.device, how.type).set_requires_grad(true));
  }
  std::optional<AutocastScope> autocast;
  if (!how.autocast.empty()) autocast.emplace(how.device.type(), how.autocast);
  const at::Tensor y = triangle_multiply(a[0],
                                         {a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9],
                                          a[10], a[11], a[12], a[13], a[14], a[15], a[16]},
                                         lengths, outgoing);
  EXPECT_EQ(y.scalar_type(), how.type);
  std::vector<at::Tensor> out = torch::autograd::grad({y}, a, {d_y.to(y.options())});
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i].scalar_type(), how.type) << i;
  out.insert(out.begin(), y.detach());
  return out;
}

double error(const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor w = want.to(at::kCPU, at::kDouble);
  return ((got.to(at::kCPU, at::kDouble) - w).norm() / w.norm().clamp_min(1e-30)).item<double>();
}

struct Size {
  int64_t batch, length, channels, hidden;
};

void expect_same(const Size& s, bool padded, const Way& how, double tolerance) {
  at::manual_seed(1);
  const Arguments a = random_arguments(s.batch, s.length, s.channels, s.hidden);
  const at::Tensor d_y = at::randn(a[0].sizes());
  const at::Tensor lengths =
      padded ? at::randint(1, s.length + 1, {s.batch}, at::kLong) : at::Tensor();
  for (const bool outgoing : {true, false}) {
    Arguments rounded;
    for (const at::Tensor& x : a) rounded.push_back(x.to(how.type));
    const auto want = run(rounded, d_y.to(how.type), lengths, outgoing, {at::kCPU, at::kFloat});
    if (padded) {
      const at::Tensor mask = at::arange(s.length).unsqueeze(0) < lengths.unsqueeze(1);
      rounded[0].masked_fill_(~(mask.unsqueeze(2) & mask.unsqueeze(1)).unsqueeze(3),
                              std::numeric_limits<double>::quiet_NaN());
    }
    const auto got = run(rounded, d_y, lengths, outgoing, how);
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_LT(error(got[i], want[i]), tolerance)
          << "output " << i << ", L = " << s.length << ", C = " << s.channels
          << (outgoing ? ", outgoing" : ", ingoing");
    }
  }
}

// Some that the kernels take, and one that LibTorch's operators do.
constexpr Size kSizes[] = {{1, 1, 16, 16},  {2, 9, 64, 64},  {3, 33, 16, 48},
                           {1, 40, 24, 12}, {2, 65, 32, 16}, {4, 177, 64, 64}};

TEST_F(TriangleMultiplyCuda, AgreesWithTheCpu) {
  for (const Size& size : kSizes) {
    for (const bool padded : {false, true}) {
      // Sums and norms of the operators are rounded as well.
      const double bf16 = size.channels % 16 == 0 ? 3e-2 : 1e-1;
      expect_same(size, padded, {at::kCUDA, at::kFloat}, 1e-4);
      expect_same(size, padded, {at::kCUDA, at::kBFloat16}, bf16);
      expect_same(size, padded, {at::kCUDA, at::kHalf}, bf16 / 8);
      expect_same(size, padded, {at::kCUDA, at::kFloat, "bf16"}, bf16);
    }
  }
}

TEST_F(TriangleMultiplyCuda, AcceptsEmptyInputs) {
  for (const Size& size : {Size{0, 7, 64, 64}, Size{2, 0, 64, 64}}) {
    const Arguments a = random_arguments(size.batch, size.length, size.channels, size.hidden);
    const auto got = run(a, at::empty(a[0].sizes()), {}, true, {at::kCUDA, at::kBFloat16});
    EXPECT_EQ(got[0].sizes(), a[0].sizes());
    for (size_t i = 2; i < got.size(); ++i) EXPECT_EQ(got[i].abs().sum().item<double>(), 0) << i;
  }
}

TEST_F(TriangleMultiplyCuda, IsDeterministic) {
  at::manual_seed(1);
  const Arguments a = random_arguments(2, 65, 64, 64);
  const at::Tensor d_y = at::randn(a[0].sizes());
  const Way how = {at::kCUDA, at::kFloat, "bf16"};
  const auto first = run(a, d_y, {}, true, how), second = run(a, d_y, {}, true, how);
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << i;
}

}  // namespace
}  // namespace ribo::kernels
