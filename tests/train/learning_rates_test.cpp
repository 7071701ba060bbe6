#include "train/learning_rates.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/yaml_reader.h"
#include "temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;

Parameters make_parameters() {
  at::manual_seed(3);
  Parameters out;
  for (const char* name : {"blocks.0.embedding.weight", "blocks.1.linear.weight",
                           "blocks.1.linear.bias", "blocks.2.out.weight"}) {
    out.push_back({name, at::randn({2, 2}).set_requires_grad(true)});
  }
  return out;
}

std::vector<double> factors(const std::string& yaml) {
  Parameters parameters = make_parameters();
  apply_learning_rates(read_yaml(yaml, "p.yaml"), parameters);
  std::vector<double> out;
  for (const Parameter& p : parameters) out.push_back(p.factor);
  return out;
}

std::string problems(const std::string& yaml) {
  Diagnostics diagnostics;
  check_learning_rates(read_yaml(yaml, "p.yaml"), diagnostics);
  EXPECT_FALSE(diagnostics.ok());
  return error_of([&] { diagnostics.throw_if_any(); });
}

TEST(LearningRates, PatternsMultiplyWhateverTheirOrder) {
  const std::vector<double> want = {1, 0.5, 0.05, 1};
  EXPECT_EQ(factors("{'blocks.1.*': 0.5, '*.bias': 0.1}"), want);
  EXPECT_EQ(factors("{'*.bias': 0.1, 'blocks.1.*': 0.5}"), want);
  EXPECT_EQ(factors("{}"), (std::vector<double>{1, 1, 1, 1}));
}

TEST(LearningRates, EveryOptimizerMovesAGroupByItsFactor) {
  for (const auto& [type, factory] : optimizers()) {
    const auto moved = [&](const char* yaml) {
      Parameters parameters = make_parameters();
      apply_learning_rates(read_yaml(yaml, "p.yaml"), parameters);
      const auto options = factory.schema->make_options();
      Diagnostics diagnostics;
      factory.schema->parse(read_yaml("{weight_decay: 0}", "t"), "", {}, diagnostics,
                            options.get());
      const auto optimizer = factory.make(options.get(), parameters);
      std::vector<at::Tensor> out;
      for (const Parameter& p : parameters) out.push_back(-p.tensor.detach().clone());
      for (int step = 0; step < 3; ++step) {
        for (const Parameter& p : parameters) {
          p.tensor.mutable_grad() = at::tensor({1.0f, -2.0f, 3.0f, 0.5f}).view({2, 2});
        }
        optimizer->step(1);
      }
      for (size_t i = 0; i < out.size(); ++i) out[i] += parameters[i].tensor.detach();
      return out;
    };
    const auto plain = moved("{}"), grouped = moved("{'blocks.1.*': 0.25, 'blocks.2.*': 0}");
    EXPECT_GT(plain[1].abs().max().item<double>(), 1e-5) << type;
    EXPECT_TRUE(at::equal(grouped[0], plain[0])) << type;
    EXPECT_TRUE(at::allclose(grouped[1], plain[1] * 0.25, 1e-3, 1e-6)) << type;
    EXPECT_EQ(grouped[3].abs().max().item<double>(), 0) << type;
  }
}

TEST(LearningRates, SaysWhatIsWrongAndWhere) {
  EXPECT_THAT(problems("{'blocks.1.*': fast}"), ::testing::HasSubstr("p.yaml:1:16"));
  EXPECT_THAT(problems("{'blocks.1.*': -1}"), ::testing::HasSubstr("must be in 0..1000"));
  EXPECT_THAT(problems("[1, 2]"), ::testing::HasSubstr("expected a map of patterns"));
  const std::string what = error_of([] { factors("{'block.1.*': 0.5, '*.bias': 2}"); });
  EXPECT_THAT(what, ::testing::HasSubstr("p.yaml:1:2: train.learning_rates: \"block.1.*\" matches "
                                         "no weight; did you mean \"blocks.1.*\"?"));
}

}  // namespace
}  // namespace ribo
