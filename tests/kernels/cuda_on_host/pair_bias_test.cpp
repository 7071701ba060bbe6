// The CUDA pair bias's arithmetic on the CPU: the very source that nvcc compiles.
#include <gtest/gtest.h>

#include <random>

#include "convert.h"
#include "pair_bias/pair_bias_cuda.cu"  // NOLINT

namespace ribo::kernels {
namespace {

using cuda_on_host::difference;
using cuda_on_host::from;
using cuda_on_host::to;

constexpr double kEps = 1e-5;

struct Case {
  int64_t batch, positions;
  int channels, heads;
  bool biased = true;
  int multiprocessors = 1;
};

struct Inputs {
  std::vector<double> x, norm_weight, norm_bias, weight, dy;
};
// Named as the arguments they are the gradients of.
struct Result {
  std::vector<double> y, x, norm_weight, norm_bias, weight;
};

Inputs random_inputs(const Case& c) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  const auto draw = [&](int64_t count) {
    std::vector<double> x(size_t(count), 0);
    for (double& v : x) v = normal(random);
    return x;
  };
  return {draw(c.batch * c.positions * c.channels), draw(c.channels), draw(c.channels),
          draw(int64_t{c.heads} * c.channels), draw(c.batch * c.heads * c.positions)};
}

Result define(const Case& c, const Inputs& in) {
  const auto C = size_t(c.channels), H = size_t(c.heads), P = size_t(c.positions);
  const auto zeros = [](size_t count) { return std::vector<double>(count, 0); };
  Result out = {zeros(in.dy.size()), zeros(in.x.size()), zeros(C), zeros(C), zeros(H * C)};
  for (size_t row = 0; row < size_t(c.batch) * P; ++row) {
    const double* const x = &in.x[row * C];
    const auto y = [&](size_t h) { return (row / P * H + h) * P + row % P; };
    double mean = 0, variance = 0, mean_d = 0, along = 0;
    for (size_t k = 0; k < C; ++k) mean += x[k] / double(C);
    for (size_t k = 0; k < C; ++k) variance += (x[k] - mean) * (x[k] - mean) / double(C);
    const double scale = 1 / std::sqrt(variance + kEps);
    auto n = zeros(C), d = zeros(C);
    for (size_t k = 0; k < C; ++k) {
      n[k] = (x[k] - mean) * scale;
      const double u = n[k] * in.norm_weight[k] + (c.biased ? in.norm_bias[k] : 0);
      double du = 0;
      for (size_t h = 0; h < H; ++h) {
        const double w = in.weight[h * C + k], dy = in.dy[y(h)];
        out.y[y(h)] += w * u;
        out.weight[h * C + k] += dy * u;
        du += w * dy;
      }
      out.norm_weight[k] += du * n[k];
      out.norm_bias[k] += du;
      d[k] = du * in.norm_weight[k];
      mean_d += d[k] / double(C);
      along += d[k] * n[k] / double(C);
    }
    for (size_t k = 0; k < C; ++k) out.x[row * C + k] = scale * (d[k] - mean_d - n[k] * along);
  }
  return out;
}

template <class X, class Y>
Result run(const Case& c, const Inputs& in, CudaFloat x_type, CudaFloat y_type) {
  const auto x = to<X>(in.x);
  const auto dy = to<Y>(in.dy);
  const auto norm_weight = to<float>(in.norm_weight), norm_bias = to<float>(in.norm_bias),
             weight = to<float>(in.weight);
  const float nan = NAN;
  std::vector<Y> y(dy.size(), narrow<Y>(nan));
  std::vector<X> dx(x.size(), narrow<X>(nan));
  std::vector<float> d_norm_weight(norm_weight.size(), nan), d_norm_bias(norm_bias.size(), 0),
      d_weight(weight.size(), nan);
  CudaPairBias p;
  p.x_type = x_type, p.y_type = y_type;
  p.channels = c.channels, p.heads = c.heads, p.batch = c.batch, p.positions = c.positions;
  p.eps = float(kEps), p.multiprocessors = c.multiprocessors;
  p.x = x.data(), p.norm_weight = norm_weight.data(), p.weight = weight.data();
  if (c.biased) p.norm_bias = norm_bias.data();
  CudaPairBiasForward forward{p};
  forward.y = y.data();
  EXPECT_EQ(cuda_pair_bias_forward(forward, nullptr), cudaSuccess);
  CudaPairBiasBackward backward{p};
  std::vector<float> scratch(size_t(cuda_pair_bias_scratch(p)), nan);
  backward.dy = dy.data(), backward.dx = dx.data(), backward.scratch = scratch.data();
  backward.d_norm_weight = d_norm_weight.data(), backward.d_weight = d_weight.data();
  if (c.biased) backward.d_norm_bias = d_norm_bias.data();
  EXPECT_EQ(cuda_pair_bias_backward(backward, nullptr), cudaSuccess);
  return {from(y), from(dx), from(d_norm_weight), from(d_norm_bias), from(d_weight)};
}

void expect_same(const Result& got, const Result& want, const Case& c, double tolerance) {
  EXPECT_LE(difference(got.y, want.y), tolerance) << c.channels;
  EXPECT_LE(difference(got.x, want.x), tolerance) << c.channels;
  EXPECT_LE(difference(got.norm_weight, want.norm_weight), tolerance) << c.channels;
  if (c.biased) {
    EXPECT_LE(difference(got.norm_bias, want.norm_bias), tolerance) << c.channels;
  }
  EXPECT_LE(difference(got.weight, want.weight), tolerance) << c.channels;
}

// One tile and several, ragged ones, blocks that have more than one.
const Case kCases[] = {{1, 1, 64, 8},         {2, 49, 64, 8},           {3, 121, 16, 4, false, 2},
                       {2, 400, 64, 8, true}, {2, 130, 32, 3},          {1, 77, 128, 8, false},
                       {5, 9, 128, 1},        {1, 1000, 16, 7, true, 1}};

TEST(PairBiasOnHost, IsItsDefinition) {
  for (const Case& c : kCases) {
    ASSERT_TRUE(cuda_pair_bias_takes({{}, {}, c.channels, c.heads}));
    const Inputs in = random_inputs(c);
    using enum CudaFloat;
    expect_same(run<float, float>(c, in, float32, float32), define(c, in), c, 1e-5);
  }
}

TEST(PairBiasOnHost, RoundsOnlyWhatIsStored) {
  const Case c = {2, 121, 64, 8};
  Inputs in = random_inputs(c);
  using enum CudaFloat;
  in.x = from(to<__nv_bfloat16>(in.x)), in.dy = from(to<__nv_bfloat16>(in.dy));
  const Result want = define(c, in);
  expect_same(run<float, __nv_bfloat16>(c, in, float32, bfloat16), want, c, 4e-3);
  expect_same(run<__nv_bfloat16, float>(c, in, bfloat16, float32), want, c, 4e-3);
  expect_same(run<__nv_bfloat16, __nv_bfloat16>(c, in, bfloat16, bfloat16), want, c, 4e-3);
  expect_same(run<__half, __half>(c, in, float16, float16), want, c, 5e-4);
}

TEST(PairBiasOnHost, RefusesWhatItHasNoLayoutFor) {
  EXPECT_FALSE(cuda_pair_bias_takes({{}, {}, 24, 8}));
  EXPECT_FALSE(cuda_pair_bias_takes({{}, {}, 64, 9}));
}

}  // namespace
}  // namespace ribo::kernels
