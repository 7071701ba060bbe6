// The CUDA attention's arithmetic on the CPU: the very source that nvcc compiles.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "attention/attention_cuda.cu"  // NOLINT
#include "convert.h"

namespace ribo::kernels {
namespace {

using cuda_on_host::difference;
using cuda_on_host::from;
using cuda_on_host::to;

using Values = std::vector<double>;
// [B, G, L, H, d], the bias and its gradient [B, H, L, L]; gradients are called q_grad, ...
using Tensors = std::map<std::string, Values>;

struct Case {
  int batch, groups, length, heads, width;
  std::vector<int64_t> lengths = {};
  bool columns = false;  // memory is [B, L, G, H, d]
  bool dropout = false;
  int multiprocessors = 1;

  size_t rows() const { return static_cast<size_t>(batch * groups * length * heads); }
  size_t elements() const { return rows() * static_cast<size_t>(width); }
  size_t biases() const { return static_cast<size_t>(batch * heads * length * length); }
  int end(int b) const { return lengths.empty() ? length : static_cast<int>(lengths[size_t(b)]); }
  size_t row(int b, int g, int i, int h) const {
    const int at = columns ? (b * length + i) * groups + g : (b * groups + g) * length + i;
    return static_cast<size_t>(at * heads + h);
  }
  size_t bias(int b, int h, int i, int j) const {
    return static_cast<size_t>(((b * heads + h) * length + i) * length + j);
  }
  bool real(int b, int g, int i) const { return g < end(b) && i < end(b); }
};

Values draw(size_t count, std::mt19937& random) {
  std::normal_distribution<double> normal;
  Values x(count);
  for (double& v : x) v = normal(random);
  return x;
}

template <class F>
void each_row(const Case& c, F&& f) {
  for (int b = 0; b < c.batch; ++b) {
    for (int g = 0; g < c.groups; ++g) {
      for (int i = 0; i < c.length; ++i) {
        for (int h = 0; h < c.heads; ++h) f(b, g, i, h);
      }
    }
  }
}

// A weight in three is dropped; some biases are minus infinity, and all of the second row's.
template <class T>
Tensors random_inputs(const Case& c) {
  std::mt19937 random(1);
  Tensors in;
  for (const char* name : {"q", "k", "v", "out_grad"}) {
    in[name] = from(to<T>(draw(c.elements(), random)));
  }
  in["bias"] = from(to<T>(draw(c.biases(), random)));
  in["keep"] = draw(c.biases(), random);
  for (double& keep : in["keep"]) keep = !c.dropout || keep > -0.4;
  for (size_t i = 0; i < in["bias"].size(); i += 7) in["bias"][i] = -INFINITY;
  for (int j = 0; c.length > 1 && j < c.length; ++j) in["bias"][c.bias(0, 0, 1, j)] = -INFINITY;
  return in;
}

constexpr double kKept = 1.5;

Tensors define(const Case& c, const Tensors& in) {
  const double scale = 1 / std::sqrt(double(c.width)), kept = c.dropout ? kKept : 1;
  const auto d = static_cast<size_t>(c.width);
  Tensors out = {{"bias_grad", Values(c.biases())}};
  for (const char* name : {"out", "q_grad", "k_grad", "v_grad"}) out[name] = Values(c.elements());
  each_row(c, [&](int b, int g, int i, int h) {
    if (!c.real(b, g, i)) return;
    const int n = c.end(b);
    const size_t query = c.row(b, g, i, h) * d;
    const auto product = [&](const char* x, size_t at, const char* y, size_t to) {
      double sum = 0;
      for (size_t k = 0; k < d; ++k) sum += in.at(x)[at + k] * in.at(y)[to + k];
      return sum;
    };
    Values weight(static_cast<size_t>(n)), slope(weight.size());
    double total = 0, mean = 0;
    for (int j = 0; j < n; ++j) {
      const double logit = scale * product("q", query, "k", c.row(b, g, j, h) * d) +
                           in.at("bias")[c.bias(b, h, i, j)];
      total += weight[size_t(j)] = std::exp(logit);
    }
    for (int j = 0; j < n; ++j) {
      const auto at = static_cast<size_t>(j);
      const size_t key = c.row(b, g, j, h) * d;
      weight[at] = total == 0 ? 0 : weight[at] / total;
      const double keep = in.at("keep")[c.bias(b, h, i, j)] * kept;
      slope[at] = keep * product("out_grad", query, "v", key);
      mean += weight[at] * slope[at];
      for (size_t k = 0; k < d; ++k) {
        out["out"][query + k] += weight[at] * keep * in.at("v")[key + k];
        out["v_grad"][key + k] += weight[at] * keep * in.at("out_grad")[query + k];
      }
    }
    for (int j = 0; j < n; ++j) {
      const size_t key = c.row(b, g, j, h) * d;
      const double gradient = weight[size_t(j)] * (slope[size_t(j)] - mean);
      out["bias_grad"][c.bias(b, h, i, j)] += gradient;
      for (size_t k = 0; k < d; ++k) {
        out["q_grad"][query + k] += scale * gradient * in.at("k")[key + k];
        out["k_grad"][key + k] += scale * gradient * in.at("q")[query + k];
      }
    }
  });
  return out;
}

// What is padding holds NaN; Bias is what the bias is stored in.
template <class T, class Bias>
Tensors run(const Case& c, Tensors in) {
  const auto d = static_cast<size_t>(c.width);
  each_row(c, [&](int b, int g, int i, int h) {
    for (int j = 0; g == 0 && j < c.length; ++j) {
      if (!c.real(b, 0, i) || !c.real(b, 0, j)) in["bias"][c.bias(b, h, i, j)] = NAN;
    }
    if (c.real(b, g, i)) return;
    for (const char* name : {"q", "k", "v", "out_grad"}) {
      for (size_t k = 0; k < d; ++k) in[name][c.row(b, g, i, h) * d + k] = NAN;
    }
  });
  std::map<std::string, std::vector<T>> memory;
  const auto tensor = [&](const char* name) {
    memory[name] = to<T>(in.count(name) ? in[name] : Values(c.elements(), NAN));
    const int64_t row = int64_t{c.heads} * c.width, G = c.groups, L = c.length;
    const int64_t group = c.columns ? row : L * row, position = c.columns ? G * row : row;
    return CudaAttentionTensor{memory[name].data(), G * L * row, group, position, c.width};
  };
  const auto given = to<Bias>(in["bias"]);
  std::vector<uint8_t> keep(c.biases());
  for (size_t i = 0; i < keep.size(); ++i) keep[i] = in["keep"][i] != 0;

  CudaAttention problem;
  problem.type =
      std::is_same_v<T, __half> ? CudaNarrow::float16 : CudaNarrow::bfloat16;
  problem.batch = c.batch, problem.groups = c.groups, problem.length = c.length;
  problem.heads = c.heads, problem.width = c.width;
  problem.scale = static_cast<float>(1 / std::sqrt(double(c.width)));
  problem.lengths = c.lengths.empty() ? nullptr : c.lengths.data();
  problem.multiprocessors = c.multiprocessors, problem.shared_memory = 227 * 1024;
  problem.q = tensor("q"), problem.k = tensor("k"), problem.v = tensor("v");
  if (c.dropout) problem.keep = keep.data(), problem.kept = kKept;
  EXPECT_TRUE(cuda_attention_takes(problem));

  // Arranged for several groups: as it is stored where division by the scale rounds nothing.
  const int64_t square = int64_t{c.length} * c.length;
  const int64_t steps[4] = {c.heads * square, square, c.length, 1};
  const bool wide = std::is_same_v<Bias, float>;
  const bool narrow_arranged = std::is_same_v<Bias, __nv_bfloat16> && c.width == 16;
  const auto heads = static_cast<size_t>(c.batch * c.heads);
  std::vector<float> arranged[2];
  if (c.groups > 1) {
    CudaAttentionBias arrange;
    arrange.type = problem.type;
    arrange.batch = c.batch, arrange.heads = c.heads, arrange.length = c.length;
    arrange.from = given.data(), arrange.wide_from = wide;
    std::copy(steps, steps + 4, arrange.steps);
    arrange.factor = 1 / problem.scale, arrange.wide_to = !narrow_arranged;
    for (std::vector<float>& to : arranged) {
      to.assign(heads * static_cast<size_t>(cuda_attention_arranged(c.length)), NAN);
      arrange.to = to.data();
      EXPECT_EQ(cuda_attention_bias(arrange, nullptr), cudaSuccess);
      arrange.from = to.data(), arrange.wide_from = arrange.wide_to;
      arrange.factor = 1, arrange.transposed = true;
    }
    problem.bias = arranged[0].data(), problem.wide_bias = !narrow_arranged;
  } else {
    problem.bias = given.data(), problem.wide_bias = wide;
    std::copy(steps, steps + 3, problem.bias_steps);
  }

  std::vector<float> log_sum(c.rows(), NAN), delta(c.rows(), NAN);
  problem.log_sum = log_sum.data();
  CudaAttentionForward forward{problem};
  forward.out = tensor("out");
  EXPECT_EQ(cuda_attention_forward(forward, nullptr), cudaSuccess);

  CudaAttentionBackward backward{problem};
  cuda_attention_plan(backward);
  std::vector<float> q_sums(c.elements(), NAN),
      bias_sums(
          static_cast<size_t>(backward.slices * c.length * cuda_attention_pitch(c.length)) * heads,
          NAN);
  std::vector<Bias> bias_grad(c.biases(), narrow<Bias>(NAN));
  backward.bias_transposed = arranged[1].data();
  backward.out = forward.out, backward.out_grad = tensor("out_grad");
  backward.q_grad = tensor("q_grad");
  backward.k_grad = tensor("k_grad"), backward.v_grad = tensor("v_grad");
  backward.delta = delta.data(), backward.q_sums = q_sums.data();
  backward.bias_grad = bias_grad.data(), backward.wide_bias_grad = wide;
  backward.bias_sums = bias_sums.data();
  EXPECT_EQ(cuda_attention_backward(backward, nullptr), cudaSuccess);

  Tensors out;
  for (const char* name : {"out", "q_grad", "k_grad", "v_grad"}) out[name] = from(memory[name]);
  out["bias_grad"] = from(bias_grad);
  return out;
}

template <class T, class Bias = T>
void expect_agreement(const Case& c, double tolerance) {
  const Tensors in = random_inputs<T>(c), got = run<T, Bias>(c, in);
  for (const auto& [name, want] : define(c, in)) {
    EXPECT_LT(difference(got.at(name), want), tolerance)
        << name << ", B " << c.batch << ", G " << c.groups << ", L " << c.length << ", H "
        << c.heads << ", d " << c.width;
  }
}

TEST(AttentionCudaOnHost, TheDefinitionHasTheDerivativesItSays) {
  const Case c = {2, 3, 3, 2, 4, {3, 2}, false, true};
  Tensors in = random_inputs<__half>(c);
  const Tensors d = define(c, in);
  for (const char* name : {"q", "k", "v", "bias"}) {
    for (size_t i = 0; i < in[name].size(); i += 5) {
      if (std::isinf(in[name][i])) continue;
      double loss[2] = {};
      for (const int side : {0, 1}) {
        Tensors moved = in;
        moved[name][i] += side == 0 ? 1e-5 : -1e-5;
        const Values y = define(c, moved).at("out");
        for (size_t k = 0; k < y.size(); ++k) loss[side] += y[k] * in["out_grad"][k];
      }
      EXPECT_NEAR((loss[0] - loss[1]) / 2e-5, d.at(std::string(name) + "_grad")[i], 1e-6) << name;
    }
  }
}

// Tiles and chunks that are not full, lengths from none to all, one group and several, blocks of
// one warp and of more.
TEST(AttentionCudaOnHost, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  expect_agreement<__nv_bfloat16>({1, 1, 1, 1, 16}, 1e-2);
  expect_agreement<__nv_bfloat16>({3, 1, 37, 2, 32, {37, 0, 33}, false, false, 4}, 1.5e-2);
  expect_agreement<__nv_bfloat16, float>({1, 1, 70, 1, 64}, 1.5e-2);
  expect_agreement<__nv_bfloat16>({2, 5, 5, 2, 16, {5, 3}}, 1.5e-2);
  expect_agreement<__half, float>({1, 20, 20, 2, 16, {18}, true}, 2e-3);
  expect_agreement<__half>({1, 1, 100, 1, 8}, 2e-3);
  expect_agreement<__half>({1, 2, 18, 1, 24, {}, false, false, 2}, 2e-3);
}

TEST(AttentionCudaOnHost, AgreesWithItsDefinitionWithDropout) {
  expect_agreement<__half>({2, 1, 41, 1, 16, {41, 30}, false, true}, 2e-3);
  expect_agreement<__half>({1, 1, 20, 2, 64, {}, false, true}, 2e-3);
}

TEST(AttentionCudaOnHost, AgreesWithItsDefinitionWhereKeysTakeSeveralPasses) {
  expect_agreement<__half>({1, 2, 210, 1, 16, {205}}, 2e-3);
  expect_agreement<__half>({2, 1, 200, 1, 32, {200, 100}}, 2e-3);
}

TEST(AttentionCudaOnHost, TheNumberOfBlocksChangesRoundingAlone) {
  Case c = {1, 9, 9, 2, 16, {8}};
  const Tensors in = random_inputs<__half>(c), few = run<__half, float>(c, in),
                again = run<__half, float>(c, in);
  EXPECT_EQ(few, again);
  c.multiprocessors = 100;
  for (const auto& [name, want] : run<__half, float>(c, in)) {
    EXPECT_LT(difference(few.at(name), want), 1e-5) << name;
  }
}

TEST(AttentionCudaOnHost, NanShows) {
  const Case c = {1, 1, 40, 1, 16};
  Tensors in = random_inputs<__half>(c);
  in["k"][3 * 16] = NAN;  // of position 3
  const Tensors got = run<__half, float>(c, in);
  for (size_t i = 0; i < c.rows(); ++i) EXPECT_TRUE(std::isnan(got.at("out")[i * 16])) << i;
  EXPECT_TRUE(std::isnan(got.at("q_grad")[0]));
  EXPECT_TRUE(std::isnan(got.at("bias_grad")[3]));
}

TEST(AttentionCudaOnHost, RefusesWhatItCannotDo) {
  const auto takes = [](int groups, int length, int width, int64_t shared = 227 * 1024) {
    CudaAttention problem;
    problem.batch = 1, problem.groups = groups, problem.length = length;
    problem.heads = 1, problem.width = width;
    problem.multiprocessors = 132, problem.shared_memory = shared;
    return cuda_attention_takes(problem);
  };
  EXPECT_TRUE(takes(1, 177, 32));
  EXPECT_TRUE(takes(177, 177, 16));
  EXPECT_TRUE(takes(1, 5000, 64, 163 * 1024));
  EXPECT_FALSE(takes(1, 177, 12));
  EXPECT_FALSE(takes(1, 177, 128));
  EXPECT_FALSE(takes(1, 0, 32));
}

}  // namespace
}  // namespace ribo::kernels
