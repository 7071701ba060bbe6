// The CUDA convolution's arithmetic on the CPU: the very source that nvcc compiles.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "conv1d/conv1d_cuda.cu"  // NOLINT
#include "convert.h"

namespace ribo::kernels {
namespace {

using cuda_on_host::difference;
using cuda_on_host::from;
using cuda_on_host::to;

struct Case {
  int64_t batch, length, channels, width, before;
  bool silu;
  std::vector<int64_t> lengths = {};

  int64_t end(int64_t b) const { return lengths.empty() ? length : lengths[size_t(b)]; }
};

struct Conv {
  std::vector<double> x, weight, bias, dy;  // x and dy as [B, L, 2 C], of which the second half
};
struct Result {
  std::vector<double> y, dx, sums;
};

std::vector<double> draw(int64_t count, std::mt19937& random) {
  std::normal_distribution<double> normal;
  std::vector<double> x(size_t(count), 0);
  for (double& v : x) v = normal(random);
  return x;
}

// NaN where nothing may be read.
Conv random_conv(const Case& c) {
  std::mt19937 random(1);
  const int64_t rows = c.batch * c.length;
  Conv in = {draw(rows * 2 * c.channels, random), draw(c.width * c.channels, random),
             draw(c.channels, random), draw(rows * 2 * c.channels, random)};
  for (std::vector<double>* v : {&in.x, &in.dy}) {
    for (int64_t i = 0; i < rows * 2 * c.channels; ++i) {
      const int64_t row = i / (2 * c.channels);
      const bool real =
          i % (2 * c.channels) >= c.channels && row % c.length < c.end(row / c.length);
      if (!real) (*v)[size_t(i)] = NAN;
    }
  }
  return in;
}

// The definition, in double.
Result define(const Case& c, const Conv& in) {
  const auto size = size_t(c.batch * c.length * c.channels);
  Result out = {std::vector<double>(size), std::vector<double>(size),
                std::vector<double>(size_t((c.width + 1) * c.channels))};
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t t = 0; t < c.end(b); ++t) {
      for (int64_t d = 0; d < c.channels; ++d) {
        const auto index = [&](int64_t u) { return size_t((b * c.length + u) * c.channels + d); };
        const auto wide = [&](int64_t u) {
          return size_t(((b * c.length + u) * 2 + 1) * c.channels + d);
        };
        const auto taps = [&](const auto& f) {
          for (int64_t j = 0; j < c.width; ++j) {
            const int64_t u = t - c.before + j;
            if (u >= 0 && u < c.end(b)) f(size_t(j * c.channels + d), u);
          }
        };
        double sum = in.bias[size_t(d)];
        taps([&](size_t w, int64_t u) { sum += in.weight[w] * in.x[wide(u)]; });
        const double s = 1 / (1 + std::exp(-sum));
        out.y[index(t)] = c.silu ? sum * s : sum;
        const double g = in.dy[wide(t)] * (c.silu ? s + sum * s * (1 - s) : 1);
        out.sums[size_t(c.width * c.channels + d)] += g;
        taps([&](size_t w, int64_t u) {
          out.sums[w] += g * in.x[wide(u)];
          out.dx[index(u)] += g * in.weight[w];
        });
      }
    }
  }
  return out;
}

template <class Io>
Result run(const Case& c, const Conv& in) {
  using T = Real<Io>;
  const auto x = to<Io>(in.x), dy = to<Io>(in.dy);
  const auto weight = to<T>(in.weight), bias = to<T>(in.bias);
  const std::vector<double> nan(size_t(c.batch * c.length * c.channels), NAN);
  auto y = to<Io>(nan), dx = y;
  std::vector<T> sums(size_t(c.batch * conv1d_pieces(c.length) * (c.width + 1) * c.channels),
                      T(NAN));
  Conv1dArgs<Io, T> a{};
  a.batch = c.batch, a.length = c.length, a.channels = c.channels;
  a.width = c.width, a.before = c.before, a.silu = c.silu;
  a.lengths = c.lengths.empty() ? nullptr : c.lengths.data();
  a.weight = weight.data(), a.bias = bias.data();
  a.x = x.data() + c.channels, a.dy = dy.data() + c.channels;
  a.x_row = a.dy_row = 2 * c.channels;
  a.x_batch = a.dy_batch = 2 * c.channels * c.length;
  a.y = y.data(), a.dx = dx.data(), a.sums = sums.data();
  EXPECT_EQ(cuda_conv1d_forward(a, nullptr), cudaSuccess);
  EXPECT_EQ(cuda_conv1d_backward(a, nullptr), cudaSuccess);
  sums.resize(size_t((c.width + 1) * c.channels));
  return {from(y), from(dx), from(sums)};
}

