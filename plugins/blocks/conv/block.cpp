// A dense convolution along the sequence.
#include <torch/nn/modules/conv.h>

#include "../layers.h"
#include "ribo/plugin.h"

namespace {

struct Conv final : ribo::Block {
  struct Options {
    int64_t kernel = 5;
    int64_t dilation = 1;
    std::string norm = "layer";
    std::string norm_position = "pre";
    std::string activation = "gelu";
    double dropout = 0.1;
  };

  static ribo::Schema<Options> schema() {
    ribo::Schema<Options> s(
        "Convolution along the sequence, every channel with every other, centred, residual.");
    s.param("kernel", &Options::kernel, "filter width, in residues").range(1, 63).step(2);
    s.param("dilation", &Options::dilation, "residues between two taps of the filter").range(1, 64);
    s.param("norm", &Options::norm, "normalisation over the channels")
        .choices(ribo::blocks::norm_names());
    s.param("norm_position", &Options::norm_position,
            "pre: norm before the convolution; post: norm of the residual sum")
        .choices({"pre", "post"});
    s.param("activation", &Options::activation, "what follows the convolution")
        .choices(ribo::blocks::activation_names());
    s.param("dropout", &Options::dropout, "dropout on the residual branch").range(0, 1);
    return s;
  }

  static void shapes(const Options&, ribo::Shapes& s) {
    s.need("mask", 2);
    s.produce("single", s.need("single", 3));
  }

  Conv(const Options& options, const ribo::Shapes& in)
      : options_(options),
        pre_(options.norm_position == "pre"),
        activation_(ribo::blocks::activation(options.activation)) {
    const int64_t width = in.width("single");
    norm_ = register_module("norm", std::make_shared<ribo::blocks::Norm>(options.norm, width));
    conv_ = register_module(
        "conv", torch::nn::Conv1d(torch::nn::Conv1dOptions(width, width, options.kernel)
                                      .dilation(options.dilation)
                                      .padding(options.dilation * (options.kernel - 1) / 2)));
  }

  void forward(ribo::Streams& s) override {
    const at::Tensor &x = s.single(), &mask = s.mask();
    at::Tensor y = ribo::zero_padding(pre_ ? norm_->forward(x) : x, mask);
    y = activation_(conv_->forward(y.transpose(1, 2))).transpose(1, 2);
    y = x + at::dropout(y, options_.dropout, is_training());
    s.set("single", ribo::zero_padding(pre_ ? y : norm_->forward(y), mask));
  }

 private:
  const Options options_;
  const bool pre_;
  const ribo::blocks::Activation activation_;
  std::shared_ptr<ribo::blocks::Norm> norm_;
  torch::nn::Conv1d conv_ = nullptr;
};

}  // namespace

RIBO_PLUGIN(conv, RIBO_VERSION, "Dense convolution along the sequence") {
  plugin.block<Conv>("conv");
}
