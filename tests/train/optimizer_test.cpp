#include "train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "config/yaml_reader.h"
#include "temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;

Parameters make_parameters() {
  at::manual_seed(1);
  return {{"proj.weight", at::randn({3, 4}).set_requires_grad(true)},
          {"proj.bias", at::randn({3}).set_requires_grad(true)},
          {"mixer.A_log", at::randn({3, 2}).set_requires_grad(true)}};
}

std::shared_ptr<Optimizer> make(const Parameters& parameters, const std::string& yaml = "{}",
                                const std::string& type = "adamw") {
  const OptimizerFactory& factory = optimizers().at(type);
  Diagnostics diagnostics;
  const auto options = factory.schema->make_options();
  factory.schema->parse(read_yaml(yaml, "t"), "optimizer", {}, diagnostics, options.get());
  diagnostics.throw_if_any();
  return factory.make(options.get(), parameters);
}

void set_gradients(const Parameters& parameters, uint64_t seed) {
  at::manual_seed(seed);
  for (const auto& [name, p, factor] : parameters) p.mutable_grad() = at::randn_like(p).detach();
}

TEST(AdamW, TakesTheStepOfThePaper) {
  at::Tensor p = at::tensor({2.0f, -1.0f}).view({1, 2}).set_requires_grad(true);
  const auto adamw =
      make({{"w", p}}, "{lr: 0.1, weight_decay: 0.5, betas: [0.9, 0.99], eps: 1e-8}");
  double m[2] = {}, v[2] = {}, want[2] = {2, -1};
  const double gradients[3][2] = {{1, -2}, {0.5, 4}, {-3, 0.25}};
  for (int t = 1; t <= 3; ++t) {
    const double factor = 1.0 / t;
    p.mutable_grad() =
        at::tensor({gradients[t - 1][0], gradients[t - 1][1]}, at::kFloat).view({1, 2});
    adamw->step(factor);
    for (int i = 0; i < 2; ++i) {
      const double g = gradients[t - 1][i], lr = 0.1 * factor;
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.99 * v[i] + 0.01 * g * g;
      want[i] -= lr * 0.5 * want[i];
      want[i] -=
          lr * m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.99, t))) + 1e-8);
      EXPECT_NEAR(p[0][i].item<double>(), want[i], 1e-6) << "step " << t;
    }
  }
  EXPECT_EQ(adamw->learning_rate(), 0.1) << "a factor is not a new rate";
}

TEST(Ranger, TakesTheStepOfThePapers) {
  // One matrix of one output with two inputs, so that centralization takes the gradients' mean
  // away.
  at::Tensor p = at::tensor({2.0f, -1.0f}).view({1, 2}).set_requires_grad(true);
  const auto ranger = make({{"w", p, 0.5}},
                           "{lr: 0.1, weight_decay: 0.5, betas: [0.9, 0.99], eps: 1e-5, "
                           "lookahead: 3, lookahead_alpha: 0.5}",
                           "ranger");
  double m[2] = {}, v[2] = {}, want[2] = {2, -1}, slow[2] = {2, -1};
  int adaptive = 0;
  for (int t = 1; t <= 12; ++t) {
    const double raw[2] = {std::sin(t), std::cos(3 * t)}, lr = 0.1 * 0.5 / t;
    p.mutable_grad() = at::tensor({raw[0], raw[1]}, at::kFloat).view({1, 2});
    ranger->step(1.0 / t);
    const double rho_inf = 2 / (1 - 0.99) - 1;
    const double rho = rho_inf - 2 * t * std::pow(0.99, t) / (1 - std::pow(0.99, t));
    for (int i = 0; i < 2; ++i) {
      const double g = raw[i] - (raw[0] + raw[1]) / 2;
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.99 * v[i] + 0.01 * g * g;
      want[i] -= lr * 0.5 * want[i];
      const double m_hat = m[i] / (1 - std::pow(0.9, t));
      if (rho > 5) {
        const double r =
            std::sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho));
        want[i] -= lr * r * m_hat * std::sqrt(1 - std::pow(0.99, t)) / (std::sqrt(v[i]) + 1e-5);
        ++adaptive;
      } else {
        want[i] -= lr * m_hat;
      }
      if (t % 3 == 0) want[i] = slow[i] += 0.5 * (want[i] - slow[i]);
      EXPECT_NEAR(p[0][i].item<double>(), want[i], 2e-6) << "step " << t;
    }
  }
  EXPECT_GT(adaptive, 0);
  EXPECT_LT(adaptive, 24) << "both branches of RAdam";
}

// What every optimizer does.
class EveryOptimizer : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, EveryOptimizer, ::testing::Values("adamw", "ranger"));

