#include "attention/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "attention/attention_aten.h"
#include "common/isa.h"
#include "support/gradients.h"
#include "support/memory.h"

namespace ribo::kernels {
namespace {

using testing::difference;
using testing::differentiate;
using Inputs = std::vector<at::Tensor>;  // q, k, v, bias, lengths

const std::vector<std::string> kNames = {"q", "k", "v", "bias"};
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// An operator with its definition, and its inputs.
struct Operator {
  std::string name;
  testing::TensorFunction kernel, definition;
  std::function<Inputs(int64_t batch, int64_t length, int64_t heads, int64_t width)> inputs;
  std::function<at::Tensor(const at::Tensor& inside)> results_inside;  // of [B, L], like a result
};

void PrintTo(const Operator& op, std::ostream* out) { *out << op.name; }

at::Tensor inside(const Inputs& x, int64_t length) {
  return x[4].defined() ? at::arange(length) < x[4].unsqueeze(1)
                        : at::ones({x[0].size(0), length}, at::kBool);
}

// Softmax over dim of what `keys` lets through, 0 elsewhere.
at::Tensor softmax(const at::Tensor& logits, const at::Tensor& keys, int64_t dim) {
  const at::Tensor finite = logits.masked_fill(keys.logical_not(), -1e300);
  return at::softmax(finite, dim) * keys;
}

at::Tensor pair_bias_definition(const Inputs& x) {
  const at::Tensor in = inside(x, x[0].size(2));
  const at::Tensor logits =
      at::einsum("bhid,bhjd->bhij", {x[0], x[1]}) / std::sqrt(static_cast<double>(x[0].size(3))) +
      x[3];
  const at::Tensor weights = softmax(logits, in.unsqueeze(1).unsqueeze(1).expand_as(logits), 3);
  return at::einsum("bhij,bhjd->bhid", {weights, x[2]}) * in.unsqueeze(1).unsqueeze(3);
}

// The equations of RibonanzaNet's code.
at::Tensor triangle_definition(const Inputs& x, bool columns) {
  const at::Tensor in = inside(x, x[0].size(1));
  const double scale = 1 / std::sqrt(static_cast<double>(x[0].size(4)));
  const at::Tensor pairs = in.unsqueeze(1).logical_and(in.unsqueeze(2)).unsqueeze(3).unsqueeze(4);
  if (columns) {
    const at::Tensor logits =
        at::einsum("bilhd,bjlhd->bijlh", {x[0], x[1]}) * scale + x[3].unsqueeze(3);
    const at::Tensor keys = in.view({in.size(0), 1, in.size(1), 1, 1}).expand_as(logits);
    return at::einsum("bijlh,bjlhd->bilhd", {softmax(logits, keys, 2), x[2]}) * pairs;
  }
  const at::Tensor logits =
      at::einsum("brihd,brjhd->brijh", {x[0], x[1]}) * scale + x[3].unsqueeze(1);
  const at::Tensor keys = in.view({in.size(0), 1, 1, in.size(1), 1}).expand_as(logits);
  return at::einsum("brijh,brjhd->brihd", {softmax(logits, keys, 3), x[2]}) * pairs;
}

std::vector<Operator> operators() {
  const at::TensorOptions real(at::kDouble);
  Operator pair_bias;
  pair_bias.name = "pair_bias_attention";
  pair_bias.kernel = [](const Inputs& x) {
    return pair_bias_attention(x[0], x[1], x[2], x[3], x[4]);
  };
  pair_bias.definition = pair_bias_definition;
  pair_bias.inputs = [=](int64_t batch, int64_t length, int64_t heads, int64_t width) {
    const auto head = [&] { return at::randn({batch, heads, length, width}, real); };
    return Inputs{head(), head(), head(), at::randn({batch, heads, length, length}, real), {}};
  };
  pair_bias.results_inside = [](const at::Tensor& in) { return in.unsqueeze(1).unsqueeze(3); };
  std::vector<Operator> out = {pair_bias};
  for (const bool columns : {false, true}) {
    Operator triangle;
    triangle.name = columns ? "triangle_attention by columns" : "triangle_attention by rows";
    triangle.kernel = [=](const Inputs& x) {
      return triangle_attention(x[0], x[1], x[2], x[3], x[4], columns);
    };
    triangle.definition = [=](const Inputs& x) { return triangle_definition(x, columns); };
    triangle.inputs = [=](int64_t batch, int64_t length, int64_t heads, int64_t width) {
      const auto head = [&] { return at::randn({batch, length, length, heads, width}, real); };
      return Inputs{head(), head(), head(), at::randn({batch, length, length, heads}, real), {}};
    };
    triangle.results_inside = [](const at::Tensor& in) {
      return in.unsqueeze(1).logical_and(in.unsqueeze(2)).unsqueeze(3).unsqueeze(4);
    };
    out.push_back(triangle);
  }
  return out;
}

Inputs in_type(const Inputs& in, at::ScalarType type) {
  Inputs out;
  for (const at::Tensor& x : in) {
    out.push_back(x.defined() && x.is_floating_point() ? x.to(type) : x);
  }
  return out;
}

void expect_close(const testing::Derivative& got, const testing::Derivative& want, double tolerance,
                  const std::string& what) {
  EXPECT_LT(difference(got.value, want.value), tolerance) << what;
  for (size_t i = 0; i < want.grads.size(); ++i) {
    EXPECT_LT(difference(got.grads[i], want.grads[i]), tolerance) << kNames[i] << ", " << what;
  }
}

class Attention : public ::testing::TestWithParam<Operator> {};
INSTANTIATE_TEST_SUITE_P(Operators, Attention, ::testing::ValuesIn(operators()),
                         [](const auto& instance) {
                           std::string name = instance.param.name;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

TEST_P(Attention, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  at::manual_seed(1);
  const Operator& op = GetParam();
  for (const int64_t length : {1, 2, 15, 16, 17, 31}) {
    for (const auto& [heads, width] : {std::pair{1, 1}, {2, 5}, {3, 32}, {1, 33}}) {
      Inputs in = op.inputs(2, length, heads, width);
      const at::Tensor cotangent = at::randn_like(op.definition(in));
      const std::string what = cat("L ", length, ", heads ", heads, ", width ", width);
      expect_close(differentiate(op.kernel, in, cotangent),
                   differentiate(op.definition, in, cotangent), 1e-12, what);
      in[4] = at::tensor({length / 2, length}, at::kLong);
      expect_close(differentiate(op.kernel, in, cotangent),
                   differentiate(op.definition, in, cotangent), 1e-12, what + ", ragged");
    }
  }
}

TEST_P(Attention, GradientsAgreeWithNumericalDifferences) {
  at::manual_seed(2);
  Inputs in = GetParam().inputs(2, 4, 2, 3);
  in[4] = at::tensor({3, 4}, at::kLong);
  const at::Tensor cotangent = at::randn_like(GetParam().kernel(in));
  const auto numeric = testing::numerical_gradients(GetParam().kernel, in, cotangent);
  const auto got = differentiate(GetParam().kernel, in, cotangent).grads;
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_LT(difference(got[i], numeric[i]), 1e-7) << kNames[i];
  }
}

TEST_P(Attention, EveryInstructionSetAgreesInFloat32) {
  at::manual_seed(3);
  Inputs in = in_type(GetParam().inputs(2, 37, 2, 24), at::kFloat);
  in[4] = at::tensor({37, 30}, at::kLong);
  const Inputs wide = in_type(in, at::kDouble);
  const at::Tensor cotangent = at::randn_like(GetParam().kernel(in));
  const testing::Derivative want =
      differentiate(GetParam().definition, wide, cotangent.to(at::kDouble));
  for (const Isa most : {Isa::generic, Isa::avx2, Isa::avx512}) {
    limit_isa(most);
    expect_close(differentiate(GetParam().kernel, in, cotangent), want, 5e-6,
                 cat("instruction set ", static_cast<int>(isa())));
  }
}

TEST_P(Attention, ResultsDoNotDependOnTheNumberOfThreads) {
  at::manual_seed(4);
  const Inputs in = in_type(GetParam().inputs(1, 40, 3, 8), at::kFloat);
  const at::Tensor cotangent = at::randn_like(GetParam().kernel(in));
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const testing::Derivative one = differentiate(GetParam().kernel, in, cotangent);
  at::set_num_threads(3);
  const testing::Derivative three = differentiate(GetParam().kernel, in, cotangent);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one.value, three.value));
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_TRUE(at::equal(one.grads[i], three.grads[i])) << kNames[i];
  }
}

