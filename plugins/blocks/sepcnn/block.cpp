// A depthwise-separable convolution along the sequence, with several filter widths side by side.
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include "../layers.h"
#include "conv1d/conv1d.h"
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
      : options_(options), activation_(ribo::blocks::activation(options.activation)) {
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
    std::vector<at::Tensor> filters;
    for (const auto& module : *depthwise_) {
      filters.push_back(module->as<torch::nn::Conv1d>()->weight.squeeze(1));
    }
    at::Tensor y = ribo::kernels::depthwise_conv1d(norm_->forward(x), filters, {}, mask.sum(1),
                                                   options_.causal);
    y = project_->forward(activation_(expand_->forward(y)));
    y = x + at::dropout(y, options_.dropout, is_training());
    s.set("single", ribo::zero_padding(y, mask));
  }

 private:
  const Options options_;
  const ribo::blocks::Activation activation_;
  std::shared_ptr<ribo::blocks::Norm> norm_;
  torch::nn::ModuleList depthwise_ = nullptr;
  torch::nn::Linear expand_ = nullptr, project_ = nullptr;
};

}  // namespace

RIBO_PLUGIN(sepcnn, RIBO_VERSION, "Depthwise-separable convolution along the sequence") {
  plugin.block<SepCnn>("sepcnn");
}
