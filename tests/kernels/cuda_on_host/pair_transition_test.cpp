// The CUDA pair transition's arithmetic on the CPU: the very source that nvcc compiles.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "convert.h"
#include "pair_transition/pair_transition_cuda.cu"  // NOLINT

namespace ribo::kernels {
namespace {

using cuda_on_host::difference;
using cuda_on_host::from;
using cuda_on_host::to;

constexpr double kEps = 1e-5;

struct Case {
  int64_t batch, length;  // B L^2 positions
  int channels, hidden;
  int multiprocessors = 3;
  std::vector<int64_t> lengths = {};
  int64_t shared_memory = 227 * 1024;  // an H100's
  int capability = 80;

  int64_t positions() const { return batch * length * length; }
  bool real(int64_t position) const {
    if (lengths.empty()) return true;
    const int64_t end = lengths[size_t(position / (length * length))];
    return position / length % length < end && position % length < end;
  }
};

struct Inputs {
  std::vector<double> x, norm_weight, norm_bias, w1, b1, w2, b2, dy;
};
// Named as the arguments they are the gradients of.
struct Result {
  std::vector<double> y, x, norm_weight, norm_bias, w1, b1, w2, b2;
};

struct Named {
  const char* name;
  std::vector<double> Result::*in;
};
const Named kResults[] = {{"y", &Result::y},
                          {"x", &Result::x},
                          {"norm_weight", &Result::norm_weight},
                          {"norm_bias", &Result::norm_bias},
                          {"w1", &Result::w1},
                          {"b1", &Result::b1},
                          {"w2", &Result::w2},
                          {"b2", &Result::b2}};

std::vector<double> draw(int64_t count, double scale, std::mt19937& random) {
  std::normal_distribution<double> normal(0, scale);
  std::vector<double> x(size_t(count), 0);
  for (double& v : x) v = normal(random);
  return x;
}

// NaN where nothing may be read.
Inputs random_inputs(const Case& c) {
  std::mt19937 random(1);
  const int64_t C = c.channels, H = c.hidden;
  Inputs in = {draw(c.positions() * C, 1, random),
               draw(C, 1, random),
               draw(C, 1, random),
               draw(H * C, 1 / std::sqrt(C), random),
               draw(H, 1, random),
               draw(C * H, 1 / std::sqrt(H), random),
               draw(C, 1, random),
               draw(c.positions() * C, 1, random)};
  for (int64_t i = 0; i < c.positions() * C; ++i) {
    in.x[size_t(i)] += 0.5;
    if (!c.real(i / C)) in.x[size_t(i)] = in.dy[size_t(i)] = NAN;
  }
  return in;
}

// The definition, in double; operands of products are rounded by `round`.
template <class F>
Result define(const Case& c, const Inputs& in, F&& round) {
  const auto C = size_t(c.channels), H = size_t(c.hidden), P = size_t(c.positions());
  const auto zeros = [](size_t count) { return std::vector<double>(count, 0); };
  Result out = {zeros(P * C), zeros(P * C), zeros(C),     zeros(C),
                zeros(H * C), zeros(H),     zeros(C * H), zeros(C)};
  // W1 with the norm's weight, as products have it: normed rows add up to zero.
  auto folded = zeros(H * C);
  for (size_t h = 0; h < H; ++h) {
    double mean = 0;
    for (size_t k = 0; k < C; ++k) mean += in.w1[h * C + k] * in.norm_weight[k] / double(C);
    for (size_t k = 0; k < C; ++k) {
      folded[h * C + k] = round(in.w1[h * C + k] * in.norm_weight[k] - mean);
    }
  }
  for (size_t p = 0; p < P; ++p) {
    if (!c.real(int64_t(p))) continue;
    const double *x = &in.x[p * C], *dy = &in.dy[p * C];
    double mean = 0, variance = 0;
    for (size_t k = 0; k < C; ++k) mean += x[k] / double(C);
    for (size_t k = 0; k < C; ++k) variance += (x[k] - mean) * (x[k] - mean) / double(C);
    const double scale = 1 / std::sqrt(variance + kEps);
    auto normed = zeros(C), d_normed = zeros(C), hidden = zeros(H), rounded = zeros(C);
    for (size_t k = 0; k < C; ++k) {
      normed[k] = (x[k] - mean) * scale;
      rounded[k] = round(normed[k]);
    }
    for (size_t h = 0; h < H; ++h) {
      hidden[h] = in.b1[h];
      for (size_t k = 0; k < C; ++k) {
        hidden[h] += folded[h * C + k] * rounded[k] + in.w1[h * C + k] * in.norm_bias[k];
      }
      hidden[h] = round(std::max(0.0, hidden[h]));
    }
    for (size_t k = 0; k < C; ++k) {
      out.y[p * C + k] = x[k] + in.b2[k];
      for (size_t h = 0; h < H; ++h) out.y[p * C + k] += round(in.w2[k * H + h]) * hidden[h];
      out.b2[k] += dy[k];
    }
    for (size_t h = 0; h < H; ++h) {
      double d = 0;
      for (size_t k = 0; k < C; ++k) {
        d += round(dy[k]) * round(in.w2[k * H + h]);
        out.w2[k * H + h] += round(dy[k]) * hidden[h];
      }
      if (hidden[h] == 0) continue;
      d = round(d);
      out.b1[h] += d;
      for (size_t k = 0; k < C; ++k) {
        const double w1 = in.w1[h * C + k];
        out.w1[h * C + k] += d * (rounded[k] * in.norm_weight[k] + in.norm_bias[k]);
        out.norm_weight[k] += d * w1 * rounded[k];
        out.norm_bias[k] += d * w1;
        d_normed[k] += d * folded[h * C + k];
      }
    }
    double sum = 0, product = 0;
    for (size_t k = 0; k < C; ++k) {
      sum += d_normed[k] / double(C);
      product += d_normed[k] * normed[k] / double(C);
    }
    for (size_t k = 0; k < C; ++k) {
      out.x[p * C + k] = dy[k] + scale * (d_normed[k] - sum - normed[k] * product);
    }
  }
  return out;
}

template <class T>
CudaTransition shape(const Case& c) {
  CudaTransition problem;
  problem.type =
      std::is_same_v<T, __half> ? CudaNarrow::float16 : CudaNarrow::bfloat16;
  problem.channels = c.channels, problem.hidden = c.hidden;
  problem.positions = c.positions(), problem.length = c.length;
  problem.eps = kEps;
  problem.multiprocessors = c.multiprocessors;
  problem.capability = c.capability;
  problem.shared_memory = c.shared_memory;
  return problem;
}

// Io: of x and y. W: of the weights.
template <class Io, class T, class W = float>
Result run(const Case& c, const Inputs& in) {
  const auto x = to<Io>(in.x), dy = to<Io>(in.dy);
  const auto norm_weight = to<W>(in.norm_weight), norm_bias = to<W>(in.norm_bias),
             w1 = to<W>(in.w1), b1 = to<W>(in.b1), w2 = to<W>(in.w2), b2 = to<W>(in.b2);
  auto y = to<Io>(std::vector<double>(in.x.size(), NAN)), dx = y;
  CudaTransition problem = shape<T>(c);
  problem.wide = std::is_same_v<Io, float>;
  problem.wide_weights = std::is_same_v<W, float>;
  problem.lengths = c.lengths.empty() ? nullptr : c.lengths.data();
  problem.x = x.data();
  problem.norm_weight = norm_weight.data(), problem.norm_bias = norm_bias.data();
  problem.w1 = w1.data(), problem.b1 = b1.data();
  problem.w2 = w2.data(), problem.b2 = b2.data();
  EXPECT_TRUE(cuda_transition_takes(problem));
  CudaTransitionForward forward{problem};
  forward.y = y.data();
  std::vector<float> scratch(size_t(cuda_transition_forward_scratch(problem)), NAN);
  forward.scratch = scratch.data();
  EXPECT_EQ(cuda_transition_forward(forward, nullptr), cudaSuccess);
  CudaTransitionBackward backward{problem};
  const auto like = [](const auto& x) { return to<W>(std::vector<double>(x.size(), NAN)); };
  auto d_norm_weight = like(norm_weight), d_norm_bias = like(norm_bias), dw1 = like(w1),
       db1 = like(b1), dw2 = like(w2), db2 = like(b2);
  scratch.assign(size_t(cuda_transition_backward_scratch(problem)), NAN);
  backward.dy = dy.data(), backward.dx = dx.data();
  backward.d_norm_weight = d_norm_weight.data(), backward.d_norm_bias = d_norm_bias.data();
  backward.dw1 = dw1.data(), backward.db1 = db1.data();
  backward.dw2 = dw2.data(), backward.db2 = db2.data();
  backward.scratch = scratch.data();
  EXPECT_EQ(cuda_transition_backward(backward, nullptr), cudaSuccess);
  return {from(y),   from(dx),  from(d_norm_weight), from(d_norm_bias),
          from(dw1), from(db1), from(dw2),           from(db2)};
}

void expect_same(const Result& got, const Result& want, double tolerance, const Case& c,
                 const char* types) {
  for (const Named& value : kResults) {
    EXPECT_LT(difference(got.*value.in, want.*value.in), tolerance)
        << value.name << ", " << types << ": " << c.batch << " x " << c.length << "^2, C "
        << c.channels << ", H " << c.hidden;
  }
}

template <class Io, class T, class W = float>
void expect_agreement(const Case& c, double tolerance, const char* types) {
  Inputs in = random_inputs(c);
  // What a narrow type makes of the inputs is not the kernel's error.
  for (auto* x : {&in.x, &in.dy}) *x = from(to<Io>(*x));
  for (auto* w : {&in.norm_weight, &in.norm_bias, &in.w1, &in.b1, &in.w2, &in.b2}) {
    *w = from(to<W>(*w));
  }
  const auto round = [](double x) { return widen(narrow<T>(static_cast<float>(x))); };
  expect_same(run<Io, T, W>(c, in), define(c, in, round), tolerance, c, types);
}

// The padding holds NaN.
TEST(PairTransitionCudaOnHost, AgreesWithItsDefinition) {
  for (const Case& c : std::vector<Case>{{1, 1, 16, 16},
                                         {2, 7, 16, 64, 1},
                                         {3, 16, 16, 112, 2, {16, 0, 3}},
                                         {2, 11, 64, 16, 3, {11, 6}},
                                         {1, 13, 64, 64, 2},
                                         {2, 10, 64, 256, 2, {10, 7}},
                                         {1, 8, 32, 128, 2, {7}}}) {
    expect_agreement<float, __nv_bfloat16>(c, 2e-3, "float32 and bfloat16");
    expect_agreement<__nv_bfloat16, __nv_bfloat16>(c, 4e-3, "bfloat16");
  }
  const Case c = {1, 9, 64, 160};
  expect_agreement<float, __half>(c, 3e-4, "float32 and float16");
  expect_agreement<__half, __half>(c, 6e-4, "float16");
  expect_agreement<__half, __half, __half>(c, 6e-4, "float16 and its weights");
  expect_agreement<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16>(c, 4e-3,
                                                                "bfloat16 and its weights");
}

TEST(PairTransitionCudaOnHost, AgreesWithItsDefinitionInTheSharedMemoryOfAnA100) {
  const Case c = {1, 14, 64, 256, 2, {13}, 163 * 1024};
  expect_agreement<float, __nv_bfloat16>(c, 2e-3, "float32 and bfloat16");
}

// By a warpgroup's instructions; the last has too few hidden units for them.
TEST(PairTransitionCudaOnHost, AgreesWithItsDefinitionOnHopper) {
  for (const Case& of : std::vector<Case>{{1, 1, 64, 256},
                                          {2, 20, 64, 256, 2, {20, 7}},
                                          {3, 9, 64, 144, 1, {9, 0, 3}},
                                          {1, 10, 64, 128}}) {
    Case c = of;
    c.capability = 90;
    expect_agreement<__nv_bfloat16, __nv_bfloat16>(c, 4e-3, "bfloat16");
    if (c.length > 10) continue;
    expect_agreement<float, __nv_bfloat16>(c, 2e-3, "float32 and bfloat16");
    expect_agreement<__half, __half, __half>(c, 6e-4, "float16 and its weights");
  }
}

TEST(PairTransitionCudaOnHost, SumsDependOnTheNumberOfBlocksAlone) {
  for (Case c : {Case{2, 20, 16, 32, 4, {20, 11}}, Case{2, 13, 64, 192, 2, {13, 9}}}) {
    c.capability = c.channels == 64 ? 90 : 80;
    const Inputs in = random_inputs(c);
    const Result some = run<float, __half>(c, in), again = run<float, __half>(c, in);
    for (const Named& value : kResults) EXPECT_EQ(some.*value.in, again.*value.in) << value.name;
    c.multiprocessors = 1;
    const Result one = run<float, __half>(c, in);
    EXPECT_EQ(one.y, some.y);
    EXPECT_EQ(one.x, some.x);
    expect_same(one, some, 1e-5, c, "one block and some");
  }
}

TEST(PairTransitionCudaOnHost, NanShows) {
  for (Case c : {Case{1, 5, 32, 48}, Case{1, 5, 64, 144}}) {
    c.capability = c.channels == 64 ? 90 : 80;
    Inputs in = random_inputs(c);
    in.x[size_t(7 * c.channels + 3)] = NAN;
    const Result got = run<float, __half>(c, in);
    for (const auto* rows : {&got.y, &got.x}) {
      for (size_t i = 0; i < rows->size(); ++i) {
        EXPECT_EQ(std::isnan((*rows)[i]), i / size_t(c.channels) == 7) << i;
      }
    }
    for (const auto* w : {&got.w1, &got.w2, &got.norm_weight}) EXPECT_TRUE(std::isnan((*w)[0]));
  }
}

TEST(PairTransitionCudaOnHost, RefusesWhatItCannotDo) {
  const auto takes = [](const Case& c) { return cuda_transition_takes(shape<__half>(c)); };
  EXPECT_TRUE(takes({1, 9, 64, 256}));
  EXPECT_TRUE(takes({1, 9, 32, 128}));
  EXPECT_FALSE(takes({1, 9, 24, 96}));
  EXPECT_FALSE(takes({1, 9, 64, 72}));
  EXPECT_FALSE(takes({1, 9, 64, 272}));
  EXPECT_FALSE(takes({1, 9, 32, 144}));
  EXPECT_FALSE(takes({1, 9, 128, 128}));
  EXPECT_FALSE(takes({1, 9, 64, 256, 1, {}, 99 * 1024}));
  EXPECT_FALSE(takes({1, 47000, 64, 256}));
}

}  // namespace
}  // namespace ribo::kernels