// NaN in every place that is padding; one sequence is padding altogether.
TEST_P(Attention, PaddingIsNeverRead) {
  at::manual_seed(5);
  Inputs clean = GetParam().inputs(3, 9, 2, 4);
  clean[4] = at::tensor({9, 4, 0}, at::kLong);
  const at::Tensor positions = inside(clean, 9);
  const at::Tensor results = GetParam().results_inside(positions);
  const at::Tensor pairs = positions.unsqueeze(1).logical_and(positions.unsqueeze(2));
  const at::Tensor of_bias = clean[3].size(1) == 9 ? pairs.unsqueeze(3) : pairs.unsqueeze(1);
  const at::Tensor cotangent = at::randn_like(GetParam().kernel(clean));
  Inputs dirty = clean;
  for (size_t i = 0; i < 3; ++i) dirty[i] = clean[i].masked_fill(results.logical_not(), NAN);
  dirty[3] = clean[3].masked_fill(of_bias.logical_not(), NAN);
  const testing::Derivative want = differentiate(GetParam().definition, clean, cotangent);
  const testing::Derivative got =
      differentiate(GetParam().kernel, dirty, cotangent.masked_fill(results.logical_not(), NAN));
  expect_close(got, want, 1e-12, "NaN in the padding");
  const auto nonzero_outside = [](const at::Tensor& x, const at::Tensor& in) {
    return x.masked_select(in.logical_not()).count_nonzero().item<int64_t>();
  };
  EXPECT_EQ(nonzero_outside(got.value, results), 0);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(nonzero_outside(got.grads[i], results), 0) << kNames[i];
  EXPECT_EQ(nonzero_outside(got.grads[3], of_bias), 0);
}

