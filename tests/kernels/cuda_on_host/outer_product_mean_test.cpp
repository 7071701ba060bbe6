// The CUDA outer product's arithmetic on the CPU: the very source that nvcc compiles.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "convert.h"
#include "outer_product_mean/outer_product_mean_cuda.cu"  // NOLINT

namespace ribo::kernels {
namespace {

using cuda_on_host::difference;
using cuda_on_host::from;
using cuda_on_host::to;

using Values = std::vector<double>;
using Tensors = std::map<std::string, Values>;

struct Case {
  int batch, length, width, channels;
  std::vector<int64_t> lengths = {};
  bool added = true;  // bias and residual
  int multiprocessors = 1;

  size_t positions() const { return static_cast<size_t>(batch * length); }
  size_t pairs() const { return positions() * static_cast<size_t>(length); }
  int end(int b) const { return lengths.empty() ? length : static_cast<int>(lengths[size_t(b)]); }
  bool inside(size_t pair) const {
    const auto L = static_cast<size_t>(length);
    const auto n = static_cast<size_t>(end(static_cast<int>(pair / L / L)));
    return pair / L % L < n && pair % L < n;
  }
};

Values draw(size_t count, double scale, std::mt19937& random) {
  std::normal_distribution<double> normal(0, scale);
  Values x(count);
  for (double& v : x) v = normal(random);
  return x;
}

// In what the kernels read of them, so that their rounding is not the kernel's error.
template <class Io, class T>
Tensors random_inputs(const Case& c) {
  std::mt19937 random(1);
  const auto K = static_cast<size_t>(c.width), C = static_cast<size_t>(c.channels);
  const auto narrow = [](const Values& x) { return from(to<T>(x)); };
  return {{"b", narrow(draw(c.positions() * K, 1, random))},
          {"projected", narrow(draw(c.positions() * C * K, 1 / std::sqrt(double(K)), random))},
          {"bias", narrow(draw(C, 1, random))},
          {"residual", from(to<Io>(draw(c.pairs() * C, 1, random)))},
          {"out_grad", from(to<Io>(draw(c.pairs() * C, 1, random)))}};
}

// The definition and its derivative; g is rounded as products round it.
template <class T>
Tensors define(const Case& c, const Tensors& in) {
  const auto L = static_cast<size_t>(c.length), K = static_cast<size_t>(c.width),
             C = static_cast<size_t>(c.channels);
  Tensors out = {{"out", Values(c.pairs() * C)},
                 {"residual_grad", Values(c.pairs() * C)},
                 {"projected_grad", Values(c.positions() * C * K)},
                 {"b_grad", Values(c.positions() * K)},
                 {"real_a", in.at("b")},
                 {"bias_grad", Values(C)}};
  for (size_t i = 0; i < out["real_a"].size(); ++i) {
    const size_t position = i / K;
    if (int(position % L) >= c.end(int(position / L))) out["real_a"][i] = 0;
  }
  for (size_t pair = 0; pair < c.pairs(); ++pair) {
    if (!c.inside(pair)) continue;
    const size_t i = pair / L, j = i / L * L + pair % L;
    for (size_t z = 0; z < C; ++z) {
      const size_t at = pair * C + z;
      double& y = out["out"][at];
      if (c.added) y = in.at("residual")[at] + in.at("bias")[z];
      out["residual_grad"][at] = in.at("out_grad")[at];
      const double g = widen(narrow<T>(static_cast<float>(in.at("out_grad")[at])));
      out["bias_grad"][z] += g;
      for (size_t k = 0; k < K; ++k) {
        const size_t p = (i * C + z) * K + k, b = j * K + k;
        y += in.at("projected")[p] * in.at("b")[b];
        out["projected_grad"][p] += g * in.at("b")[b];
        out["b_grad"][b] += g * in.at("projected")[p];
      }
    }
  }
  return out;
}

// x in `type`, NaN where `there` says no.
template <class Type, class F>
std::vector<Type> hidden(Values x, size_t row, F&& there) {
  for (size_t i = 0; i < x.size(); ++i) {
    if (!there(i / row)) x[i] = NAN;
  }
  return to<Type>(x);
}

Values add(const std::vector<float>& parts, size_t count) {
  Values sum(count);
  for (size_t i = 0; i < parts.size(); ++i) sum[i % count] += double(parts[i]);
  return sum;
}

template <class Io, class T>
Tensors run(const Case& c, const Tensors& in) {
  const auto K = static_cast<size_t>(c.width), C = static_cast<size_t>(c.channels);
  const auto position = [&](size_t i) {
    return static_cast<int>(i % size_t(c.length)) < c.end(static_cast<int>(i / size_t(c.length)));
  };
  const auto pair = [&](size_t i) { return c.inside(i); };
  const auto b = hidden<T>(in.at("b"), K, position);
  const auto projected = hidden<T>(in.at("projected"), C * K, position);
  const auto residual = hidden<Io>(in.at("residual"), C, pair);
  const auto out_grad = hidden<Io>(in.at("out_grad"), C, pair);
  const auto wide_bias = to<float>(in.at("bias"));
  const auto narrow_bias = to<T>(in.at("bias"));
  CudaOuterProduct problem;
  problem.type =
      std::is_same_v<T, __half> ? CudaNarrow::float16 : CudaNarrow::bfloat16;
  problem.wide = std::is_same_v<Io, float>;
  problem.batch = c.batch, problem.length = c.length;
  problem.width = c.width, problem.channels = c.channels;
  problem.lengths = c.lengths.empty() ? nullptr : c.lengths.data();
  problem.multiprocessors = c.multiprocessors;
  problem.b = b.data(), problem.projected = projected.data();
  EXPECT_TRUE(cuda_outer_product_takes(problem));

  const std::vector<Io> pairs(c.pairs() * C, narrow<Io>(NAN));
  auto out = pairs, residual_grad = pairs;
  CudaOuterProductForward forward{problem};
  if (c.added) forward.residual = residual.data();
  forward.wide_bias = std::is_same_v<Io, float>;
  if (c.added && forward.wide_bias) forward.bias = wide_bias.data();
  if (c.added && !forward.wide_bias) forward.bias = narrow_bias.data();
  forward.out = out.data();
  EXPECT_EQ(cuda_outer_product_forward(forward, nullptr), cudaSuccess);

  CudaOuterProductBackward backward{problem};
  cuda_outer_product_plan(backward);
  const auto pieces = static_cast<size_t>(backward.pieces),
             slices = static_cast<size_t>(backward.slices);
  const size_t all = c.positions() * C * K;
  std::vector<T> one_piece(all, narrow<T>(NAN));
  std::vector<T> b_grad(c.positions() * K, narrow<T>(NAN)), real_a = b_grad;
  backward.a = b.data(), backward.real_a = real_a.data();
  std::vector<float> many_pieces(pieces * all, NAN), bias_grad(C, NAN),
      b_sums(slices * c.positions() * K, NAN),
      bias_sums(pieces * slices * static_cast<size_t>(c.batch) * C, NAN);
  backward.out_grad = out_grad.data(), backward.residual_grad = residual_grad.data();
  backward.projected_grad = pieces == 1 ? static_cast<void*>(one_piece.data()) : many_pieces.data();
  backward.b_grad = b_grad.data(), backward.bias_grad = bias_grad.data();
  backward.b_sums = b_sums.data(), backward.bias_sums = bias_sums.data();
  EXPECT_EQ(cuda_outer_product_backward(backward, nullptr), cudaSuccess);
  return {{"out", from(out)},
          {"residual_grad", from(residual_grad)},
          {"projected_grad", pieces == 1 ? from(one_piece) : add(many_pieces, all)},
          {"b_grad", from(b_grad)},
          {"real_a", from(real_a)},
          {"bias_grad", from(bias_grad)}};
}

template <class Io, class T>
void expect_agreement(const Case& c, double tolerance) {
  const Tensors in = random_inputs<Io, T>(c), got = run<Io, T>(c, in);
  for (const auto& [name, want] : define<T>(c, in)) {
    EXPECT_LT(difference(got.at(name), want), tolerance)
        << name << ", B " << c.batch << ", L " << c.length << ", K " << c.width << ", C "
        << c.channels;
  }
}

// Lengths from none to all, rows of tiles that are not full, a piece of the positions and several,
// slices with one position, with several and with none but padding. The padding holds NaN.
TEST(OuterProductMeanCudaOnHost, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  expect_agreement<__nv_bfloat16, __nv_bfloat16>({1, 1, 32, 64}, 5e-3);
  expect_agreement<__nv_bfloat16, __nv_bfloat16>({2, 17, 32, 64, {}, true, 3}, 5e-3);
  expect_agreement<__nv_bfloat16, __nv_bfloat16>({3, 33, 32, 64, {33, 0, 20}, true, 7}, 5e-3);
  expect_agreement<float, __nv_bfloat16>({2, 19, 32, 64, {19, 7}}, 5e-3);
  expect_agreement<__half, __half>({2, 16, 16, 32, {}, false}, 1e-3);
  expect_agreement<float, __half>({1, 18, 16, 64}, 1e-3);
  expect_agreement<__half, __half>({1, 196, 16, 32, {194}}, 1e-3);
}

TEST(OuterProductMeanCudaOnHost, TheNumberOfBlocksChangesRoundingAlone) {
  Case c = {2, 21, 32, 64, {21, 9}};
  const Tensors in = random_inputs<float, __half>(c), few = run<float, __half>(c, in),
                again = run<float, __half>(c, in);
  EXPECT_EQ(few, again);
  c.multiprocessors = 100;
  for (const auto& [name, want] : run<float, __half>(c, in)) {
    EXPECT_LT(difference(few.at(name), want), name == "b_grad" ? 1e-3 : 1e-5) << name;
  }
}

TEST(OuterProductMeanCudaOnHost, NanShows) {
  const Case c = {1, 9, 32, 32};
  Tensors in = random_inputs<__half, __half>(c);
  in["b"][3 * 32 + 5] = NAN;  // of position 3
  const Tensors got = run<__half, __half>(c, in);
  for (size_t i = 0; i < got.at("out").size(); ++i) {
    EXPECT_EQ(std::isnan(got.at("out")[i]), i / 32 % 9 == 3) << i;
  }
}

TEST(OuterProductMeanCudaOnHost, RefusesWhatItCannotDo) {
  const auto takes = [](int length, int width, int channels) {
    CudaOuterProduct problem;
    problem.batch = 1, problem.length = length;
    problem.width = width, problem.channels = channels;
    return cuda_outer_product_takes(problem);
  };
  EXPECT_TRUE(takes(177, 32, 64));
  EXPECT_TRUE(takes(177, 16, 32));
  EXPECT_FALSE(takes(177, 8, 64));
  EXPECT_FALSE(takes(177, 32, 48));
  EXPECT_FALSE(takes(50000, 32, 64));
}

}  // namespace
}  // namespace ribo::kernels
