// Gradient checkpointing against a plain pass: the same bits, in less memory.
#include "model/checkpointing.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <map>

#include "support/blocks.h"
#include "support/memory.h"
#include "train/precision.h"
#include "train/temp_folder.h"

namespace ribo {
namespace {

// Dropout everywhere, a group, three readers of one stream, and a prediction that no loss uses.
// Each mark stands where `checkpoint: true` may.
constexpr std::string_view kModel = R"(
streams: {single: 16}
blocks:
  - {type: embedding, dropout: 0.1 <embedding>}
  - {type: conv, dropout: 0.2 <conv>}
  - repeat: 2
    <repeat>
    blocks:
      - {type: sepcnn, kernels: [3, 5], dropout: 0.1}
      - {type: mamba, bidirectional: true, d_state: 4, dropout: 0.1 <mamba>}
      - {type: transformer, heads: 2, dropout: 0.1, attention_dropout: 0.2 <transformer>}
      - {type: reactivity_head, stream: unused, targets: [x]}
  - {type: reactivity_head, stream: first, targets: [a, b], dropout: 0.1}
  - {type: reactivity_head, stream: second, targets: [a], hidden: 8 <head>}
  - {type: reactivity_head}
)";

// The model with checkpoint: true at the named marks.
std::string with_marks(const std::vector<std::string>& marks) {
  std::string text(kModel);
  for (const std::string mark : {"embedding", "conv", "repeat", "mamba", "transformer", "head"}) {
    const std::string place = "<" + mark + ">";
    const bool on = std::find(marks.begin(), marks.end(), mark) != marks.end();
    const std::string with = mark == "repeat" ? "checkpoint: true" : ", checkpoint: true";
    text.replace(text.find(place), place.size(), on ? with : "");
  }
  return text;
}

struct Pass {
  std::map<std::string, at::Tensor> outputs, gradients;
  at::Tensor random_after_forward, random_after_backward;
};

at::Tensor random_state() {
  return at::globalContext().defaultGenerator(at::kCPU).get_state().clone();
}

Pass run(const std::string& text, const std::string& precision = "float32") {
  const auto model = testing::make_model(text);
  model->train();
  Streams s = testing::make_batch({13, 9, 13});
  Pass out;
  at::manual_seed(5);
  {
    AutocastScope autocast(at::kCPU, precision);
    model->forward(s);
  }
  at::Tensor loss = at::zeros({});
  for (const std::string name : {"pred.first", "pred.second", "pred.reactivity"}) {
    loss = loss + s.get(name).to(at::kFloat).square().sum();
  }
  out.random_after_forward = random_state();
  torch::autograd::backward({loss}, {});
  out.random_after_backward = random_state();
  for (const auto& [name, tensor] : s) out.outputs[name] = tensor.detach();
  for (const auto& item : model->named_parameters()) {
    out.gradients[item.key()] = item.value().grad();
  }
  return out;
}

void expect_same(const Pass& got, const Pass& want) {
  ASSERT_EQ(got.outputs.size(), want.outputs.size());
  for (const auto& [name, tensor] : want.outputs) {
    EXPECT_TRUE(at::equal(got.outputs.at(name), tensor)) << name;
    EXPECT_EQ(got.outputs.at(name).scalar_type(), tensor.scalar_type()) << name;
  }
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (const auto& [name, tensor] : want.gradients) {
    const at::Tensor& own = got.gradients.at(name);
    ASSERT_EQ(own.defined(), tensor.defined()) << name;
    if (!tensor.defined()) continue;
    EXPECT_TRUE(at::equal(own, tensor)) << name;
  }
  EXPECT_TRUE(at::equal(got.random_after_forward, want.random_after_forward));
  EXPECT_TRUE(at::equal(got.random_after_backward, want.random_after_backward));
}

const std::vector<std::vector<std::string>> kPlaces = {
    {"conv"},             // a block
    {"embedding"},        // nothing before it has a gradient
    {"head"},             // one of several readers
    {"repeat"},           // each turn of a group
    {"repeat", "mamba"},  // one inside another
    {"embedding", "conv", "repeat", "mamba", "transformer", "head"}  // everything
};

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

TEST(Checkpointing, ChangesNoBit) {
  const Pass want = run(with_marks({}));
  EXPECT_FALSE(at::equal(want.gradients.at("blocks.0.embedding.weight"),
                         at::zeros_like(want.gradients.at("blocks.0.embedding.weight"))));
  for (const auto& marks : kPlaces) {
    SCOPED_TRACE(joined(marks));
    expect_same(run(with_marks(marks)), want);
  }
}

TEST(Checkpointing, ChangesNoBitUnderBfloat16) {
  const Pass want = run(with_marks({}), "bf16");
  EXPECT_FALSE(at::equal(want.outputs.at("pred.first").to(at::kFloat),
                         run(with_marks({})).outputs.at("pred.first")));
  for (const auto& marks : kPlaces) {
    SCOPED_TRACE(joined(marks));
    expect_same(run(with_marks(marks), "bf16"), want);
  }
  EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU)) << "the backward pass leaves it on";
}