TEST_P(Attention, ARowWithoutAnyKeyIsZeroAndLearnsNothing) {
  at::manual_seed(6);
  Inputs in = in_type(GetParam().inputs(1, 11, 2, 4), at::kFloat);
  const bool pair_bias = in[0].dim() == 4;
  // Query 3 sees nothing, query 5 sees only key 2.
  const auto rows = [&](int64_t query) {
    return pair_bias ? in[3].select(2, query) : in[3].select(1, query);
  };
  rows(3).fill_(-kInfinity);
  rows(5).fill_(-kInfinity);
  (pair_bias ? rows(5).select(2, 2) : rows(5).select(1, 2)).fill_(0.5);
  const at::Tensor cotangent = at::randn_like(GetParam().kernel(in));
  const testing::Derivative got = differentiate(GetParam().kernel, in, cotangent);
  for (const at::Tensor& g : got.grads) EXPECT_TRUE(g.isfinite().all().item<bool>());
  EXPECT_TRUE(got.value.isfinite().all().item<bool>());
  if (!pair_bias) return;
  EXPECT_EQ(got.value.select(2, 3).count_nonzero().item<int64_t>(), 0);
  EXPECT_EQ(got.grads[0].select(2, 3).count_nonzero().item<int64_t>(), 0);
  EXPECT_EQ(got.grads[3].select(2, 3).count_nonzero().item<int64_t>(), 0);
  EXPECT_TRUE(at::allclose(got.value.select(2, 5), in[2].select(2, 2)));
}

// The tensors of the pair track may be all that learns: this crashed others.
TEST_P(Attention, TheBiasMayBeTheOnlyInputThatNeedsAGradient) {
  at::manual_seed(7);
  const Inputs in = GetParam().inputs(1, 10, 2, 4);
  const at::Tensor cotangent = at::randn_like(GetParam().kernel(in));
  const testing::Derivative all = differentiate(GetParam().kernel, in, cotangent);
  Inputs alone = in;
  alone[3] = in[3].detach().requires_grad_(true);
  GetParam().kernel(alone).backward(cotangent);
  EXPECT_TRUE(at::equal(alone[3].grad(), all.grads[3]));
}

