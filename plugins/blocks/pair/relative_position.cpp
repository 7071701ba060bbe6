// What a pair's distance along the sequence says.
#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>

#include "../pair_stream.h"
#include "pair.h"

namespace ribo::pair {
namespace {

struct RelativePosition final : Block {
  struct Options {
    int64_t bins = 17;
  };

  static Schema<Options> schema() {
    Schema<Options> s(
        "Adds to each pair (i, j) a learned vector for i - j, clipped on both sides (AlphaFold 2, "
        "algorithm 4). Makes `pair` where there is none.");
    s.param("bins", &Options::bins, "distances told apart, from -(bins - 1) / 2 to (bins - 1) / 2")
        .range(3, 1025)
        .step(2);
    return s;
  }

  static void shapes(const Options&, Shapes& s) {
    s.need("mask", 2);
    s.produce("pair", blocks::added_to_pair(s));
  }

  RelativePosition(const Options& options, const Shapes& in)
      : farthest_(options.bins / 2),
        linear_(register_module("linear", torch::nn::Linear(options.bins, blocks::pair_width(in)))) {}

  void forward(Streams& s) override {
    const at::Tensor& mask = s.mask();
    const at::Tensor position = at::arange(mask.size(1), mask.options().dtype(at::kLong));
    const at::Tensor bin =
        (position.unsqueeze(1) - position).clamp(-farthest_, farthest_) + farthest_;
    // A linear layer over the one-hot bin is a look-up of its columns.
    const at::Tensor vectors = at::embedding(linear_->weight.t() + linear_->bias, bin);
    const at::Tensor pair =
        s.has("pair") ? s.get("pair") + vectors : vectors.expand({mask.size(0), -1, -1, -1});
    s.set("pair", zero_pairs(pair, lengths(s)));
  }

 private:
  const int64_t farthest_;
  torch::nn::Linear linear_;
};

}  // namespace

void register_relative_position(Registrar& plugin) {
  plugin.block<RelativePosition>("relative_position");
}

}  // namespace ribo::pair
