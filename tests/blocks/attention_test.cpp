// The attention that a block shows to a host that watches (docs/writing_a_block.md).
#include <gtest/gtest.h>

#include <functional>

#include "support/blocks.h"

namespace ribo {
namespace {

const std::vector<int64_t> kLengths = {5, 17, 1, 12};

// A transformer without norms, with and without the biases that it can have.
struct Kind {
  std::string before;   // blocks
  std::string options;  // of the transformer
};
const std::vector<Kind> kKinds = {
    {"", "position: rotary"},
    {"", "position: none"},
    {"{type: outer_product_mean, hidden: 4}, ", "position: rotary"},
    {"{type: base_pairing, cache_mib: 0, pair: never}, ", "position: none"},
    {"{type: base_pairing, cache_mib: 0}, {type: outer_product_mean, hidden: 4}, ",
     "position: rotary, bias_from_bpp: always"}};

std::shared_ptr<Model> make(const Kind& kind) {
  const auto model = testing::make_model(
      "streams: {single: 16, pair: 4}\nblocks: [{type: embedding}, " + kind.before +
      "{type: transformer, heads: 2, norm: none, " + kind.options + "}]\n");
  model->eval();
  const at::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    // The feed-forward network adds nothing; logits differ by more than rounding could.
    if (item.key().find("linear2") != std::string::npos) item.value().zero_();
    if (item.key().find("qkv.weight") != std::string::npos) item.value().mul_(4);
    if (item.key().find("_bias.weight") != std::string::npos) item.value().mul_(4);
  }
  return model;
}

// Takes `attention` away behind each block, and remembers `single` in front of the last.
struct Watcher final : ModelNode::Probe {
  explicit Watcher(Streams& s) : streams(s) {
    streams.set("watch.attention", at::ones({}, at::kBool));
  }
  void before(const PlanNode&) override {
    if (streams.has("single")) single = streams.single();
  }
  void after(const PlanNode&) override {
    if (!streams.has("attention")) return;
    attention.push_back(streams.get("attention"));
    streams.erase("attention");
  }
  Streams& streams;
  at::Tensor single;
  std::vector<at::Tensor> attention;
};

struct Watched {
  at::Tensor single;     // in front of the transformer
  at::Tensor attention;  // its weights
  Streams streams;       // behind it
};

Watched watch(Model& model) {
  const at::NoGradGuard no_grad;
  Watched out;
  out.streams = testing::make_batch(kLengths);
  Watcher watcher(out.streams);
  model.set_probe(&watcher);
  model.forward(out.streams);
  model.set_probe(nullptr);
  EXPECT_EQ(watcher.attention.size(), 1u);
  out.single = watcher.single;
  out.attention = watcher.attention.at(0);
  return out;
}

void for_each_kind(const std::function<void(Model&)>& check) {
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(kind.before + kind.options);
    check(*make(kind));
  }
}

TEST(Attention, RowsSumTo1WithinTheMaskAndAre0Outside) {
  for_each_kind([](Model& model) {
    const Watched watched = watch(model);
    const at::Tensor &mask = watched.streams.mask(), &weights = watched.attention;
    ASSERT_EQ(weights.sizes(), (at::IntArrayRef{4, 2, 17, 17}));
    EXPECT_LT((weights.sum(3) - mask.unsqueeze(1).to(at::kFloat)).abs().max().item<double>(), 1e-5);
    EXPECT_GE(weights.min().item<double>(), 0);
    const at::Tensor inside = (mask.unsqueeze(1) & mask.unsqueeze(2)).unsqueeze(1);
    EXPECT_EQ(weights.masked_select(inside.logical_not()).count_nonzero().item<int64_t>(), 0);
  });
}

TEST(Attention, IsWhatTheBlockMixesItsValuesWith) {
  for_each_kind([](Model& model) {
    const at::NoGradGuard no_grad;
    const Watched watched = watch(model);
    const auto weights = model.nodes().back()->named_parameters();
    const at::Tensor v = at::linear(watched.single, weights["qkv.weight"].chunk(3, 0)[2]);
    const at::Tensor mixed = at::matmul(watched.attention, v.view({4, 17, 2, 8}).transpose(1, 2));
    const at::Tensor update = at::linear(mixed.transpose(1, 2).reshape({4, 17, 16}),
                                         weights["out.weight"], weights["out.bias"]);
    const at::Tensor want = zero_padding(watched.single + update, watched.streams.mask());
    EXPECT_LT(testing::relative_error(watched.streams.single(), want), 1e-5);
    // It is far from what attention to all alike would give.
    EXPECT_GT(watched.attention[1].max().item<double>(), 2.0 / 17);
  });
}

TEST(Attention, WatchingChangesNothingElse) {
  for_each_kind([](Model& model) {
    const at::NoGradGuard no_grad;
    Streams plain = testing::make_batch(kLengths);
    model.forward(plain);
    EXPECT_FALSE(plain.has("attention"));
    const Watched watched = watch(model);
    for (const auto& [name, tensor] : plain) {
      EXPECT_TRUE(at::equal(tensor, watched.streams.get(name))) << name;
    }
  });
}

TEST(Attention, IsNotShownWhileTraining) {
  const auto model = make(kKinds[0]);
  model->train();
  Streams streams = testing::make_batch(kLengths);
  streams.set("watch.attention", at::ones({}, at::kBool));
  model->forward(streams);
  EXPECT_FALSE(streams.has("attention"));
}

}  // namespace
}  // namespace ribo
