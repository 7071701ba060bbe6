#include "train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "config/yaml_reader.h"
#include "temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;

NamedTensors make_parameters() {
  at::manual_seed(1);
  NamedTensors out;
  out.emplace_back("proj.weight", at::randn({3, 4}).set_requires_grad(true));
  out.emplace_back("proj.bias", at::randn({3}).set_requires_grad(true));
  out.emplace_back("mixer.A_log", at::randn({3, 2}).set_requires_grad(true));
  return out;
}

std::shared_ptr<Optimizer> make(const NamedTensors& parameters, const std::string& yaml = "{}") {
  const OptimizerFactory& factory = optimizers().at("adamw");
  Diagnostics diagnostics;
  const auto options = factory.schema->make_options();
  factory.schema->parse(read_yaml(yaml, "t"), "optimizer", {}, diagnostics, options.get());
  diagnostics.throw_if_any();
  return factory.make(options.get(), parameters);
}

void set_gradients(const NamedTensors& parameters, uint64_t seed) {
  at::manual_seed(seed);
  for (const auto& [name, p] : parameters) p.mutable_grad() = at::randn_like(p).detach();
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

TEST(AdamW, OnlyMatricesDecayAndNotTheDecayRatesOfMamba) {
  const NamedTensors parameters = make_parameters();
  const auto adamw = make(parameters, "{lr: 0.1, weight_decay: 0.5}");
  std::vector<at::Tensor> before;
  for (const auto& [name, p] : parameters) {
    before.push_back(p.detach().clone());
    p.mutable_grad() = at::zeros_like(p).detach();
  }
  adamw->step(1);
  EXPECT_TRUE(at::allclose(parameters[0].second, before[0] * 0.95));
  EXPECT_TRUE(at::equal(parameters[1].second, before[1]));
  EXPECT_TRUE(at::equal(parameters[2].second, before[2]));
}

TEST(AdamW, ItsStateGoesOnWhereItStopped) {
  const NamedTensors first = make_parameters(), second = make_parameters();
  const auto a = make(first), b = make(second);
  for (uint64_t step = 0; step < 3; ++step) {
    set_gradients(first, step);
    a->step(0.5);
  }
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : a->state()) state[name] = tensor.clone();
  {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < first.size(); ++i) at::Tensor(second[i].second).copy_(first[i].second);
  }
  b->load_state(state);
  for (uint64_t step = 3; step < 6; ++step) {
    set_gradients(first, step);
    set_gradients(second, step);
    a->step(0.25);
    b->step(0.25);
  }
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_TRUE(at::equal(first[i].second, second[i].second)) << first[i].first;
  }
}

TEST(AdamW, AParameterWithoutAGradientStays) {
  const NamedTensors parameters = make_parameters();
  const auto adamw = make(parameters, "{weight_decay: 0.5}");
  set_gradients(parameters, 1);
  parameters[0].second.mutable_grad().reset();
  const at::Tensor before = parameters[0].second.detach().clone();
  adamw->step(1);
  EXPECT_TRUE(at::equal(parameters[0].second, before));
  EXPECT_FALSE(adamw->state().contains("exp_avg.proj.weight"));
}

TEST(AdamW, SaysWhatAStateLacks) {
  const NamedTensors parameters = make_parameters();
  const auto adamw = make(parameters);
  set_gradients(parameters, 1);
  adamw->step(1);
  auto state = adamw->state();
  state.erase("exp_avg_sq.proj.bias");
  EXPECT_EQ(error_of([&] { adamw->load_state(state); }),
            "the optimizer's state lacks exp_avg_sq.proj.bias");
  state = adamw->state();
  state["exp_avg.proj.weight"] = at::zeros({4, 3});
  EXPECT_EQ(error_of([&] { adamw->load_state(state); }),
            "the optimizer's state has another shape for exp_avg.proj.weight");
}

}  // namespace
}  // namespace ribo