template <class Io>
void expect_agreement(const Case& c, double tolerance) {
  const Conv in = random_conv(c);
  // What a narrow type makes of the inputs is not the kernel's error.
  const Conv rounded = {from(to<Io>(in.x)), in.weight, in.bias, from(to<Io>(in.dy))};
  const Result want = define(c, rounded), got = run<Io>(c, in);
  const auto where = testing::Message() << "L " << c.length << ", C " << c.channels << ", K "
                                        << c.width << ", before " << c.before;
  EXPECT_LT(difference(got.y, want.y), tolerance) << where;
  EXPECT_LT(difference(got.dx, want.dx), tolerance) << where;
  EXPECT_LT(difference(got.sums, want.sums), tolerance) << where;
}

TEST(Conv1dCudaOnHost, AgreesWithItsDefinition) {
  for (const Case& c : std::vector<Case>{{1, 1, 1, 4, 3, true},
                                         {2, 2, 5, 4, 0, true, {2, 0}},
                                         {2, 15, 33, 1, 0, true},
                                         {1, 16, 32, 7, 3, false, {15}},
                                         {3, 65, 40, 4, 3, true, {65, 64, 1}},
                                         {2, 130, 3, 3, 1, false},
                                         {1, 257, 34, 15, 7, false},
                                         {2, 700, 2, 4, 0, true, {700, 300}},
                                         {1, 270, 3, 63, 31, true},
                                         {1, 100, 3, 62, 61, false, {99}}}) {
    expect_agreement<double>(c, 1e-13);
    expect_agreement<float>(c, 1e-5);
    expect_agreement<__nv_bfloat16>(c, 1e-2);
    expect_agreement<__half>(c, 2e-3);
  }
}

// Width 4 and channels that fill 16 bytes: kernels of their own.
TEST(Conv1dCudaOnHost, OfMambasWidthAgreesWithItsDefinition) {
  for (const Case& c : std::vector<Case>{{1, 1, 8, 4, 3, true},
                                         {2, 7, 16, 4, 0, true, {7, 3}},
                                         {2, 8, 8, 4, 2, false},
                                         {3, 65, 40, 4, 3, true, {65, 64, 0}},
                                         {1, 255, 264, 4, 0, false},
                                         {2, 257, 16, 4, 1, true},
                                         {1, 520, 8, 4, 0, true, {515}},
                                         {2, 300, 272, 4, 3, true, {256, 300}}}) {
    expect_agreement<float>(c, 1e-5);
    expect_agreement<__nv_bfloat16>(c, 1e-2);
    expect_agreement<__half>(c, 2e-3);
  }
}

TEST(Conv1dCudaOnHost, LargeMagnitudesStayFinite) {
  for (const Case& c : {Case{1, 40, 3, 4, 3, true}, Case{1, 40, 8, 4, 3, true}})
    for (const double scale : {30.0, 1e4, 1e18, 1e37}) {
      Conv in = random_conv(c);
      for (double& v : in.x) v *= scale;
      const Result want = define(c, in), got = run<float>(c, in);
      EXPECT_LT(difference(got.y, want.y), 1e-5) << scale;
      for (const double v : got.dx) EXPECT_TRUE(std::isfinite(v)) << scale;
      for (const double v : got.sums) EXPECT_TRUE(std::isfinite(v)) << scale;
    }
}

}  // namespace
}  // namespace ribo::kernels
