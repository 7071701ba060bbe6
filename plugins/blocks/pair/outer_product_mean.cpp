// From the residues to their pairs.
#include "outer_product_mean/outer_product_mean.h"

#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>

#include "../pair_stream.h"
#include "pair.h"

namespace ribo::pair {
namespace {

struct OuterProductMean final : Block {
  struct Options {
    int64_t hidden = 32;
  };

  static Schema<Options> schema() {
    Schema<Options> s(
        "Adds to each pair a projection of the outer product of its two residues (AlphaFold 2, "
        "algorithm 10, for a single sequence). Makes `pair` where there is none.");
    s.param("hidden", &Options::hidden, "channels of a residue that enter the product")
        .range(1, 256);
    return s;
  }

  static void shapes(const Options&, Shapes& s) {
    s.need("mask", 2);
    s.need("single", 3);
    s.produce("pair", blocks::added_to_pair(s));
  }

  OuterProductMean(const Options& options, const Shapes& in) {
    proj_down1_ =
        register_module("proj_down1", torch::nn::Linear(in.width("single"), options.hidden));
    proj_down2_ = register_module("proj_down2",
                                  torch::nn::Linear(options.hidden * options.hidden, blocks::pair_width(in)));
  }

  void forward(Streams& s) override {
    const at::Tensor x = proj_down1_->forward(s.single());
    const at::Tensor pair = s.has("pair") ? s.get("pair") : at::Tensor();
    s.set("pair", kernels::outer_product_mean(x, x, proj_down2_->weight, proj_down2_->bias, pair,
                                              lengths(s)));
  }

 private:
  torch::nn::Linear proj_down1_ = nullptr, proj_down2_ = nullptr;
};

}  // namespace

void register_outer_product_mean(Registrar& plugin) {
  plugin.block<OuterProductMean>("outer_product_mean");
}

}  // namespace ribo::pair
