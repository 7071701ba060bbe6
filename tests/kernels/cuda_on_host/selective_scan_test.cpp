// The CUDA scan's arithmetic on the CPU: the very source that nvcc compiles.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "convert.h"
#include "selective_scan/selective_scan_cuda.cu"  // NOLINT

namespace ribo::kernels {
namespace {

using cuda_on_host::difference;
using cuda_on_host::from;
using cuda_on_host::to;

struct Case {
  int64_t batch, length, channels, groups, states;
  bool z = false, bias_and_softplus = false, skip = false, reverse = false, state = false;
  std::vector<int64_t> lengths = {};
  int64_t segments = 1, multiprocessors = 1;
};

using Tensors = std::map<std::string, std::vector<double>>;

Tensors random_tensors(const Case& c, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const auto draw = [&](int64_t count, double scale, double shift = 0) {
    std::vector<double> x(static_cast<size_t>(count));
    for (double& v : x) v = normal(random) * scale + shift;
    return x;
  };
  const int64_t rows = c.batch * c.length, d = c.channels, n = c.states;
  Tensors t = {{"u", draw(rows * d, 1)},
               {"delta", draw(rows * d, 0.5)},
               {"A", draw(d * n, 1)},
               {"B", draw(rows * c.groups * n, 1)},
               {"C", draw(rows * c.groups * n, 1)}};
  for (double& v : t["A"]) v = -0.1 - std::abs(v);
  if (!c.bias_and_softplus) {
    for (double& v : t["delta"]) v = std::abs(v);
  } else {
    t["bias"] = draw(d, 1);
  }
  if (c.skip) t["D"] = draw(d, 1);
  if (c.z) t["z"] = draw(rows * d, 1);
  if (c.state) t["initial"] = draw(c.batch * d * n, 1);
  return t;
}

// The definition, in double.
void define(const Case& c, const Tensors& in, std::vector<double>& y, std::vector<double>& last) {
  const auto at = [&](const char* name, int64_t i) {
    const auto it = in.find(name);
    return it == in.end() ? 0.0 : it->second[static_cast<size_t>(i)];
  };
  y.assign(static_cast<size_t>(c.batch * c.length * c.channels), 0);
  last.assign(static_cast<size_t>(c.batch * c.channels * c.states), 0);
  for (int64_t b = 0; b < c.batch; ++b) {
    const int64_t length = c.lengths.empty() ? c.length : c.lengths[static_cast<size_t>(b)];
    for (int64_t d = 0; d < c.channels; ++d) {
      const int64_t group = d / (c.channels / c.groups);
      double* h = &last[static_cast<size_t>((b * c.channels + d) * c.states)];
      for (int64_t n = 0; n < c.states; ++n) h[n] = at("initial", h - last.data() + n);
      for (int64_t t = 0; t < length; ++t) {
        const int64_t row = b * c.length + (c.reverse ? length - 1 - t : t);
        const int64_t i = row * c.channels + d;
        double delta = at("delta", i) + at("bias", d);
        if (c.bias_and_softplus) delta = std::log1p(std::exp(delta));
        double sum = at("D", d) * at("u", i);
        for (int64_t n = 0; n < c.states; ++n) {
          const int64_t k = (row * c.groups + group) * c.states + n;
          h[n] =
              std::exp(delta * at("A", d * c.states + n)) * h[n] + delta * at("u", i) * at("B", k);
          sum += at("C", k) * h[n];
        }
        const double z = at("z", i);
        y[static_cast<size_t>(i)] = c.z ? sum * z / (1 + std::exp(-z)) : sum;
      }
    }
  }
}

// y, last and the gradients of sum(y dy) + sum(last d_last), by the kernels.
template <class Io>
Tensors run(const Case& c, Tensors in, const Tensors& weights) {
  using T = Real<Io>;
  const int64_t rows = c.batch * c.length;
  std::map<std::string, std::vector<Io>> io;
  std::map<std::string, std::vector<T>> real;
  const auto poisoned = [](auto type, int64_t count) {
    return std::vector<decltype(type)>(static_cast<size_t>(count),
                                       narrow<decltype(type)>(Real<decltype(type)>(NAN)));
  };
  // What is behind a length must not be read.
  for (size_t b = 0; b < c.lengths.size(); ++b) {
    for (const char* name : {"u", "delta", "z", "B", "C"}) {
      std::vector<double>& x = in[name];
      if (x.empty()) continue;
      const auto row = static_cast<int64_t>(x.size()) / rows;
      const auto begin = x.begin() + static_cast<int64_t>(b) * c.length * row;
      std::fill(begin + c.lengths[b] * row, begin + c.length * row, NAN);
    }
  }
  // u, delta and z lie side by side, as a projection leaves them: rows with a stride.
  std::vector<double> wide(static_cast<size_t>(3 * rows * c.channels), NAN);
  const std::string columns[] = {"u", "delta", "z"};
  for (int64_t i = 0; i < rows * c.channels; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      const std::vector<double>& x = in[columns[j]];
      const int64_t to = (i / c.channels * 3 + j) * c.channels + i % c.channels;
      if (!x.empty()) wide[static_cast<size_t>(to)] = x[static_cast<size_t>(i)];
    }
  }
  io["wide"] = to<Io>(wide);
  for (const char* name : {"B", "C"}) io[name] = to<Io>(in[name]);
  for (const char* name : {"A", "D", "bias", "initial"}) real[name] = to<T>(in[name]);
  const auto or_null = [](auto& x) { return x.empty() ? nullptr : x.data(); };

