// The CUDA layer norm's arithmetic on the CPU: the very source that nvcc compiles.
#include <gtest/gtest.h>

#include <random>

#include "convert.h"
#include "layer_norm/layer_norm_cuda.cu"  // NOLINT

namespace ribo::kernels {
namespace {

using cuda_on_host::difference;
using cuda_on_host::from;
using cuda_on_host::to;
using Numbers = std::vector<double>;

struct Case {
  int64_t rows;
  int channels;
  bool weighted = true;
  int multiprocessors = 1;
};

struct Result {
  Numbers y, dx, d_weight, d_bias;
};

struct Inputs {
  Numbers x, weight, bias, dy;

  explicit Inputs(const Case& c) {
    std::mt19937 random(1);
    std::normal_distribution<double> normal(0.5);
    const auto draw = [&](int64_t count) {
      Numbers out(size_t(count), 0);
      for (double& v : out) v = normal(random);
      return out;
    };
    x = draw(c.rows * c.channels), dy = draw(c.rows * c.channels);
    weight = c.weighted ? draw(c.channels) : Numbers(size_t(c.channels), 1);
    bias = c.weighted ? draw(c.channels) : Numbers(size_t(c.channels), 0);
  }
};

Result define(const Case& c, const Inputs& in) {
  const auto C = size_t(c.channels);
  Result out = {Numbers(in.x.size()), Numbers(in.x.size()), Numbers(C), Numbers(C)};
  for (size_t row = 0; row < size_t(c.rows); ++row) {
    const double *x = &in.x[row * C], *dy = &in.dy[row * C];
    double mean = 0, variance = 0, mean_d = 0, along = 0;
    for (size_t k = 0; k < C; ++k) mean += x[k] / double(C);
    for (size_t k = 0; k < C; ++k) variance += (x[k] - mean) * (x[k] - mean) / double(C);
    const double scale = 1 / std::sqrt(variance + 1e-5);
    Numbers n(C);
    for (size_t k = 0; k < C; ++k) {
      n[k] = (x[k] - mean) * scale;
      out.y[row * C + k] = n[k] * in.weight[k] + in.bias[k];
      out.d_weight[k] += dy[k] * n[k];
      out.d_bias[k] += dy[k];
      mean_d += dy[k] * in.weight[k] / double(C);
      along += dy[k] * in.weight[k] * n[k] / double(C);
    }
    for (size_t k = 0; k < C; ++k) {
      out.dx[row * C + k] = scale * (dy[k] * in.weight[k] - mean_d - n[k] * along);
    }
  }
  return out;
}

template <class X>
Result run(const Case& c, const Inputs& in, CudaFloat type) {
  const auto x = to<X>(in.x), dy = to<X>(in.dy);
  const auto weight = to<float>(in.weight), bias = to<float>(in.bias);
  const float nan = NAN;
  std::vector<X> y(x.size(), narrow<X>(nan)), dx(x.size(), narrow<X>(nan));
  std::vector<float> d_weight(weight.size(), nan), d_bias(weight.size(), nan);
  CudaLayerNorm p;
  p.type = type, p.channels = c.channels, p.rows = c.rows, p.eps = 1e-5f;
  p.multiprocessors = c.multiprocessors, p.x = x.data();
  if (c.weighted) p.weight = weight.data(), p.bias = bias.data();
  CudaLayerNormForward forward{p};
  forward.y = y.data();
  EXPECT_EQ(cuda_layer_norm_forward(forward, nullptr), cudaSuccess);
  CudaLayerNormBackward backward{p};
  std::vector<float> scratch(size_t(cuda_layer_norm_scratch(p)), nan);
  backward.dy = dy.data(), backward.dx = dx.data(), backward.scratch = scratch.data();
  if (c.weighted) backward.d_weight = d_weight.data(), backward.d_bias = d_bias.data();
  EXPECT_EQ(cuda_layer_norm_backward(backward, nullptr), cudaSuccess);
  return {from(y), from(dx), from(d_weight), from(d_bias)};
}

void expect_same(const Case& c, const Result& got, const Result& want, double tolerance) {
  EXPECT_LE(difference(got.y, want.y), tolerance) << c.channels;
  EXPECT_LE(difference(got.dx, want.dx), tolerance) << c.channels;
  if (!c.weighted) return;
  EXPECT_LE(difference(got.d_weight, want.d_weight), tolerance) << c.channels;
  EXPECT_LE(difference(got.d_bias, want.d_bias), tolerance) << c.channels;
}

TEST(LayerNormOnHost, IsItsDefinition) {
  for (const Case& c : {Case{1, 64},
                        {700, 64, true, 1},
                        {700, 64, false, 3},
                        {3000, 16},
                        {129, 32},
                        {200, 128, true, 2}}) {
    ASSERT_TRUE(cuda_layer_norm_takes(c.channels));
    const Inputs in(c);
    expect_same(c, run<float>(c, in, CudaFloat::float32), define(c, in), 1e-5);
  }
  EXPECT_FALSE(cuda_layer_norm_takes(48));
}

TEST(LayerNormOnHost, RoundsOnlyWhatIsStored) {
  const Case c = {300, 64};
  Inputs in(c);
  in.x = from(to<__nv_bfloat16>(in.x)), in.dy = from(to<__nv_bfloat16>(in.dy));
  const Result want = define(c, in);
  expect_same(c, run<__nv_bfloat16>(c, in, CudaFloat::bfloat16), want, 4e-3);
  expect_same(c, run<__half>(c, in, CudaFloat::float16), want, 1e-3);
}

}  // namespace
}  // namespace ribo::kernels