TEST_P(Attention, AcceptsAnyStridesAndAnEmptyBatch) {
  at::manual_seed(8);
  Inputs in = GetParam().inputs(2, 7, 2, 4);
  Inputs strided;
  for (const at::Tensor& x : in) {
    strided.push_back(x.defined() ? x.transpose(0, -1).contiguous().transpose(0, -1) : x);
  }
  const at::Tensor value = GetParam().definition(in);
  const at::Tensor cotangent = at::ones({}, at::kDouble).expand_as(value);
  expect_close(differentiate(GetParam().kernel, strided, cotangent),
               differentiate(GetParam().definition, in, cotangent), 1e-12, "strided");

  in = GetParam().inputs(0, 7, 2, 4);
  const testing::Derivative none =
      differentiate(GetParam().kernel, in, at::empty_like(GetParam().definition(in)));
  EXPECT_EQ(none.value.numel(), 0);
  EXPECT_EQ(none.grads[3].sizes(), in[3].sizes());
}

TEST_P(Attention, SoftmaxStaysInFloat32UnderAutocastAndForNarrowInputs) {
  at::manual_seed(9);
  const Inputs in = in_type(GetParam().inputs(1, 30, 2, 8), at::kFloat);
  const at::Tensor cotangent = at::randn_like(GetParam().kernel(in));
  const testing::Derivative want = differentiate(GetParam().kernel, in, cotangent);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const testing::Derivative same = differentiate(GetParam().kernel, in, cotangent);
  const testing::Derivative narrow =
      differentiate(GetParam().kernel, in_type(in, at::kBFloat16), cotangent.to(at::kBFloat16));
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_TRUE(at::equal(same.value, want.value));
  EXPECT_TRUE(at::equal(same.grads[3], want.grads[3]));
  EXPECT_EQ(narrow.value.scalar_type(), at::kBFloat16);
  EXPECT_EQ(narrow.grads[3].scalar_type(), at::kBFloat16);
  expect_close(narrow, want, 2e-2, "bfloat16");
}

TEST_P(Attention, LargeLogitsNeitherOverflowNorVanish) {
  at::manual_seed(10);
  for (const double size : {1e-6, 1.0, 30.0, 1e4}) {
    Inputs in = GetParam().inputs(1, 33, 2, 16);
    in[0].mul_(size);
    in[3].mul_(size);
    // Float32 inputs, so that both start from the same numbers; logits of 1e4 keep 3 digits.
    const Inputs single = in_type(in, at::kFloat), wide = in_type(single, at::kDouble);
    const at::Tensor cotangent = at::randn_like(GetParam().kernel(single));
    const testing::Derivative got = differentiate(GetParam().kernel, single, cotangent);
    const testing::Derivative want =
        differentiate(GetParam().definition, wide, cotangent.to(at::kDouble));
    for (const at::Tensor& g : got.grads) EXPECT_TRUE(g.isfinite().all().item<bool>());
    expect_close(got, want, 5e-6 * std::max(1.0, size), cat("logits of ", size));
  }
}

TEST_P(Attention, NaNInsideShows) {
  Inputs in = GetParam().inputs(1, 7, 1, 4);
  in[3].view(-1)[0] = NAN;  // query 0, key 0
  EXPECT_TRUE(GetParam().kernel(in).isnan().any().item<bool>());
  in = GetParam().inputs(1, 7, 1, 4);
  in[1].view(-1)[0] = NAN;
  EXPECT_TRUE(GetParam().kernel(in).isnan().any().item<bool>());
}

TEST_P(Attention, RefusesASecondDerivative) {
  Inputs in = GetParam().inputs(1, 3, 1, 2);
  in[0].set_requires_grad(true);
  const at::Tensor y = GetParam().kernel(in).sum();
  EXPECT_THROW(
      torch::autograd::grad({y}, {in[0]}, {}, /*retain_graph=*/true, /*create_graph=*/true), Error);
}