  const int64_t bdn = c.batch * c.channels * c.states;
  CudaScanForward f{};
  f.io = std::is_same_v<Io, double>          ? CudaScanIo::float64
         : std::is_same_v<Io, __nv_bfloat16> ? CudaScanIo::bfloat16
         : std::is_same_v<Io, __half>        ? CudaScanIo::float16
                                             : CudaScanIo::float32;
  f.batch = c.batch, f.length = c.length, f.channels = c.channels;
  f.groups = c.groups, f.states = c.states;
  f.delta_softplus = c.bias_and_softplus, f.reverse = c.reverse, f.segments = c.segments;
  f.multiprocessors = c.multiprocessors;
  f.lengths = c.lengths.empty() ? nullptr : c.lengths.data();
  const int64_t width = 3 * c.channels;
  f.u = {io["wide"].data(), c.length * width, width};
  f.delta = {io["wide"].data() + c.channels, c.length * width, width};
  if (c.z) f.z = {io["wide"].data() + 2 * c.channels, c.length * width, width};
  f.B = {io["B"].data(), c.length * c.groups * c.states, c.groups * c.states};
  f.C = {io["C"].data(), c.length * c.groups * c.states, c.groups * c.states};
  f.A = real["A"].data(), f.D = or_null(real["D"]), f.delta_bias = or_null(real["bias"]);
  f.initial_state = or_null(real["initial"]);
  auto checkpoints = poisoned(
      T{}, (c.length + kCudaScanStride - 1) / kCudaScanStride * c.batch * c.states * c.channels);
  f.checkpoints = checkpoints.data();
  auto y = poisoned(Io{}, rows * c.channels), ungated = y;
  if (c.z) f.ungated = ungated.data();
  auto last = poisoned(T{}, bdn);
  f.y = y.data(), f.last_state = last.data();
  auto scratch = poisoned(T{}, cuda_scan_scratch(f, false));
  f.scratch = scratch.data();
  EXPECT_EQ(cuda_scan_forward(f, nullptr), cudaSuccess);

