// The CUDA triangle update's arithmetic on the CPU: the very source that nvcc compiles, with plain
// loops for the products over the third position.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "convert.h"
#include "triangle_multiply/triangle_multiply_cuda.cu"  // NOLINT

namespace ribo::kernels {
namespace {

using cuda_on_host::from;
using cuda_on_host::to;

struct Case {
  int batch, length, channels, hidden;
  bool outgoing = true;
  std::vector<int64_t> lengths = {};

  int64_t pairs() const { return int64_t{batch} * length * length; }
  int end(int b) const {
    return lengths.empty() ? length : static_cast<int>(lengths[static_cast<size_t>(b)]);
  }
  bool inside(int64_t pair) const {
    const int n = end(static_cast<int>(pair / length / length));
    return pair / length % length < n && pair % length < n;
  }
};

using Values = std::vector<double>;
// By the names of CudaTriangleWeights' members; gradients by those of what they are gradients of.
using Tensors = std::map<std::string, Values>;

Values draw(int64_t count, double scale, double shift, std::mt19937& random) {
  std::normal_distribution<double> normal(shift, scale);
  Values x(static_cast<size_t>(count));
  for (double& v : x) v = normal(random);
  return x;
}

Tensors random_tensors(const Case& c, unsigned seed) {
  std::mt19937 random(seed);
  const int C = c.channels, H = c.hidden;
  return {{"x", draw(c.pairs() * C, 2, 0.5, random)},
          {"norm_weight", draw(C, 0.3, 1, random)},
          {"norm_bias", draw(C, 0.3, 0, random)},
          {"map_weight", draw(5 * H * C, 1 / std::sqrt(C), 0, random)},
          {"map_bias", draw(5 * H, 0.3, 0.2, random)},
          {"out_norm_weight", draw(H, 0.3, 1, random)},
          {"out_norm_bias", draw(H, 0.3, 0, random)},
          {"out_weight", draw(C * H, 1 / std::sqrt(H), 0, random)},
          {"out_bias", draw(C, 0.3, 0, random)},
          {"d_y", draw(c.pairs() * C, 1, 0, random)}};
}

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

// A row minus its mean, over its deviation, and back: d becomes the gradient of the row.
struct NormedRow {
  Values x;
  double scale;
};
NormedRow norm(const double* x, int n) {
  double mean = 0, variance = 0;
  for (int i = 0; i < n; ++i) mean += x[i] / n;
  for (int i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean) / n;
  NormedRow out = {Values(static_cast<size_t>(n)), 1 / std::sqrt(variance + 1e-5)};
  for (int i = 0; i < n; ++i) out.x[static_cast<size_t>(i)] = (x[i] - mean) * out.scale;
  return out;
}
Values norm_gradient(const NormedRow& row, Values d) {
  double mean = 0, slope = 0;
  const auto n = static_cast<double>(d.size());
  for (size_t i = 0; i < d.size(); ++i) mean += d[i] / n, slope += d[i] * row.x[i] / n;
  for (size_t i = 0; i < d.size(); ++i) d[i] = (d[i] - mean - row.x[i] * slope) * row.scale;
  return d;
}

// The definition and its derivative, in double, pair by pair.
Tensors define(const Case& c, const Tensors& in) {
  const int L = c.length, C = c.channels, H = c.hidden;
  const auto at = [&](const char* name, size_t i) { return in.at(name)[i]; };
  const auto pairs = static_cast<size_t>(c.pairs());
  std::vector<NormedRow> u(pairs), normed(pairs);
  std::vector<Values> linear(pairs, Values(static_cast<size_t>(5 * H)));
  std::vector<Values> z(pairs, Values(static_cast<size_t>(H)));
  std::vector<Values> left = z, right = z, d_z = z, d_left = z, d_right = z, d_linear = linear;
  Tensors out = in;
  for (auto& [name, values] : out) std::fill(values.begin(), values.end(), 0.0);
  out["y"] = out["d_y"];
  const auto each_pair = [&](const auto& f) {
    for (size_t p = 0; p < pairs; ++p) {
      if (c.inside(static_cast<int64_t>(p))) f(p);
    }
  };
  // f(pair of the product, pair of left, pair of right)
  const auto each_triangle = [&](const auto& f) {
    for (int b = 0; b < c.batch; ++b) {
      const auto pair = [&](int i, int j) { return static_cast<size_t>((b * L + i) * L + j); };
      for (int i = 0; i < c.end(b); ++i) {
        for (int j = 0; j < c.end(b); ++j) {
          for (int k = 0; k < c.end(b); ++k) {
            c.outgoing ? f(pair(i, j), pair(i, k), pair(j, k))
                       : f(pair(i, j), pair(k, j), pair(k, i));
          }
        }
      }
    }
  };
  each_pair([&](size_t p) {
    u[p] = norm(&in.at("x")[p * static_cast<size_t>(C)], C);
    for (size_t r = 0; r < linear[p].size(); ++r) {
      double sum = at("map_bias", r);
      for (size_t k = 0; k < u[p].x.size(); ++k) {
        sum += at("map_weight", r * u[p].x.size() + k) *
               (u[p].x[k] * at("norm_weight", k) + at("norm_bias", k));
      }
      linear[p][r] = sum;
    }
    for (size_t h = 0; h < static_cast<size_t>(H); ++h) {
      const auto n = static_cast<size_t>(H);
      left[p][h] = linear[p][h] * sigmoid_of(linear[p][n + h]);
      right[p][h] = linear[p][2 * n + h] * sigmoid_of(linear[p][3 * n + h]);
    }
  });
  const auto n = static_cast<size_t>(H);
  each_triangle([&](size_t to, size_t a, size_t b) {
    for (size_t h = 0; h < n; ++h) z[to][h] += left[a][h] * right[b][h];
  });
  each_pair([&](size_t p) {
    normed[p] = norm(z[p].data(), H);
    Values d_normed(n), q(n);
    for (size_t h = 0; h < n; ++h) {
      const double gate = sigmoid_of(linear[p][4 * n + h]);
      const double value = normed[p].x[h] * at("out_norm_weight", h) + at("out_norm_bias", h);
      double d_q = 0;
      for (size_t k = 0; k < static_cast<size_t>(C); ++k) {
        const size_t i = k * n + h, o = p * static_cast<size_t>(C) + k;
        out["y"][o] += value * gate * at("out_weight", i) + (h == 0 ? at("out_bias", k) : 0);
        d_q += at("d_y", o) * at("out_weight", i);
        out["out_weight"][i] += value * gate * at("d_y", o);
        if (h == 0) out["out_bias"][k] += at("d_y", o);
      }
      d_linear[p][4 * n + h] = d_q * value * gate * (1 - gate);
      out["out_norm_weight"][h] += d_q * gate * normed[p].x[h];
      out["out_norm_bias"][h] += d_q * gate;
      d_normed[h] = d_q * gate * at("out_norm_weight", h);
    }
    d_z[p] = norm_gradient(normed[p], d_normed);
  });
  each_triangle([&](size_t to, size_t a, size_t b) {
    for (size_t h = 0; h < n; ++h) {
      d_left[a][h] += d_z[to][h] * right[b][h];
      d_right[b][h] += d_z[to][h] * left[a][h];
    }
  });
  each_pair([&](size_t p) {
    for (size_t side = 0; side < 2; ++side) {
      for (size_t h = 0; h < n; ++h) {
        const double gate = sigmoid_of(linear[p][(2 * side + 1) * n + h]);
        const double d = (side == 0 ? d_left : d_right)[p][h] * gate;
        d_linear[p][2 * side * n + h] = d;
        d_linear[p][(2 * side + 1) * n + h] = d * linear[p][2 * side * n + h] * (1 - gate);
      }
    }
    Values d_u(static_cast<size_t>(C));
    for (size_t r = 0; r < 5 * n; ++r) {
      out["map_bias"][r] += d_linear[p][r];
      for (size_t k = 0; k < d_u.size(); ++k) {
        const double normal = u[p].x[k] * at("norm_weight", k) + at("norm_bias", k);
        out["map_weight"][r * d_u.size() + k] += d_linear[p][r] * normal;
        d_u[k] += d_linear[p][r] * at("map_weight", r * d_u.size() + k);
      }
    }
    for (size_t k = 0; k < d_u.size(); ++k) {
      out["norm_weight"][k] += d_u[k] * u[p].x[k];
      out["norm_bias"][k] += d_u[k];
      d_u[k] *= at("norm_weight", k);
    }
    const Values d_x = norm_gradient(u[p], d_u);
    std::copy(d_x.begin(), d_x.end(), out["x"].begin() + static_cast<int64_t>(p) * C);
  });
  out.erase("d_y");
  return out;
}

// [B, H, pitch, pitch], as cuBLAS would multiply it: c[i, j] = sum_k a b, each operand transposed
// or not.
template <class T>
std::vector<T> multiply_planes(const Case& c, int pitch, const std::vector<T>& a, bool a_transposed,
                               const std::vector<T>& b, bool b_transposed) {
  std::vector<T> out(a.size());
  const int plane = pitch * pitch;
  for (int at = 0; at < c.batch * c.hidden * plane; at += plane) {
    for (int i = 0; i < pitch; ++i) {
      for (int j = 0; j < pitch; ++j) {
        float sum = 0;
        for (int k = 0; k < pitch; ++k) {
          sum +=
              widen(a[static_cast<size_t>(at + (a_transposed ? k * pitch + i : i * pitch + k))]) *
              widen(b[static_cast<size_t>(at + (b_transposed ? j * pitch + k : k * pitch + j))]);
        }
        out[static_cast<size_t>(at + i * pitch + j)] = narrow<T>(sum);
      }
    }
  }
  return out;
}

constexpr const char* kWeights[] = {"norm_weight",     "norm_bias",     "map_weight", "map_bias",
                                    "out_norm_weight", "out_norm_bias", "out_weight", "out_bias"};

template <class P, class W>
CudaTriangleWeights<P> pointers(const Case& c, std::map<std::string, std::vector<W>>& of) {
  CudaTriangleWeights<P> w;
  w.norm_weight = of["norm_weight"].data(), w.norm_bias = of["norm_bias"].data();
  for (int map = 0; map < 5; ++map) {
    w.map_weight[map] = of["map_weight"].data() + map * c.hidden * c.channels;
    w.map_bias[map] = of["map_bias"].data() + map * c.hidden;
  }
  w.out_norm_weight = of["out_norm_weight"].data(), w.out_norm_bias = of["out_norm_bias"].data();
  w.out_weight = of["out_weight"].data(), w.out_bias = of["out_bias"].data();
  return w;
}

// W: what the weights and their gradients are stored in.
template <class T, class X, class W = float>
Tensors run(const Case& c, Tensors in, int multiprocessors = 1, int shared_memory = 227 * 1024) {
  // What is behind a length must not be read.
  for (int64_t i = 0; i < c.pairs() * c.channels; ++i) {
    if (!c.inside(i / c.channels)) {
      in["x"][static_cast<size_t>(i)] = in["d_y"][static_cast<size_t>(i)] = NAN;
    }
  }
  const auto x = to<X>(in["x"]), d_y = to<X>(in["d_y"]);
  std::map<std::string, std::vector<W>> weights, d_weights;
  for (const char* name : kWeights) {
    weights[name] = to<W>(in[name]);
    d_weights[name] = std::vector<W>(in[name].size(), narrow<W>(NAN));
  }
  CudaTriangle a;
  a.type = std::is_same_v<T, __half> ? CudaNarrow::float16 : CudaNarrow::bfloat16;
  a.wide = sizeof(X) == 4, a.wide_weights = sizeof(W) == 4;
  a.batch = c.batch, a.length = c.length, a.channels = c.channels, a.hidden = c.hidden;
  a.lengths = c.lengths.empty() ? nullptr : c.lengths.data();
  a.multiprocessors = multiprocessors, a.shared_memory = shared_memory;
  a.x = x.data();
  a.weights = pointers<const void*>(c, weights);
  EXPECT_TRUE(cuda_triangle_takes(a));

  const int pitch = a.pitch();
  const std::vector<T> planes(static_cast<size_t>(c.batch * c.hidden * pitch * pitch),
                              narrow<T>(NAN));
  std::vector<X> y(x.size(), narrow<X>(NAN)), d_x = y;
  std::vector<T> left = planes, right = planes, d_product = planes, d_gate = planes;
  EXPECT_EQ(cuda_triangle_project({a, left.data(), right.data()}, nullptr), cudaSuccess);
  const std::vector<T> product = c.outgoing ? multiply_planes(c, pitch, left, false, right, true)
                                            : multiply_planes(c, pitch, right, true, left, false);
  EXPECT_EQ(cuda_triangle_output({a, product.data(), y.data()}, nullptr), cudaSuccess);

  std::vector<float> scratch(static_cast<size_t>(cuda_triangle_scratch(a)), NAN);
  const CudaTriangleBackward backward = {a, scratch.data()};
  EXPECT_EQ(cuda_triangle_output_backward(
                {backward, product.data(), d_y.data(), d_product.data(), d_gate.data()}, nullptr),
            cudaSuccess);
  const std::vector<T> d_left = c.outgoing
                                    ? multiply_planes(c, pitch, d_product, false, right, false)
                                    : multiply_planes(c, pitch, right, false, d_product, false);
  const std::vector<T> d_right = c.outgoing
                                     ? multiply_planes(c, pitch, d_product, true, left, false)
                                     : multiply_planes(c, pitch, left, false, d_product, true);
  EXPECT_EQ(cuda_triangle_project_backward(
                {backward, d_left.data(), d_right.data(), d_gate.data(), d_x.data()}, nullptr),
            cudaSuccess);
  EXPECT_EQ(cuda_triangle_gradients({backward, pointers<void*>(c, d_weights)}, nullptr),
            cudaSuccess);
  Tensors out = {{"y", from(y)}, {"x", from(d_x)}};
  for (const char* name : kWeights) out[name] = from(d_weights[name]);
  return out;
}

double error(const Values& got, const Values& want) {
  double difference = 0, size = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::sqrt(difference / size);
}

template <class T, class X, class W = float>
void expect_agreement(const Case& c, double tolerance) {
  Tensors in = random_tensors(c, 1);
  // What a narrow type makes of the inputs is not the kernels' error.
  for (const char* name : {"x", "d_y"}) in[name] = from(to<X>(in[name]));
  for (const char* name : kWeights) in[name] = from(to<W>(in[name]));
  const Tensors got = run<T, X, W>(c, in);
  for (const auto& [name, want] : define(c, in)) {
    EXPECT_LT(error(got.at(name), want), tolerance)
        << name << ", L " << c.length << ", C " << c.channels << ", H " << c.hidden;
  }
  for (int64_t i = 0; i < c.pairs() * c.channels; ++i) {
    if (c.inside(i / c.channels)) continue;
    EXPECT_EQ(got.at("y")[static_cast<size_t>(i)], 0);
    EXPECT_EQ(got.at("x")[static_cast<size_t>(i)], 0);
  }
}

TEST(TriangleCudaOnHost, TheDefinitionHasTheDerivativesItSays) {
  const Case c = {2, 3, 4, 5, false, {3, 2}};
  const Tensors in = random_tensors(c, 1), directions = random_tensors(c, 2), d = define(c, in);
  for (const auto& [name, gradient] : d) {
    if (name == "y") continue;
    double loss[2] = {}, want = 0;
    for (const int side : {0, 1}) {
      Tensors moved = in;
      for (size_t i = 0; i < gradient.size(); ++i) {
        moved[name][i] += (side == 0 ? 1e-5 : -1e-5) * directions.at(name)[i];
      }
      const Tensors y = define(c, moved);
      for (size_t i = 0; i < in.at("d_y").size(); ++i) {
        loss[side] += y.at("y")[i] * in.at("d_y")[i];
      }
    }
    for (size_t i = 0; i < gradient.size(); ++i) want += gradient[i] * directions.at(name)[i];
    EXPECT_NEAR((loss[0] - loss[1]) / 2e-5, want, 1e-6 * std::max(1.0, std::abs(want))) << name;
  }
}

// Odd lengths, tiles that hold several rows and tiles that hold part of one, padding of half a tile
// and of whole ones, blocks with one tile and with several, units of a block without work; where
// few positions are added, roundings do not average out.
TEST(TriangleCudaOnHost, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  expect_agreement<__nv_bfloat16, float>({1, 9, 64, 64}, 1.5e-2);
  expect_agreement<__nv_bfloat16, float>({2, 13, 16, 32, false, {13, 6}}, 1.5e-2);
  expect_agreement<__nv_bfloat16, __nv_bfloat16>({2, 7, 32, 16, true, {0, 7}}, 1.5e-2);
  expect_agreement<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16>({1, 17, 48, 64, false}, 1.5e-2);
  expect_agreement<__nv_bfloat16, float>({1, 130, 16, 16, true, {6}}, 1.5e-2);
  expect_agreement<__half, float>({1, 11, 64, 48, false, {5}}, 2e-3);
  expect_agreement<__half, __half>({1, 1, 16, 16}, 1e-2);
  expect_agreement<__half, __half, __half>({1, 16, 64, 64}, 2e-3);
}

TEST(TriangleCudaOnHost, TheSameBitsEveryTime) {
  const Case c = {1, 13, 32, 32};
  const Tensors in = random_tensors(c, 1);
  EXPECT_EQ((run<__nv_bfloat16, float>(c, in)), (run<__nv_bfloat16, float>(c, in)));
}

// So does how many warps a block has shared memory for.
TEST(TriangleCudaOnHost, TheNumberOfBlocksChangesRoundingAlone) {
  const Case c = {1, 13, 32, 32};
  const Tensors in = random_tensors(c, 1), want = run<__half, __half>(c, in);
  for (const Tensors& got :
       {run<__half, __half>(c, in, 100), run<__half, __half>(c, in, 1, 99 * 1024)}) {
    EXPECT_EQ(got.at("y"), want.at("y"));
    EXPECT_EQ(got.at("x"), want.at("x"));
    for (const auto& [name, values] : want) EXPECT_LT(error(got.at(name), values), 1e-5) << name;
  }
}

TEST(TriangleCudaOnHost, ShowsNaN) {
  const Case c = {1, 6, 16, 16};
  Tensors in = random_tensors(c, 1);
  const size_t row = static_cast<size_t>(c.length * c.channels);
  in["x"][row + 2 * 16 + 3] = NAN;  // of the pair (1, 2)
  const Tensors got = run<__nv_bfloat16, float>(c, in);
  for (size_t i = 0; i < got.at("y").size(); ++i) {
    // Pairs (1, j) and (i, 1) have a triangle with it.
    const bool reached = i / row == 1 || i % row / 16 == 1;
    EXPECT_EQ(std::isnan(got.at("y")[i]), reached) << i;
  }
}

TEST(TriangleCudaOnHost, TakesWhatBlocksAreLaidOutFor) {
  CudaTriangle a;
  a.batch = 1, a.length = 177, a.channels = 64, a.hidden = 64;
  EXPECT_TRUE(cuda_triangle_takes(a));
  a.channels = 40;
  EXPECT_FALSE(cuda_triangle_takes(a));
  a.channels = 80;
  EXPECT_FALSE(cuda_triangle_takes(a));
  a.channels = 64, a.length = 50000;
  EXPECT_FALSE(cuda_triangle_takes(a));
}

}  // namespace
}  // namespace ribo::kernels