// What devices without a kernel run, against the CPU's kernel: groups, padding, dropout, a row
// without keys.
TEST(AttentionByLibTorch, AgreesWithTheKernel) {
  at::manual_seed(11);
  const at::TensorOptions real(at::kDouble);
  const auto x = [&] { return at::randn({2, 9, 9, 2, 4}, real); };
  AttentionTensors in{x(), x(), x(), at::randn({2, 2, 9, 9}, real), {}, {}, 1};
  in.bias.select(2, 3).fill_(-kInfinity);
  const at::Tensor bias = in.bias.permute({0, 2, 3, 1});
  for (const bool ragged : {false, true}) {
    if (ragged) in.lengths = at::tensor({9, 4}, at::kLong);
    const at::Tensor cotangent = at::randn_like(in.q);
    const testing::Derivative want = differentiate(
        [&](const Inputs& i) { return triangle_attention(i[0], i[1], i[2], i[3], i[4], false); },
        {in.q, in.k, in.v, bias, in.lengths}, cotangent);
    const AttentionGrads g = attention_backward_aten(in, cotangent);
    expect_close({attention_forward_aten(in), {g.q, g.k, g.v, g.bias.permute({0, 2, 3, 1})}}, want,
                 1e-12, "triangle");
  }
  const auto group = [](const at::Tensor& t) { return t.narrow(1, 0, 1); };
  const auto head_first = [](const at::Tensor& t) { return t.squeeze(1).transpose(1, 2); };
  in.q = group(in.q), in.k = group(in.k), in.v = group(in.v);
  in.kept = 1 / 0.7;
  at::manual_seed(12);
  in.keep = at::empty(in.bias.sizes(), at::kBool).bernoulli_(0.7);
  const at::Tensor cotangent = at::randn_like(in.q);
  const testing::Derivative want = differentiate(
      [&](const Inputs& i) {
        at::manual_seed(12);
        return pair_bias_attention(i[0], i[1], i[2], i[3], i[4], 0.3);
      },
      {head_first(in.q), head_first(in.k), head_first(in.v), in.bias, in.lengths},
      head_first(cotangent));
  const AttentionGrads g = attention_backward_aten(in, cotangent);
  expect_close({head_first(attention_forward_aten(in)),
                {head_first(g.q), head_first(g.k), head_first(g.v), g.bias}},
               want, 1e-12, "pair bias with dropout");
}

TEST(PairBiasAttention, DropoutDropsWeightsAndItsGradientsFollow) {
  at::manual_seed(13);
  const int64_t length = 40;
  const at::TensorOptions real(at::kDouble);
  const at::Tensor q = at::randn({1, 2, length, length}, real), k = at::randn_like(q);
  const at::Tensor v = at::eye(length, real).expand({1, 2, length, length});
  const at::Tensor bias = at::randn({1, 2, length, length}, real);
  const auto dropped = [](const Inputs& x) {
    at::manual_seed(14);
    return pair_bias_attention(x[0], x[1], x[2], x[3], {}, 0.25);
  };
  // v is the identity: the weights themselves come out.
  const at::Tensor weights = pair_bias_attention(q, k, v, bias, {});
  const at::Tensor ratio = dropped({q, k, v, bias}) / weights;
  const at::Tensor kept = ratio > 0;
  EXPECT_LT(difference(ratio.masked_select(kept), at::full({}, 1 / 0.75, real)), 1e-12);
  EXPECT_NEAR(kept.to(at::kDouble).mean().item<double>(), 0.75, 0.04);

  const Inputs small = {at::randn({1, 2, 6, 3}, real), at::randn({1, 2, 6, 3}, real),
                        at::randn({1, 2, 6, 3}, real), at::randn({1, 2, 6, 6}, real)};
  const at::Tensor cotangent = at::randn({1, 2, 6, 3}, real);
  const auto numeric = testing::numerical_gradients(dropped, small, cotangent);
  const auto got = differentiate(dropped, small, cotangent).grads;
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_LT(difference(got[i], numeric[i]), 1e-7) << kNames[i];
  }
  EXPECT_EQ(pair_bias_attention(q, k, v, bias, {}, 1).count_nonzero().item<int64_t>(), 0);
}

