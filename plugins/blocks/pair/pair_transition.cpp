// A feed-forward network on each pair.
#include "pair_transition/pair_transition.h"

#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>

#include "../layers.h"
#include "pair.h"

namespace ribo::pair {
namespace {

struct PairTransition final : Block {
  struct Options {
    int64_t ff_mult = 4;
  };

  static Schema<Options> schema() {
    Schema<Options> s(
        "Layer norm and a two-layer network with ReLU on each pair alone, residual (AlphaFold 2, "
        "algorithm 15).");
    s.param("ff_mult", &Options::ff_mult, "hidden width, in widths of `pair`").range(1, 16);
    return s;
  }

  static void shapes(const Options&, Shapes& s) {
    s.need("mask", 2);
    s.produce("pair", s.need("pair", 4));
  }

  PairTransition(const Options& options, const Shapes& in) {
    const int64_t width = in.width("pair"), hidden = options.ff_mult * width;
    norm_ = register_module("norm", std::make_shared<blocks::Norm>("layer", width));
    linear1_ = register_module("linear1", torch::nn::Linear(width, hidden));
    linear2_ = register_module("linear2", torch::nn::Linear(hidden, width));
  }

  void forward(Streams& s) override {
    s.set("pair",
          kernels::pair_transition(s.get("pair"), norm_->weight(), norm_->bias(), linear1_->weight,
                                   linear1_->bias, linear2_->weight, linear2_->bias, lengths(s)));
  }

 private:
  std::shared_ptr<blocks::Norm> norm_;
  torch::nn::Linear linear1_ = nullptr, linear2_ = nullptr;
};

}  // namespace

void register_pair_transition(Registrar& plugin) {
  plugin.block<PairTransition>("pair_transition");
}

}  // namespace ribo::pair
