// Pairs that share a residue attend to each other.
#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>

#include "../layers.h"
#include "attention/attention.h"
#include "layer_norm/layer_norm.h"
#include "pair.h"

namespace ribo::pair {
namespace {

struct TriangleAttention final : Block {
  struct Options {
    std::string wise = "row";
    int64_t heads = 4;
    double dropout = 0.05;
  };

  static Schema<Options> schema() {
    Schema<Options> s(
        "Triangle attention, gated, residual: pairs (i, j) of one i (row) or one j (column) attend "
        "to each other, biased by the pair that closes the triangle. AlphaFold 2, algorithms 13 "
        "and 14.");
    s.param("wise", &Options::wise, "which pairs attend to each other").choices({"row", "column"});
    s.param("heads", &Options::heads, "attention heads; must divide the width of `pair`")
        .range(1, 256);
    s.param("dropout", &Options::dropout, "dropout on the update, shared by all rows or columns")
        .range(0, 1);
    return s;
  }

  static void shapes(const Options& o, Shapes& s) {
    s.need("mask", 2);
    const Shape pair = s.need("pair", 4);
    if (pair.back() % o.heads != 0) {
      throw ConfigError(
          cat("heads: ", o.heads, " does not divide the width of \"pair\", ", pair.back()));
    }
    s.produce("pair", pair);
  }

  TriangleAttention(const Options& options, const Shapes& in) : options_(options) {
    const int64_t width = in.width("pair");
    const auto linear = [&](const char* name, int64_t to, bool bias) {
      return register_module(name,
                             torch::nn::Linear(torch::nn::LinearOptions(width, to).bias(bias)));
    };
    norm_ = register_module("norm", std::make_shared<blocks::Norm>("layer", width));
    to_qkv_ = linear("to_qkv", 3 * width, false);
    linear_for_pair_ = linear("linear_for_pair", options.heads, false);
    to_gate_ = linear("to_gate", width, true);
    to_out_ = linear("to_out", width, true);
  }

  void forward(Streams& s) override {
    const at::Tensor &pair = s.get("pair"), lengths = pair::lengths(s);
    const at::Tensor &gain = norm_->weight(), &shift = norm_->bias();
    const at::Tensor x = kernels::layer_norm(pair.to(gain.scalar_type()), gain, shift);
    const int64_t batch = x.size(0), length = x.size(1), width = x.size(3);
    const auto qkv = to_qkv_->forward(x)
                         .view({batch, length, length, 3, options_.heads, width / options_.heads})
                         .unbind(3);
    const at::Tensor y = kernels::triangle_attention(
        qkv[0], qkv[1], qkv[2], linear_for_pair_->forward(x), lengths, options_.wise == "column");
    const at::Tensor update = to_out_->forward(y.flatten(3) * to_gate_->forward(x).sigmoid());
    s.set("pair", add_dropped(pair, zero_pairs(update, lengths), options_.dropout, is_training(),
                              options_.wise));
  }

 private:
  const Options options_;
  std::shared_ptr<blocks::Norm> norm_;
  torch::nn::Linear to_qkv_ = nullptr, linear_for_pair_ = nullptr;
  torch::nn::Linear to_gate_ = nullptr, to_out_ = nullptr;
};

}  // namespace

void register_triangle_attention(Registrar& plugin) {
  plugin.block<TriangleAttention>("triangle_attention");
}

}  // namespace ribo::pair