TEST(PairBiasAttention, KeepsANumberARowBesideItsArguments) {
  const int64_t length = 100;
  const auto leaf = [](at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(true); };
  const at::Tensor q = leaf({1, 4, length, 8}), k = leaf({1, 4, length, 8});
  const at::Tensor v = leaf({1, 4, length, 8}), bias = leaf({1, 4, length, length});
  testing::MemoryCounter memory;
  const at::Tensor out = pair_bias_attention(q, k, v, bias, {});
  EXPECT_LT(memory.live(), static_cast<int64_t>(out.nbytes()) + 4 * length * 4 + 4096);
  EXPECT_TRUE(out.transpose(1, 2).is_contiguous());
}

// Twice the length takes four times the memory, not eight times.
TEST(TriangleAttention, MemoryGrowsWithTheSquareOfTheLength) {
  const auto peak = [](int64_t length) {
    const auto x = [&] { return at::randn({1, length, length, 2, 4}); };
    const Inputs in = {x(), x(), x(), at::randn({1, length, length, 2}), {}};
    const at::Tensor cotangent = x();
    testing::MemoryCounter memory;
    differentiate(
        [](const Inputs& i) { return triangle_attention(i[0], i[1], i[2], i[3], i[4], true); }, in,
        cotangent);
    return static_cast<double>(memory.peak());
  };
  EXPECT_LT(peak(128), 4.5 * peak(64));
  EXPECT_LT(peak(128), 128.0 * 128 * 128 * 2 * 4 / 2);
}

TEST(PairBiasAttention, LongSequencesAgreeWithTheDefinition) {
  at::manual_seed(15);
  const int64_t length = 1023;
  const auto x = [&] { return at::randn({1, 1, length, 16}); };
  const Inputs in = {x(), x(), x(), at::randn({1, 1, length, length}), {}};
  const at::Tensor got = pair_bias_attention(in[0], in[1], in[2], in[3], {});
  EXPECT_LT(difference(got, pair_bias_definition(in_type(in, at::kDouble))), 5e-6);
}

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(PairBiasAttention, SaysWhichArgumentIsWrong) {
  const at::Tensor q = at::zeros({2, 3, 5, 4}), bias = at::zeros({2, 3, 5, 5});
  EXPECT_EQ(refusal([&] { pair_bias_attention(q.narrow(1, 0, 2), q, q, bias, {}); }),
            "pair_bias_attention: k is Float [2, 3, 5, 4] on cpu, expected [B, H, L, d] = "
            "[2, 2, 5, 4]");
  EXPECT_EQ(refusal([&] { pair_bias_attention(q, q, q, bias.narrow(3, 0, 4), {}); }),
            "pair_bias_attention: bias is Float [2, 3, 5, 4] on cpu, expected [B, H, L, L] = "
            "[2, 3, 5, 5]");
  EXPECT_EQ(refusal([&] { pair_bias_attention(q, q.to(at::kDouble), q, bias, {}); }),
            "pair_bias_attention: k is Double [2, 3, 5, 4] on cpu, expected q's Float");
  EXPECT_EQ(refusal([&] {
              pair_bias_attention(q, q, q, bias, at::tensor({5, -1}));
            }),
            "pair_bias_attention: lengths[1] is -1, expected 0 to 5");
  EXPECT_EQ(refusal([&] { pair_bias_attention(q, q, q, bias, at::tensor({5})); }),
            "pair_bias_attention: lengths is Int [1] on cpu, expected [B] = [2]");
  EXPECT_EQ(refusal([&] { pair_bias_attention(q, q, q, bias, {}, 1.5); }),
            "pair_bias_attention: dropout is 1.5, expected 0 to 1");
}

TEST(TriangleAttention, SaysWhichArgumentIsWrong) {
  const at::Tensor q = at::zeros({2, 5, 5, 3, 4}), bias = at::zeros({2, 5, 5, 3});
  EXPECT_EQ(refusal([&] { triangle_attention(q.narrow(1, 0, 4), q, q, bias, {}, false); }),
            "triangle_attention: q is Float [2, 4, 5, 3, 4] on cpu, expected [B, L, L, H, d]");
  EXPECT_EQ(refusal([&] { triangle_attention(q, q, q, bias.narrow(3, 0, 2), {}, false); }),
            "triangle_attention: bias is Float [2, 5, 5, 2] on cpu, expected [B, L, L, H] = "
            "[2, 5, 5, 3]");
}

}  // namespace
}  // namespace ribo::kernels
