// Pairs learn from the two other sides of each triangle that they are in.
#include "triangle_multiply/triangle_multiply.h"

#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>

#include "../layers.h"
#include "pair.h"

namespace ribo::pair {
namespace {

struct TriangleMultiply final : Block {
  struct Options {
    std::string direction = "outgoing";
    std::optional<int64_t> hidden;
    double dropout = 0.05;
    std::string dropout_wise = "row";
  };

  static Schema<Options> schema() {
    Schema<Options> s(
        "Triangle multiplicative update, residual: (i, j) learns from (i, k) and (j, k) for every "
        "k (outgoing), or from (k, j) and (k, i) (ingoing). AlphaFold 2, algorithms 11 and 12.");
    s.param("direction", &Options::direction, "of the edges that are multiplied")
        .choices({"outgoing", "ingoing"});
    s.param("hidden", &Options::hidden, "channels that are multiplied; auto = as wide as `pair`")
        .range(2, 1024);  // a norm over one channel is constant
    s.param("dropout", &Options::dropout, "dropout on the update").range(0, 1);
    s.param("dropout_wise", &Options::dropout_wise,
            "row: one draw for all rows of `pair`; column: for all columns")
        .choices({"row", "column"});
    return s;
  }

  static void shapes(const Options&, Shapes& s) {
    s.need("mask", 2);
    s.produce("pair", s.need("pair", 4));
  }

  TriangleMultiply(const Options& options, const Shapes& in) : options_(options) {
    const int64_t width = in.width("pair"), hidden = options.hidden.value_or(width);
    const auto norm = [&](const char* name, int64_t n) {
      return register_module(name, std::make_shared<blocks::Norm>("layer", n));
    };
    const auto linear = [&](const char* name, int64_t from, int64_t to) {
      return register_module(name, torch::nn::Linear(from, to));
    };
    // Open at the start, whatever the pair.
    const auto gate = [&](const char* name) {
      torch::nn::Linear layer = linear(name, width, hidden);
      torch::nn::init::zeros_(layer->weight);
      torch::nn::init::ones_(layer->bias);
      return layer;
    };
    norm_ = norm("norm", width);
    left_proj_ = linear("left_proj", width, hidden);
    right_proj_ = linear("right_proj", width, hidden);
    left_gate_ = gate("left_gate");
    right_gate_ = gate("right_gate");
    out_gate_ = gate("out_gate");
    to_out_norm_ = norm("to_out_norm", hidden);
    to_out_ = linear("to_out", hidden, width);
  }

  void forward(Streams& s) override {
    const kernels::TriangleWeights weights = {
        norm_->weight(),        norm_->bias(),        left_proj_->weight,  left_proj_->bias,
        left_gate_->weight,     left_gate_->bias,     right_proj_->weight, right_proj_->bias,
        right_gate_->weight,    right_gate_->bias,    out_gate_->weight,   out_gate_->bias,
        to_out_norm_->weight(), to_out_norm_->bias(), to_out_->weight,     to_out_->bias};
    const at::Tensor& pair = s.get("pair");
    s.set("pair", kernels::add_triangle_multiply(
                      pair, weights, lengths(s), options_.direction == "outgoing",
                      kept(pair, options_.dropout, is_training(), options_.dropout_wise)));
  }

 private:
  const Options options_;
  std::shared_ptr<blocks::Norm> norm_, to_out_norm_;
  torch::nn::Linear left_proj_ = nullptr, right_proj_ = nullptr;
  torch::nn::Linear left_gate_ = nullptr, right_gate_ = nullptr, out_gate_ = nullptr;
  torch::nn::Linear to_out_ = nullptr;
};

}  // namespace

void register_triangle_multiply(Registrar& plugin) {
  plugin.block<TriangleMultiply>("triangle_multiply");
}

}  // namespace ribo::pair
