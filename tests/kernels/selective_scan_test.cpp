#include "selective_scan/selective_scan.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <string>
#include <vector>

#include "common/isa.h"
#include "support/memory.h"

namespace ribo::kernels {
namespace {

using Args = SelectiveScanArgs;
using torch::autograd::variable_list;

struct Input {
  const char* name;
  at::Tensor Args::*tensor;
};
const Input kInputs[] = {{"u", &Args::u},
                         {"delta", &Args::delta},
                         {"A", &Args::A},
                         {"B", &Args::B},
                         {"C", &Args::C},
                         {"D", &Args::D},
                         {"z", &Args::z},
                         {"delta_bias", &Args::delta_bias},
                         {"initial_state", &Args::initial_state}};

template <class F>
Args each(Args a, F&& f) {
  for (const Input& in : kInputs) {
    if ((a.*in.tensor).defined()) a.*in.tensor = f(a.*in.tensor);
  }
  return a;
}
Args to(const Args& a, at::ScalarType type) {
  return each(a, [&](const at::Tensor& x) { return x.detach().to(type); });
}

struct Size {
  int64_t batch, length, channels, states, groups = 0;  // 0: B and C without a group dimension
};

// Every argument is given; lengths are random, of at least one.
Args random_args(const Size& s, double largest_delta = 0.5) {
  const auto real = at::TensorOptions(at::kDouble);
  Args a;
  a.u = at::randn({s.batch, s.length, s.channels}, real);
  a.delta = at::rand({s.batch, s.length, s.channels}, real) * largest_delta;
  a.A = -at::rand({s.channels, s.states}, real) * static_cast<double>(s.states) - 0.1;
  std::vector<int64_t> shape = {s.batch, s.length, s.states};
  if (s.groups > 0) shape.insert(shape.begin() + 2, s.groups);
  a.B = at::randn(shape, real);
  a.C = at::randn(shape, real);
  a.D = at::randn({s.channels}, real);
  a.z = at::randn({s.batch, s.length, s.channels}, real);
  a.delta_bias = at::rand({s.channels}, real);
  a.initial_state = at::randn({s.batch, s.channels, s.states}, real);
  a.lengths = at::randint(1, s.length + 1, {s.batch}, at::kLong);
  return a;
}

// The definition, a sequence and a position at a time; autograd differentiates it.
SelectiveScanResult naive(const Args& a) {
  const int64_t channels = a.u.size(2);
  const auto of_channels = [&](const at::Tensor& x) {  // [(G,) N] -> [D or 1, N]
    return x.dim() == 2 ? x.repeat_interleave(channels / x.size(0), 0) : x.unsqueeze(0);
  };
  std::vector<at::Tensor> ys, states;
  for (int64_t b = 0; b < a.u.size(0); ++b) {
    const int64_t length = a.lengths.defined() ? a.lengths[b].item<int64_t>() : a.u.size(1);
    at::Tensor h =
        a.initial_state.defined() ? a.initial_state[b] : at::zeros(a.A.sizes(), a.u.options());
    std::vector<at::Tensor> y(static_cast<size_t>(a.u.size(1)),
                              at::zeros({channels}, a.u.options()));
    for (int64_t step = 0; step < length; ++step) {
      const int64_t t = a.reverse ? length - 1 - step : step;
      const at::Tensor u = a.u[b][t];
      at::Tensor dt = a.delta[b][t];
      if (a.delta_bias.defined()) dt = dt + a.delta_bias;
      if (a.delta_softplus) dt = at::logaddexp(dt, at::zeros_like(dt));
      h = at::exp(dt.unsqueeze(1) * a.A) * h + (dt * u).unsqueeze(1) * of_channels(a.B[b][t]);
      at::Tensor& out = y[static_cast<size_t>(t)];
      out = (h * of_channels(a.C[b][t])).sum(1);
      if (a.D.defined()) out = out + a.D * u;
      if (a.z.defined()) out = out * at::silu(a.z[b][t]);
    }
    ys.push_back(at::stack(y));
    states.push_back(h);
  }
  return {at::stack(ys), at::stack(states)};
}

struct Result {
  at::Tensor y, last_state;
  Args grads;
};
// The gradients of sum(y wy) + sum(last_state wh).
template <class F>
Result differentiate(F f, const Args& a, const at::Tensor& wy, const at::Tensor& wh) {
  const Args leaves =
      each(a, [](const at::Tensor& x) { return x.detach().clone().set_requires_grad(true); });
  variable_list wanted;
  for (const Input& in : kInputs) {
    if ((leaves.*in.tensor).defined()) wanted.push_back(leaves.*in.tensor);
  }
  const auto [y, last_state] = f(leaves);
  variable_list grads = torch::autograd::grad({y, last_state}, wanted, {wy, wh});
  Result out{y.detach(), last_state.detach(), a};
  auto next = grads.begin();
  for (const Input& in : kInputs) {
    if ((leaves.*in.tensor).defined()) out.grads.*in.tensor = *next++;
  }
  return out;
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  if (b.numel() == 0) return 0;
  return (a - b).abs().max().item<double>() / std::max(1.0, b.abs().max().item<double>());
}
void expect_close(const Result& got, const Result& want, double tolerance,
                  const std::string& where = "") {
  EXPECT_LE(difference(got.y, want.y), tolerance) << where << " y";
  EXPECT_LE(difference(got.last_state, want.last_state), tolerance) << where << " last_state";
  for (const Input& in : kInputs) {
    if (!(want.grads.*in.tensor).defined()) continue;
    EXPECT_LE(difference(got.grads.*in.tensor, want.grads.*in.tensor), tolerance)
        << where << " the gradient of " << in.name;
  }
}
void expect_same(const Result& got, const Result& want) {
  EXPECT_TRUE(at::equal(got.y, want.y));
  EXPECT_TRUE(at::equal(got.last_state, want.last_state));
  for (const Input& in : kInputs) {
    EXPECT_TRUE(at::equal(got.grads.*in.tensor, want.grads.*in.tensor)) << in.name;
  }
}

// Every instruction set that this CPU has.
template <class F>
void on_each_isa(F&& f) {
  const Isa best = isa();
  for (const Isa one : {Isa::generic, Isa::avx2, Isa::avx512}) {
    if (one > best) break;
    limit_isa(one);
    f();
  }
  limit_isa(best);
}

// Lengths around a chunk's, states around a block's, channels around a vector's and a slice's;
// each argument that may be left out is left out at times.
TEST(SelectiveScan, AgreesWithItsDefinitionAndTheGradientsOfThat) {
  on_each_isa([] {
    at::manual_seed(1);
    int64_t turn = 0;
    for (const Size& s : std::vector<Size>{{1, 1, 1, 1},
                                           {2, 2, 3, 4},
                                           {2, 15, 3, 2, 3},
                                           {1, 16, 4, 3},
                                           {3, 17, 2, 16, 1},
                                           {2, 31, 17, 8},
                                           {1, 32, 64, 5},
                                           {2, 33, 66, 4, 2},
                                           {1, 20, 130, 1},
                                           {1, 3, 2, 256},
                                           {1, 70, 20, 7, 5},
                                           {1, 1023, 2, 4}}) {
      Args a = random_args(s);
      a.reverse = turn % 2 == 1;
      a.delta_softplus = turn % 3 != 0;
      if (turn % 4 == 2) a.z = at::Tensor();
      if (turn % 5 == 1) a.D = at::Tensor();
      if (turn % 5 == 2) a.delta_bias = at::Tensor();
      if (turn % 5 == 3) a.initial_state = at::Tensor();
      if (turn % 3 == 1) a.lengths = at::Tensor();
      ++turn;
      const at::Tensor wy = at::randn_like(a.u),
                       wh = at::randn({s.batch, s.channels, s.states}, a.u.options());
      expect_close(differentiate(selective_scan, a, wy, wh), differentiate(naive, a, wy, wh), 1e-11,
                   cat("L ", s.length, " D ", s.channels, " N ", s.states));
    }
  });
}

TEST(SelectiveScan, GradientsAgreeWithNumericalDifferences) {
  for (const bool reverse : {false, true}) {
    at::manual_seed(2);
    Args a = random_args({2, 35, 2, 3});
    a.reverse = reverse;
    a.delta_softplus = true;
    const at::Tensor wy = at::randn_like(a.u), wh = at::randn_like(a.initial_state);
    const Result got = differentiate(selective_scan, a, wy, wh);
    constexpr double kStep = 1e-6;
    for (const Input& in : kInputs) {
      at::Tensor numeric = at::empty_like(a.*in.tensor, at::MemoryFormat::Contiguous);
      for (int64_t j = 0; j < numeric.numel(); ++j) {
        double value[2];
        for (int side = 0; side < 2; ++side) {
          Args x = a;
          x.*in.tensor = (a.*in.tensor).clone();
          (x.*in.tensor).view(-1)[j] += side == 0 ? kStep : -kStep;
          const auto [y, last_state] = selective_scan(x);
          value[side] = ((y * wy).sum() + (last_state * wh).sum()).item<double>();
        }
        numeric.view(-1)[j] = (value[0] - value[1]) / (2 * kStep);
      }
      EXPECT_LT(difference(got.grads.*in.tensor, numeric), 1e-7) << in.name << reverse;
    }
  }
}

TEST(SelectiveScan, ReverseScansTheFlippedSequence) {
  at::manual_seed(3);
  Args a = random_args({2, 50, 5, 4});
  a.lengths = at::Tensor();
  Args flipped = a;
  for (at::Tensor Args::*x : {&Args::u, &Args::delta, &Args::B, &Args::C, &Args::z}) {
    flipped.*x = (a.*x).flip(1);
  }
  a.reverse = true;
  const auto got = selective_scan(a), want = selective_scan(flipped);
  EXPECT_TRUE(at::equal(got.y, want.y.flip(1)));
  EXPECT_TRUE(at::equal(got.last_state, want.last_state));
}

// The first part's last state is the second part's initial one, and gradients cross the border.
TEST(SelectiveScan, ScansInTwoPartsAsInOne) {
  at::manual_seed(4);
  Args a = random_args({2, 77, 5, 6});
  a.lengths = at::Tensor();
  const at::Tensor wy = at::randn_like(a.u), wh = at::randn_like(a.initial_state);
  const Result want = differentiate(selective_scan, a, wy, wh);
  for (const int64_t border : {1, 32, 45}) {
    const auto in_parts = [&](const Args& x) {
      const auto part = [&](int64_t from, int64_t to) {
        Args p = x;
        for (at::Tensor Args::*t : {&Args::u, &Args::delta, &Args::B, &Args::C, &Args::z}) {
          p.*t = (x.*t).slice(1, from, to);
        }
        return p;
      };
      const auto first = selective_scan(part(0, border));
      Args rest = part(border, x.u.size(1));
      rest.initial_state = first.last_state;
      const auto second = selective_scan(rest);
      return SelectiveScanResult{at::cat({first.y, second.y}, 1), second.last_state};
    };
    expect_close(differentiate(in_parts, a, wy, wh), want, 1e-12, cat("border ", border));
  }
}

TEST(SelectiveScan, DifferentiatesThroughEitherOutputAlone) {
  at::manual_seed(13);
  const Args a = random_args({2, 40, 5, 6});
  const at::Tensor wy = at::randn_like(a.u), wh = at::randn_like(a.initial_state);
  const at::Tensor no_y = at::zeros_like(wy), no_h = at::zeros_like(wh);
  const auto y_alone = [&](const Args& x) {
    return SelectiveScanResult{selective_scan(x).y, x.initial_state * 0};
  };
  const auto last_alone = [&](const Args& x) {
    return SelectiveScanResult{x.u * 0, selective_scan(x).last_state};
  };
  Result want = differentiate(selective_scan, a, wy, no_h);
  Result got = differentiate(y_alone, a, wy, wh);
  want.last_state = got.last_state;
  expect_close(got, want, 1e-14);
  want = differentiate(selective_scan, a, no_y, wh);
  got = differentiate(last_alone, a, wy, wh);
  want.y = got.y;
  expect_close(got, want, 1e-14);
}

// Products of decays underflow; nothing may overflow or become NaN, in float32 either.
TEST(SelectiveScan, LargeStepsAndStatesThatDoNotDecayStayFinite) {
  at::manual_seed(5);
  for (const double largest_delta : {1e4, 1e-4}) {
    Args a = random_args({1, 100, 4, 16}, largest_delta);
    a.delta_softplus = largest_delta > 1;
    a.A.narrow(1, 0, 8).mul_(1e-9);
    const at::Tensor wy = at::randn_like(a.u), wh = at::randn_like(a.initial_state);
    const Result want = differentiate(naive, a, wy, wh);
    expect_close(differentiate(selective_scan, a, wy, wh), want, 1e-11);
    const Result got =
        differentiate(selective_scan, to(a, at::kFloat), wy.to(at::kFloat), wh.to(at::kFloat));
    expect_close(got, want, 1e-5);
  }
}

TEST(SelectiveScan, AgreesWithDoubleOverALongSequence) {
  at::manual_seed(6);
  Args a = random_args({1, 65536, 3, 4}, 0.01);
  a.lengths = at::Tensor();
  a.A.select(1, 0).fill_(-1e-6);
  const at::Tensor wy = at::randn_like(a.u), wh = at::randn_like(a.initial_state);
  const Args narrow = to(a, at::kFloat);
  const Result got = differentiate(selective_scan, narrow, wy.to(at::kFloat), wh.to(at::kFloat));
  expect_close(got, differentiate(selective_scan, to(narrow, at::kDouble), wy, wh), 1e-3);
}

TEST(SelectiveScan, AgreesWithDoubleAtEveryMagnitude) {
  at::manual_seed(7);
  for (int i = 0; i < 200; ++i) {
    Args a = random_args({2, 40, 9, 5}, std::pow(10, i % 7 - 4));
    a.delta_softplus = i % 2 == 0;
    a.reverse = i % 3 == 0;
    for (at::Tensor Args::*x :
         {&Args::u, &Args::A, &Args::B, &Args::C, &Args::D, &Args::z, &Args::initial_state}) {
      (a.*x).mul_(std::pow(10, at::randint(-4, 3, {1}).item<double>()));
    }
    const Args narrow = to(a, at::kFloat), wide = to(narrow, at::kDouble);
    const at::Tensor wy = at::randn_like(a.u), wh = at::randn_like(a.initial_state);
    const Result want = differentiate(selective_scan, wide, wy, wh);
    // Decays below 2^-126 count as that.
    const auto relative = [](const at::Tensor& x, const at::Tensor& y) {
      return ((x - y).abs().max() / y.abs().max().clamp_min(1e-30)).item<double>();
    };
    on_each_isa([&] {
      const Result got =
          differentiate(selective_scan, narrow, wy.to(at::kFloat), wh.to(at::kFloat));
      EXPECT_LE(relative(got.y, want.y), 1e-5) << i;
      for (const Input& in : kInputs) {
        EXPECT_LE(relative(got.grads.*in.tensor, want.grads.*in.tensor), 1e-4) << in.name << i;
      }
    });
  }
}

// NaN there reaches nothing; y and the gradients are zero there, and those inside are what each
// sequence has alone.
TEST(SelectiveScan, NeverReadsPadding) {
  for (const bool reverse : {false, true}) {
    at::manual_seed(8);
    Args a = to(random_args({3, 70, 20, 5}), at::kFloat);
    a.reverse = reverse;
    a.delta_softplus = true;
    a.lengths = at::tensor({41, 0, 70}, at::kLong);
    const at::Tensor wy = at::randn_like(a.u), wh = at::randn_like(a.initial_state);
    Args poisoned = a;
    at::Tensor poisoned_wy = wy.clone();
    const auto poison = [&](at::Tensor& x) {
      x = x.clone();
      x[0].slice(0, 41).fill_(NAN);
      x[1].fill_(NAN);
    };
    for (at::Tensor Args::*x : {&Args::u, &Args::delta, &Args::B, &Args::C, &Args::z}) {
      poison(poisoned.*x);
    }
    poison(poisoned_wy);
    const Result got = differentiate(selective_scan, poisoned, poisoned_wy, wh);
    expect_same(got, differentiate(selective_scan, a, wy, wh));
    for (const at::Tensor& x :
         {got.y, got.grads.u, got.grads.delta, got.grads.B, got.grads.C, got.grads.z}) {
      EXPECT_TRUE(at::equal(x[0].slice(0, 41), at::zeros_like(x[0].slice(0, 41))));
      EXPECT_TRUE(at::equal(x[1], at::zeros_like(x[1])));
    }
    EXPECT_TRUE(at::equal(got.last_state[1], a.initial_state[1]));

    Args alone = a;
    for (at::Tensor Args::*x : {&Args::u, &Args::delta, &Args::B, &Args::C, &Args::z}) {
      alone.*x = (a.*x).slice(0, 0, 1).slice(1, 0, 41);
    }
    alone.initial_state = a.initial_state.slice(0, 0, 1);
    alone.lengths = at::Tensor();
    const auto [y, last_state] = selective_scan(alone);
    EXPECT_TRUE(at::equal(y[0], got.y[0].slice(0, 0, 41)));
    EXPECT_TRUE(at::equal(last_state[0], got.last_state[0]));
  }
}

TEST(SelectiveScan, GivesTheSameBitsOnAnyNumberOfThreads) {
  at::manual_seed(9);
  const Args a = to(random_args({3, 90, 150, 5}), at::kFloat);
  const at::Tensor wy = at::randn_like(a.u), wh = at::randn_like(a.initial_state);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Result want = differentiate(selective_scan, a, wy, wh);
  for (const int n : {2, 3}) {
    at::set_num_threads(n);
    expect_same(differentiate(selective_scan, a, wy, wh), want);
  }
  at::set_num_threads(threads);
}

// y, its gradient, those of u and delta: four tensors; states would be sixteen.
TEST(SelectiveScan, KeepsNoStateOfEveryPosition) {
  Args a = each(to(random_args({1, 1000, 256, 16}), at::kFloat),
                [](const at::Tensor& x) { return x.set_requires_grad(true); });
  a.z = at::Tensor();
  testing::MemoryCounter memory;
  selective_scan(a).y.sum().backward();
  EXPECT_LT(memory.peak(), 7 * a.u.numel() * 4);
}

TEST(SelectiveScan, TakesAnyStridesAndAnEmptyBatch) {
  at::manual_seed(10);
  Args a = random_args({2, 20, 6, 4}), strided = a;
  for (at::Tensor Args::*x : {&Args::u, &Args::delta, &Args::B, &Args::C, &Args::z, &Args::A}) {
    strided.*x = (a.*x).transpose(0, 1).contiguous().transpose(0, 1);
  }
  const at::Tensor wy = at::randn_like(a.u), wh = at::randn_like(a.initial_state);
  const at::Tensor expanded = at::ones({1}, a.u.options()).expand({2, 20, 6});
  expect_same(differentiate(selective_scan, strided, expanded, wh),
              differentiate(selective_scan, a, expanded.contiguous(), wh));

  Args empty = random_args({0, 20, 6, 4});
  const Result none = differentiate(selective_scan, empty, empty.u, empty.initial_state);
  EXPECT_EQ(none.y.sizes(), at::IntArrayRef({0, 20, 6}));
  EXPECT_TRUE(at::equal(none.grads.A, at::zeros_like(a.A)));
}

TEST(SelectiveScan, KeepsItsStateInFloat32UnderAutocastAndForNarrowInputs) {
  at::manual_seed(11);
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const Args exact = to(random_args({2, 50, 4, 8}), at::kFloat);
    const Args narrow = to(exact, type), wide = to(narrow, at::kFloat);
    const at::Tensor wy = at::ones({2, 50, 4}), wh = at::ones({2, 4, 8});
    const Result want = differentiate(selective_scan, wide, wy, wh);

    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    const Result same = differentiate(selective_scan, wide, wy, wh);
    const Result low = differentiate(selective_scan, narrow, wy.to(type), wh);
    at::autocast::set_autocast_enabled(at::kCPU, false);
    at::autocast::clear_cache();

    expect_same(same, want);
    EXPECT_EQ(low.last_state.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(low.last_state, want.last_state));
    EXPECT_TRUE(at::equal(low.y, want.y.to(type)));  // rounded once, at the end
    for (const Input& in : kInputs) {
      EXPECT_TRUE(at::equal(low.grads.*in.tensor, (want.grads.*in.tensor).to(type))) << in.name;
    }
    EXPECT_LT(difference(low.y.to(at::kFloat), selective_scan(exact).y), 2e-2);
  }
}

TEST(SelectiveScan, ShowsNaNs) {
  at::manual_seed(12);
  for (const Input& in : kInputs) {
    Args a = to(random_args({1, 5, 3, 4}), at::kFloat);
    a.lengths = at::Tensor();
    a.*in.tensor = (a.*in.tensor).clone().fill_(NAN);
    EXPECT_TRUE(selective_scan(a).y.isnan().all().item<bool>()) << in.name;
  }
}

std::string refusal(const Args& a) {
  try {
    selective_scan(a);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(SelectiveScan, SaysWhichArgumentIsWrong) {
  const Args good = random_args({2, 5, 3, 4});
  Args a = good;
  a.B = a.B.narrow(1, 0, 4);
  EXPECT_EQ(refusal(a),
            "selective_scan: B is Double [2, 4, 4] on cpu, expected [B, L, N] = [2, 5, 4]");
  a = random_args({2, 5, 3, 4, 2});
  EXPECT_EQ(refusal(a),
            "selective_scan: B is Double [2, 5, 2, 4] on cpu, expected a number of groups that "
            "divides the 3 channels");
  a = good;
  a.delta = at::Tensor();
  EXPECT_EQ(refusal(a), "selective_scan: delta is not given, expected [B, L, D] = [2, 5, 3]");
  a = good;
  a.z = a.z.to(at::kLong);
  EXPECT_EQ(refusal(a), "selective_scan: z is Long [2, 5, 3] on cpu, expected a floating type");
  a = good;
  a.A = at::ones({3, 257});
  EXPECT_EQ(refusal(a), "selective_scan: A is Float [3, 257] on cpu, expected 1 to 256 states");
  a = good;
  a.lengths = at::tensor({3, 6}, at::kLong);
  EXPECT_EQ(refusal(a), "selective_scan: lengths[1] is 6, expected 0 to 5");
}

TEST(SelectiveScan, RefusesASecondDerivative) {
  Args a = random_args({1, 3, 2, 2});
  a.u.set_requires_grad(true);
  const at::Tensor y = selective_scan(a).y.sum();
  EXPECT_THROW(torch::autograd::grad({y}, {a.u}, {}, /*retain_graph=*/true, /*create_graph=*/true),
               Error);
}

// Python sees the same operator.
TEST(SelectiveScan, IsRegistered) {
  EXPECT_TRUE(c10::Dispatcher::singleton().findSchema({"ribo::selective_scan", ""}).has_value());
}

}  // namespace
}  // namespace ribo::kernels