  CudaScanBackward g{};
  static_cast<CudaScanProblem&>(g) = f;
  const auto dy = to<Io>(weights.at("y"));
  const auto d_last = to<T>(weights.at("last"));
  g.dy = {dy.data(), c.length * c.channels, c.channels};
  if (c.state) g.d_last_state = d_last.data();
  auto du = poisoned(Io{}, rows * c.channels), ddelta = du, dz = du;
  auto dB = poisoned(Io{}, rows * c.groups * c.states), dC = dB;
  auto dA = poisoned(T{}, c.channels * c.states);
  auto dD = poisoned(T{}, c.channels), d_bias = dD;
  auto d_initial = poisoned(T{}, bdn);
  g.du = du.data(), g.ddelta = ddelta.data(), g.dz = c.z ? dz.data() : nullptr;
  g.dB = dB.data(), g.dC = dC.data(), g.dA = dA.data();
  g.dD = c.skip ? dD.data() : nullptr;
  g.ddelta_bias = c.bias_and_softplus ? d_bias.data() : nullptr;
  g.d_initial_state = c.state ? d_initial.data() : nullptr;
  scratch = poisoned(T{}, cuda_scan_scratch(g, true));
  g.scratch = scratch.data();
  EXPECT_EQ(cuda_scan_backward(g, nullptr), cudaSuccess);

