// RibonanzaNet as a pipeline of blocks: the same numbers as the network in plain ATen calls.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "config/pipeline.h"
#include "support/blocks.h"
#include "support/ribonanzanet_reference.h"
#include "train/safetensors.h"
#include "train/trainer.h"

namespace ribo {
namespace {

using testing::RibonanzaNet;

// Far from the initial weights, where gates are constant and norms do nothing.
void randomize(Model& model) {
  at::NoGradGuard no_grad;
  for (const auto& item : model.named_parameters()) {
    const at::Tensor& p = item.value();
    p.add_(at::randn_like(p), 0.2);
  }
}

// The reference on the model's own weights.
struct Reference {
  Tensors weights;
  at::Tensor output;
};
Reference run_reference(const RibonanzaNet& net, const Model& model, const at::Tensor& tokens) {
  Reference out;
  for (const auto& [name, w] : testing::to_reference_names(net, named_weights(model))) {
    out.weights[name] = w.detach().clone().set_requires_grad(true);
  }
  out.output = testing::ribonanzanet_reference(net, out.weights, tokens);
  return out;
}

void expect_agreement(const RibonanzaNet& net, bool checkpoint) {
  const auto model = testing::make_model(testing::ribonanzanet_model(net, checkpoint));
  randomize(*model);
  model->train();
  Streams streams = testing::make_batch({21, 21});
  const at::Tensor tokens = streams.tokens(), cotangent = at::randn({2, 21, 2});
  const Reference want = run_reference(net, *model, tokens);
  model->forward(streams);
  EXPECT_LE(testing::relative_error(streams.get("pred.reactivity"), want.output), 1e-5);

  torch::autograd::backward({streams.get("pred.reactivity"), want.output}, {cotangent, cotangent});
  Tensors grads;
  for (const auto& item : model->named_parameters()) {
    if (item.value().grad().defined()) grads[item.key()] = item.value().grad();
  }
  grads = testing::to_reference_names(net, grads);
  for (const auto& [name, weight] : want.weights) {
    if (name.ends_with("pairwise_norm.bias")) continue;  // zero, but for rounding
    EXPECT_EQ(grads.contains(name), weight.grad().defined()) << name;
    if (grads.contains(name) && weight.grad().defined()) {
      EXPECT_LE(testing::relative_error(grads[name], weight.grad()), 1e-4) << name;
    }
  }
}

TEST(RibonanzaNet, AgreesWithItselfInPlainCalls) {
  const RibonanzaNet net = {.ninp = 48, .pairwise_dimension = 24, .nhead = 6, .nlayers = 3, .k = 3};
  expect_agreement(net, false);
  expect_agreement(net, true);
}

TEST(RibonanzaNet, AgreesWithItselfInPlainCallsWithTriangularAttention) {
  RibonanzaNet net = {.ninp = 40, .pairwise_dimension = 16, .nhead = 5, .nlayers = 2};
  net.use_triangular_attention = true;
  expect_agreement(net, false);
}

// A padded batch gives each sequence what it gets alone, and gradients as if padding were not
// there.
TEST(RibonanzaNet, PaddingChangesNothing) {
  RibonanzaNet net = {.ninp = 32, .pairwise_dimension = 16, .nhead = 4, .nlayers = 2};
  net.use_triangular_attention = true;
  const auto model = testing::make_model(testing::ribonanzanet_model(net));
  randomize(*model);
  const std::vector<int64_t> lengths = {19, 1, 12};
  Streams streams = testing::make_batch(lengths);
  const at::Tensor tokens = streams.tokens();
  model->forward(streams);
  const at::Tensor& output = streams.get("pred.reactivity");
  torch::autograd::backward({output.sum()}, {});
  Tensors want;
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t length = lengths[static_cast<size_t>(i)];
    const Reference alone = run_reference(net, *model, tokens.narrow(0, i, 1).narrow(1, 0, length));
    EXPECT_LE(testing::relative_error(output[i].narrow(0, 0, length), alone.output[0]), 1e-5);
    torch::autograd::backward({alone.output.sum()}, {});
    for (const auto& [name, weight] : alone.weights) {
      if (!weight.grad().defined()) continue;
      want[name] = want.contains(name) ? want[name] + weight.grad() : weight.grad();
    }
  }
  Tensors grads;
  for (const auto& item : model->named_parameters()) {
    if (item.value().grad().defined()) grads[item.key()] = item.value().grad();
  }
  grads = testing::to_reference_names(net, grads);
  for (const auto& [name, grad] : want) {
    if (name.ends_with("pairwise_norm.bias")) continue;  // zero, but for rounding
    EXPECT_LE(testing::relative_error(grads[name], grad), 1e-4) << name;
  }
}

TEST(RibonanzaNet, ThePipelineHasTheOriginalsWeights) {
  const Pipeline pipeline = load_pipeline(RIBO_SOURCE_DIR "/pipelines/ribonanzanet.yaml", {});
  const Model model(testing::make_plan(to_yaml(*pipeline.root.find("model"))));
  EXPECT_EQ(model.count_parameters(), 11'296'898);
  const auto original = testing::to_reference_names({}, named_weights(model));
  EXPECT_EQ(original.at("transformer_encoder.7.conv.weight").size(2), 5);
  EXPECT_EQ(original.at("transformer_encoder.8.conv.weight").size(2), 1);
  EXPECT_EQ(testing::from_reference_names({}, original).size(), named_weights(model).size());
}

}  // namespace
}  // namespace ribo
