// A depthwise-separable convolution along the sequence, with several filter widths side by side.
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>

#include "../layers.h"
#include "ribo/plugin.h"

namespace {

struct SepCnn final : ribo::Block {
  struct Options {
    std::vector<int64_t> kernels = {3, 5, 7};
    bool causal = false;
    int64_t expand = 2;
    std::string norm = "layer";
    std::string activation = "gelu";
    double dropout = 0.1;
  };

  static ribo::Schema<Options> schema() {
    ribo::Schema<Options> s(
        "Depthwise-separable convolution along the sequence: filters of several widths over each "
        "channel, summed, then a two-layer pointwise network; pre-norm, residual.");
    s.param("kernels", &Options::kernels, "filter widths, in residues")
        .range(1, 63)
        .step(2)
        .size(1, 8);
    s.param("causal", &Options::causal, "see only the residues before (5' of) each one");
    s.param("expand", &Options::expand, "width of the pointwise network's hidden layer, in widths")
        .range(1, 8);
    s.param("norm", &Options::norm, "normalisation over the channels")
        .choices(ribo::blocks::norm_names());
    s.param("activation", &Options::activation, "between the two pointwise layers")
        .choices(ribo::blocks::activation_names());
    s.param("dropout", &Options::dropout, "dropout on the residual branch").range(0, 1);
    return s;
  }

  static void shapes(const Options&, ribo::Shapes& s) {
    s.need("mask", 2);
    s.produce("single", s.need("single", 3));
  }

  SepCnn(const Options& options, const ribo::Shapes& in)
      : options_(options),
        widest_(*std::max_element(options.kernels.begin(), options.kernels.end())),
        activation_(ribo::blocks::activation(options.activation)) {
    const int64_t width = in.width("single"), hidden = options.expand * width;
    norm_ = register_module("norm", std::make_shared<ribo::blocks::Norm>(options.norm, width));
    depthwise_ = register_module("depthwise", torch::nn::ModuleList());
    for (int64_t kernel : options.kernels) {
      depthwise_->push_back(torch::nn::Conv1d(
          torch::nn::Conv1dOptions(width, width, kernel).groups(width).bias(false)));
    }
    expand_ = register_module("expand", torch::nn::Linear(width, hidden));
    project_ = register_module("project", torch::nn::Linear(hidden, width));
  }

  void forward(ribo::Streams& s) override {
    const at::Tensor &x = s.single(), &mask = s.mask();
    at::Tensor y = ribo::zero_padding(norm_->forward(x), mask);
    y = depthwise(y.transpose(1, 2)).transpose(1, 2);
    y = project_->forward(activation_(expand_->forward(y)));
    y = x + at::dropout(y, options_.dropout, is_training());
    s.set("single", ribo::zero_padding(y, mask));
  }

 private:
  // x [B, C, L]. The sum of the widths' outputs is the output of the widest filter with the others
  // added into it: one convolution instead of several.
  at::Tensor depthwise(const at::Tensor& x) const {
    at::Tensor weight;
    for (const auto& module : *depthwise_) {
      const at::Tensor& own = module->as<torch::nn::Conv1d>()->weight;
      const int64_t missing = widest_ - own.size(2);
      const int64_t right = options_.causal ? 0 : missing / 2;
      const at::Tensor padded = at::constant_pad_nd(own, {missing - right, right});
      weight = weight.defined() ? weight + padded : padded;
    }
    const int64_t padding = options_.causal ? widest_ - 1 : widest_ / 2;
    return at::conv1d(x, weight, {}, 1, padding, 1, x.size(1)).narrow(2, 0, x.size(2));
  }

  const Options options_;
  const int64_t widest_;
  const ribo::blocks::Activation activation_;
  std::shared_ptr<ribo::blocks::Norm> norm_;
  torch::nn::ModuleList depthwise_ = nullptr;
  torch::nn::Linear expand_ = nullptr, project_ = nullptr;
};

}  // namespace

RIBO_PLUGIN(sepcnn, RIBO_VERSION, "Depthwise-separable convolution along the sequence") {
  plugin.block<SepCnn>("sepcnn");
}