  Tensors out = {{"y", from(y)},  {"last", from(last)}, {"u", from(du)}, {"delta", from(ddelta)},
                 {"B", from(dB)}, {"C", from(dC)},      {"A", from(dA)}};
  if (c.z) out["z"] = from(dz);
  if (c.skip) out["D"] = from(dD);
  if (c.bias_and_softplus) out["bias"] = from(d_bias);
  if (c.state) out["initial"] = from(d_initial);
  return out;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// One thing at a time, then all at once; odd sizes, one position, more than one block of channels,
// more than one block of states, segments that a sequence does not reach; channels that can be
// copied in pieces of 16 bytes and channels that cannot.
const Case kCases[] = {
    {.batch = 1, .length = 1, .channels = 1, .groups = 1, .states = 1},
    {.batch = 2, .length = 17, .channels = 3, .groups = 1, .states = 4},
    {.batch = 1, .length = 16, .channels = 130, .groups = 1, .states = 2},
    {.batch = 1, .length = 20, .channels = 6, .groups = 3, .states = 5, .z = true},
    {.batch = 1,
     .length = 33,
     .channels = 16,
     .groups = 1,
     .states = 16,
     .skip = true,
     .reverse = true},
    {.batch = 1, .length = 15, .channels = 2, .groups = 1, .states = 8, .bias_and_softplus = true},
    {.batch = 3,
     .length = 40,
     .channels = 16,
     .groups = 2,
     .states = 3,
     .z = true,
     .state = true,
     .lengths = {40, 0, 23}},
    {.batch = 1, .length = 18, .channels = 40, .groups = 1, .states = 70, .state = true},
    {.batch = 1,
     .length = 100,
     .channels = 3,
     .groups = 1,
     .states = 4,
     .state = true,
     .segments = 3},
    {.batch = 3,
     .length = 90,
     .channels = 10,
     .groups = 2,
     .states = 7,
     .z = true,
     .bias_and_softplus = true,
     .skip = true,
     .reverse = true,
     .state = true,
     .lengths = {90, 17, 48},
     .segments = 4},
    {.batch = 2,
     .length = 37,
     .channels = 136,
     .groups = 1,
     .states = 5,
     .z = true,
     .bias_and_softplus = true,
     .skip = true,
     .reverse = true,
     .state = true,
     .lengths = {16, 37},
     .segments = 2},
    {.batch = 2,
     .length = 70,
     .channels = 144,
     .groups = 2,
     .states = 16,
     .z = true,
     .bias_and_softplus = true,
     .skip = true,
     .state = true,
     .lengths = {70, 33},
     .segments = 2},
    {.batch = 2,
     .length = 70,
     .channels = 144,
     .groups = 2,
     .states = 16,
     .z = true,
     .bias_and_softplus = true,
     .skip = true,
     .reverse = true,
     .state = true,
     .lengths = {70, 33},
     .multiprocessors = 132},
    {.batch = 1,
     .length = 20,
     .channels = 48,
     .groups = 2,
     .states = 35,
     .z = true,
     .bias_and_softplus = true,
     .skip = true,
     .state = true,
     .lengths = {18},
     .segments = 2},
};

class CudaScanOnHost : public ::testing::TestWithParam<Case> {};

// In every direction: (loss(x + e v) - loss(x - e v)) / 2e = gradient . v.
TEST_P(CudaScanOnHost, AgreesWithTheDefinitionAndItsDerivatives) {
  const Case& c = GetParam();
  const Tensors in = random_tensors(c, 1);
  std::vector<double> y, last;
  define(c, in, y, last);
  const Tensors weights = {{"y", random_tensors(c, 2)["u"]},
                           {"last", [&] {
                              std::mt19937 random(3);
                              std::vector<double> w(last.size());
                              for (double& v : w)
                                v = c.state ? std::normal_distribution()(random) : 0;
                              return w;
                            }()}};
  const Tensors got = run<double>(c, in, weights);
  EXPECT_LT(difference(got.at("y"), y), 1e-12);
  EXPECT_LT(difference(got.at("last"), last), 1e-12);
  const Tensors directions = random_tensors(c, 4);
  for (const auto& [name, x] : in) {
    double loss[2];
    for (const int side : {0, 1}) {
      Tensors moved = in;
      for (size_t i = 0; i < x.size(); ++i) {
        moved[name][i] += (side == 0 ? 1e-5 : -1e-5) * directions.at(name)[i];
      }
      std::vector<double> y_moved, last_moved;
      define(c, moved, y_moved, last_moved);
      loss[side] = dot(y_moved, weights.at("y")) + dot(last_moved, weights.at("last"));
    }
    const double want = (loss[0] - loss[1]) / 2e-5, is = dot(got.at(name), directions.at(name));
    EXPECT_NEAR(is, want, 1e-6 * std::max(1.0, std::abs(want))) << name;
  }
}

// float32 against double; the narrow types against double on inputs rounded to them.
TEST_P(CudaScanOnHost, EveryTypeAgreesWithDouble) {
  const Case& c = GetParam();
  Tensors in = random_tensors(c, 1);
  Tensors weights = {{"y", random_tensors(c, 2)["u"]}, {"last", random_tensors(c, 2)["initial"]}};
  const auto compare = [&](const Tensors& got, double tolerance) {
    for (const auto& [name, want] : run<double>(c, in, weights)) {
      EXPECT_LT(difference(got.at(name), want), tolerance) << name;
    }
  };
  compare(run<float>(c, in, weights), 2e-6);
  for (auto* tensors : {&in, &weights}) {
    for (auto& [name, x] : *tensors) x = from(to<__nv_bfloat16>(x));
  }
  compare(run<__nv_bfloat16>(c, in, weights), 8e-3);  // dz is rounded twice
  compare(run<__half>(c, in, weights), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaScanOnHost, ::testing::ValuesIn(kCases));

TEST(CudaScan, SplitsOnlyWhatLeavesAGpuIdle) {
  CudaScanProblem s{};
  s.multiprocessors = 132;
  s.channels = 512, s.groups = 1, s.states = 16, s.length = 177;
  for (const bool backward : {false, true}) {
    s.length = 177, s.batch = 64;
    EXPECT_EQ(cuda_scan_segments(s, backward), 1);
    s.batch = 1;
    EXPECT_EQ(cuda_scan_segments(s, backward), 6);
    s.length = 20;
    EXPECT_EQ(cuda_scan_segments(s, backward), 1);
    s.batch = 0;
    EXPECT_EQ(cuda_scan_segments(s, backward), 1);
  }
  s.batch = 8, s.channels = 1024, s.length = 4096;
  EXPECT_EQ(cuda_scan_segments(s, false), 1);
  EXPECT_EQ(cuda_scan_segments(s, true), 2);
}

}  // namespace
}  // namespace ribo::kernels
