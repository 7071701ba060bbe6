// From the residues to their pairs.
#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>

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
    s.produce("pair", added_to(s));
  }

  OuterProductMean(const Options& options, const Shapes& in) : hidden_(options.hidden) {
    proj_down1_ =
        register_module("proj_down1", torch::nn::Linear(in.width("single"), options.hidden));
    proj_down2_ = register_module("proj_down2",
                                  torch::nn::Linear(options.hidden * options.hidden, width_of(in)));
  }

  // proj_down2 of x_i (x) x_j: its weight meets one side first, so that the product, `hidden` times
  // as large as the result, never exists.
  void forward(Streams& s) override {
    const at::Tensor x = proj_down1_->forward(zero_padding(s.single(), s.mask()));
    const int64_t batch = x.size(0), length = x.size(1), width = proj_down2_->bias.size(0);
    // weight [Z, (c d)] -> [d, (c Z)], where c belongs to j and d to i
    const at::Tensor weight = proj_down2_->weight.view({width, hidden_, hidden_})
                                  .permute({2, 1, 0})
                                  .reshape({hidden_, hidden_ * width});
    const at::Tensor of_i = x.matmul(weight).view({batch, length, hidden_, width});
    add(s, x.unsqueeze(1).matmul(of_i) + proj_down2_->bias);
  }

 private:
  const int64_t hidden_;
  torch::nn::Linear proj_down1_ = nullptr, proj_down2_ = nullptr;
};

}  // namespace

void register_outer_product_mean(Registrar& plugin) {
  plugin.block<OuterProductMean>("outer_product_mean");
}

}  // namespace ribo::pair