// Batches of many parameters, of which some lack a gradient for a while, and gradients of any
// strides give what each parameter alone gives.
TEST_P(EveryOptimizer, ParametersDoNotMindEachOther) {
  Parameters together = make_parameters();
  for (auto& p : together) {
    if (p.tensor.dim() == 2) p.tensor = p.tensor.detach().t().set_requires_grad(true);
  }
  Parameters alone;
  std::vector<std::shared_ptr<Optimizer>> each;
  for (const auto& p : together) {
    alone.push_back({p.name, p.tensor.detach().clone().set_requires_grad(true)});
    each.push_back(make({alone.back()}, "{weight_decay: 0.1}", GetParam()));
  }
  const auto optimizer = make(together, "{weight_decay: 0.1}", GetParam());
  for (uint64_t step = 0; step < 14; ++step) {
    set_gradients(alone, step);
    for (size_t i = 0; i < alone.size(); ++i) {
      at::Tensor& g = together[i].tensor.mutable_grad();
      g = alone[i].tensor.grad().contiguous();
      if (i == step % 3 && step < 6) {
        g.reset();
        continue;
      }
      each[i]->step(1);
    }
    optimizer->step(1);
  }
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_TRUE(at::allclose(together[i].tensor, alone[i].tensor, 1e-6, 1e-7)) << alone[i].name;
  }
}

TEST_P(EveryOptimizer, AFactorScalesTheRate) {
  const auto moved = [&](double factor) {
    Parameters parameters = make_parameters();
    for (auto& p : parameters) p.factor = factor;
    const at::Tensor before = parameters[0].tensor.detach().clone();
    const auto optimizer = make(parameters, "{weight_decay: 0}", GetParam());
    set_gradients(parameters, 1);
    optimizer->step(1);
    return at::Tensor(before - parameters[0].tensor.detach());
  };
  EXPECT_TRUE(at::allclose(moved(0.25), moved(1) * 0.25, 1e-3, 1e-6));
  EXPECT_TRUE(at::equal(moved(0), at::zeros({3, 4})));
}

TEST_P(EveryOptimizer, OnlyMatricesDecayAndNotTheDecayRatesOfMamba) {
  const Parameters parameters = make_parameters();
  const auto optimizer = make(parameters, "{lr: 0.1, weight_decay: 0.5}", GetParam());
  std::vector<at::Tensor> before;
  for (const auto& [name, p, factor] : parameters) {
    before.push_back(p.detach().clone());
    p.mutable_grad() = at::zeros_like(p).detach();
  }
  optimizer->step(1);
  EXPECT_TRUE(at::allclose(parameters[0].tensor, before[0] * 0.95));
  EXPECT_TRUE(at::equal(parameters[1].tensor, before[1]));
  EXPECT_TRUE(at::equal(parameters[2].tensor, before[2]));
}

TEST_P(EveryOptimizer, ItsStateGoesOnWhereItStopped) {
  const Parameters first = make_parameters(), second = make_parameters();
  const auto a = make(first, "{}", GetParam()), b = make(second, "{}", GetParam());
  for (uint64_t step = 0; step < 8; ++step) {
    set_gradients(first, step);
    a->step(0.5);
  }
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : a->state()) state[name] = tensor.clone();
  {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < first.size(); ++i) at::Tensor(second[i].tensor).copy_(first[i].tensor);
  }
  b->load_state(state);
  for (uint64_t step = 8; step < 20; ++step) {
    set_gradients(first, step);
    set_gradients(second, step);
    a->step(0.25);
    b->step(0.25);
  }
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_TRUE(at::equal(first[i].tensor, second[i].tensor)) << first[i].name;
  }
}

TEST_P(EveryOptimizer, AParameterWithoutAGradientStays) {
  const Parameters parameters = make_parameters();
  const auto optimizer = make(parameters, "{weight_decay: 0.5}", GetParam());
  set_gradients(parameters, 1);
  parameters[0].tensor.mutable_grad().reset();
  const at::Tensor before = parameters[0].tensor.detach().clone();
  optimizer->step(1);
  EXPECT_TRUE(at::equal(parameters[0].tensor, before));
  EXPECT_FALSE(optimizer->state().contains("exp_avg.proj.weight"));
}

TEST_P(EveryOptimizer, SaysWhatAStateLacks) {
  const Parameters parameters = make_parameters();
  const auto optimizer = make(parameters, "{}", GetParam());
  set_gradients(parameters, 1);
  optimizer->step(1);
  auto state = optimizer->state();
  state.erase("exp_avg_sq.proj.bias");
  EXPECT_EQ(error_of([&] { optimizer->load_state(state); }),
            "the optimizer's state lacks exp_avg_sq.proj.bias");
  state = optimizer->state();
  state["exp_avg.proj.weight"] = at::zeros({4, 3});
  EXPECT_EQ(error_of([&] { optimizer->load_state(state); }),
            "the optimizer's state has another shape for exp_avg.proj.weight");
}

}  // namespace
}  // namespace ribo