TEST(Checkpointing, LeavesFrozenWeightsWithoutAGradient) {
  const auto model = testing::make_model(with_marks({"conv"}));
  model->train();
  for (auto& item : model->named_parameters()) {
    if (item.key().starts_with("blocks.1.conv")) item.value().set_requires_grad(false);
  }
  Streams s = testing::make_batch({6});
  model->forward(s);
  torch::autograd::backward({s.get("pred.reactivity").sum()}, {});
  const auto parameters = model->named_parameters();
  EXPECT_FALSE(parameters["blocks.1.conv.weight"].grad().defined());
  EXPECT_TRUE(parameters["blocks.1.norm.weight"].grad().defined());
  EXPECT_TRUE(parameters["blocks.0.embedding.weight"].grad().defined());
}

TEST(Checkpointing, GradientsAddUpOverTwoPasses) {
  const auto gradients = [](const std::vector<std::string>& marks) {
    const auto model = testing::make_model(with_marks(marks));
    model->train();
    at::manual_seed(3);
    for (int64_t length : {7, 11}) {
      Streams s = testing::make_batch({length});
      model->forward(s);
      torch::autograd::backward({s.get("pred.reactivity").square().sum()}, {});
    }
    Pass out;
    for (const auto& item : model->named_parameters()) {
      out.gradients[item.key()] = item.value().grad();
    }
    out.random_after_forward = out.random_after_backward = random_state();
    return out;
  };
  expect_same(gradients({"conv", "repeat"}), gradients({}));
}

std::string deep(bool checkpoint) {
  return cat("streams: {single: 32}\nblocks:\n  - {type: embedding}\n  - repeat: 6\n",
             checkpoint ? "    checkpoint: true\n" : "",
             "    blocks: [{type: transformer, heads: 4}, {type: sepcnn}]\n"
             "  - {type: reactivity_head}\n");
}

TEST(Checkpointing, KeepsFewerActivations) {
  struct Memory {
    int64_t kept, peak;
  };
  const auto measure = [](bool checkpoint) {
    const auto model = testing::make_model(deep(checkpoint));
    model->train();
    for (const at::Tensor& p : model->parameters()) p.mutable_grad() = at::zeros_like(p);
    Streams s = testing::make_batch({64, 64});
    const testing::MemoryCounter memory;
    model->forward(s);
    const at::Tensor loss = s.get("pred.reactivity").sum();
    const int64_t kept = memory.live();
    torch::autograd::backward({loss}, {});
    return Memory{kept, memory.peak()};
  };
  const Memory plain = measure(false), checkpointed = measure(true);
  // Of each turn its input is left: 1 of about 30 tensors of that size.
  EXPECT_LT(checkpointed.kept, plain.kept / 8) << plain.kept;
  EXPECT_LT(checkpointed.peak, plain.peak / 2) << plain.peak;
}

TEST(Checkpointing, IsOffWithoutGradientsAndInEvaluation) {
  const auto model = testing::make_model(deep(true)), plain = testing::make_model(deep(false));
  model->eval();
  plain->eval();
  Streams a = testing::make_batch({9}), b = testing::make_batch({9});
  {
    at::NoGradGuard no_grad;
    model->forward(a);
    plain->forward(b);
  }
  EXPECT_FALSE(a.get("pred.reactivity").requires_grad());
  EXPECT_TRUE(at::equal(a.get("pred.reactivity"), b.get("pred.reactivity")));
}

TEST(Checkpointing, HandsOnWhatASegmentThrows) {
  Streams s;
  EXPECT_EQ(testing::error_of(
                [&] { forward_checkpointed(s, [](Streams&) { throw Error("blocks[3]: no"); }); }),
            "blocks[3]: no");
}

}  // namespace
}  // namespace ribo
