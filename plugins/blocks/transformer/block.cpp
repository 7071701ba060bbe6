// A transformer encoder layer, optionally biased by a pair representation.
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <limits>

#include "../layers.h"
#include "../pairing_features.h"
#include "attention/attention.h"
#include "bpp_bias.h"
#include "pair_bias/pair_bias.h"
#include "ribo/plugin.h"

namespace {

// Rotary position embedding (arXiv:2104.09864) of x [B, heads, L, d], d even: channel pairs
// (i, i + d/2) turn by an angle proportional to the position, so that products of queries and keys
// depend on distances alone.
at::Tensor rotate(const at::Tensor& x, double base) {
  const int64_t half = x.size(3) / 2;
  const auto options = x.options().dtype(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const at::Tensor frequency =
      at::pow(base, at::arange(half, options) / -static_cast<double>(half));
  const at::Tensor angle = at::arange(x.size(2), options).unsqueeze(1) * frequency;
  const at::Tensor cos = angle.cos(), sin = angle.sin();
  const auto parts = x.chunk(2, -1);
  return at::cat({parts[0] * cos - parts[1] * sin, parts[0] * sin + parts[1] * cos}, -1)
      .to(x.scalar_type());
}

// What attention weighs the values with, [B, heads, L, L], by its definition: softmax over the keys
// of q k^T / sqrt(d) + bias, within the mask; 0 outside. `bias` may be undefined.
at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k, const at::Tensor& bias,
                             const at::Tensor& mask) {
  at::Tensor logits =
      at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  if (logits.scalar_type() != at::kDouble) logits = logits.to(at::kFloat);
  if (bias.defined()) logits = logits + bias;
  const at::Tensor keys = mask.unsqueeze(1).unsqueeze(2), queries = mask.unsqueeze(1).unsqueeze(3);
  const double lowest = std::numeric_limits<float>::lowest();
  const at::Tensor weights = logits.masked_fill(keys.logical_not(), lowest).softmax(-1);
  return weights.masked_fill((keys & queries).logical_not(), 0);
}

struct Transformer final : ribo::Block {
  struct Options {
    int64_t heads = 8;
    int64_t ff_mult = 4;
    std::string norm = "layer";
    std::string norm_position = "pre";
    std::string activation = "gelu";
    std::string position = "rotary";
    double rotary_base = 10000;
    std::string bias_from_pair = "auto";
    std::string bias_from_bpp = "auto";
    bool pair_norm_bias = false;
    bool out_bias = true;
    double dropout = 0.1;
    double attention_dropout = 0;
  };

  static ribo::Schema<Options> schema() {
    ribo::Schema<Options> s(
        "Transformer encoder layer: self-attention over the residues, then a feed-forward network, "
        "each residual. Reads `pair` or `bpp`, where there is one, as a bias of the attention.");
    s.param("heads", &Options::heads, "attention heads; must divide the width").range(1, 256);
    s.param("ff_mult", &Options::ff_mult, "feed-forward width, in widths").range(1, 16);
    s.param("norm", &Options::norm, "normalisation over the channels")
        .choices(ribo::blocks::norm_names());
    s.param(
         "norm_position", &Options::norm_position,
         "pre: norm in front of each half; post: norm of each residual sum; post_twice: as post, "
         "and attention has a residual sum and norm of its own before that (RibonanzaNet)")
        .choices({"pre", "post", "post_twice"});
    s.param("activation", &Options::activation, "in the feed-forward network")
        .choices(ribo::blocks::activation_names());
    s.param("position", &Options::position,
            "how attention knows distances: rotary embedding, or not at all")
        .choices({"rotary", "none"});
    s.param("rotary_base", &Options::rotary_base, "wavelengths reach up to 2 pi times this")
        .range(2, 1e7);
    s.param("bias_from_pair", &Options::bias_from_pair,
            "add a projection of `pair` to the attention's logits; auto = if there is a `pair`")
        .choices({"auto", "always", "never"});
    s.param("bias_from_bpp", &Options::bias_from_bpp,
            "add a projection of the pairing probabilities `bpp` to the logits; auto = if there is "
            "a `bpp` and no bias from `pair`, which has learned of it")
        .choices({"auto", "always", "never"});
    s.param("pair_norm_bias", &Options::pair_norm_bias,
            "the norm of `pair` has a bias; it cancels in the softmax, but some weights have it");
    s.param("out_bias", &Options::out_bias, "the projection of attention's result has a bias");
    s.param("dropout", &Options::dropout,
            "dropout on both residual branches and in the "
            "feed-forward network")
        .range(0, 1);
    s.param("attention_dropout", &Options::attention_dropout, "dropout on the attention weights")
        .range(0, 1);
    return s;
  }

  static void shapes(const Options& o, ribo::Shapes& s) {
    s.need("mask", 2);
    const ribo::Shape single = s.need("single", 3);
    const int64_t width = single.back();
    if (width % o.heads != 0) {
      throw ribo::ConfigError(ribo::cat("heads: ", o.heads,
                                        " does not divide the width of "
                                        "\"single\", ",
                                        width));
    }
    if (o.position == "rotary" && width / o.heads % 2 != 0) {
      throw ribo::ConfigError(ribo::cat("position: rotary needs an even width per head; ", width,
                                        " over ", o.heads, " heads is ", width / o.heads));
    }
    if (uses_pair(o, s)) s.need("pair", 4);
    if (uses_bpp(o, s)) s.need("bpp", 3);
    s.produce("single", single);
  }

  Transformer(const Options& options, const ribo::Shapes& in)
      : options_(options),
        pre_(options.norm_position == "pre"),
        activation_(ribo::blocks::activation(options.activation)) {
    const int64_t width = in.width("single"), hidden = options.ff_mult * width;
    const auto norm = [&](const char* name, double eps = 1e-5) {
      return register_module(name, std::make_shared<ribo::blocks::Norm>(options.norm, width, eps));
    };
    norm1_ = norm("norm1");
    // Without a bias: the keys' would cancel in the softmax and never learn.
    qkv_ = register_module("qkv", ribo::blocks::without_bias(width, 3 * width));
    if (uses_pair(options, in)) {
      // Biases would shift all logits of a head alike.
      const int64_t pair = in.width("pair");
      pair_norm_ = register_module("pair_norm", std::make_shared<ribo::blocks::Norm>(
                                                    "layer", pair, 1e-5, options.pair_norm_bias));
      pair_bias_ =
          register_module("pair_bias", ribo::blocks::without_bias(pair, options.heads));
    }
    if (uses_bpp(options, in)) {
      bpp_bias_ = register_module(
          "bpp_bias",
          ribo::blocks::without_bias(ribo::blocks::kPairingFeatures, options.heads));
    }
    out_ = register_module(
        "out", torch::nn::Linear(torch::nn::LinearOptions(width, width).bias(options.out_bias)));
    if (options.norm_position == "post_twice") attention_norm_ = norm("attention_norm", 1e-6);
    norm2_ = norm("norm2");
    linear1_ = register_module("linear1", torch::nn::Linear(width, hidden));
    linear2_ = register_module("linear2", torch::nn::Linear(hidden, width));
  }

  void forward(ribo::Streams& s) override {
    at::Tensor x = s.single();
    if (pre_) {
      x = x + drop(attend(norm1_->forward(x), s));
      x = x + drop(feed_forward(norm2_->forward(x)));
    } else {
      at::Tensor y = drop(attend(x, s));
      if (attention_norm_) y = drop(attention_norm_->forward(x + y));
      x = norm1_->forward(x + y);
      x = norm2_->forward(x + drop(feed_forward(x)));
    }
    s.set("single", ribo::zero_padding(x, s.mask()));
  }

 private:
  static bool uses_pair(const Options& o, const ribo::Shapes& s) {
    return o.bias_from_pair == "always" || (o.bias_from_pair == "auto" && s.has("pair"));
  }

  static bool uses_bpp(const Options& o, const ribo::Shapes& s) {
    return o.bias_from_bpp == "always" ||
           (o.bias_from_bpp == "auto" && s.has("bpp") && !uses_pair(o, s));
  }

  at::Tensor drop(const at::Tensor& x) const {
    return at::dropout(x, options_.dropout, is_training());
  }

  at::Tensor feed_forward(const at::Tensor& x) {
    return linear2_->forward(drop(activation_(linear1_->forward(x))));
  }

  at::Tensor attend(const at::Tensor& x, ribo::Streams& s) {
    const at::Tensor& mask = s.mask();
    const int64_t batch = x.size(0), length = x.size(1), width = x.size(2);
    // Zero padding here gives zero keys and values there: a masked value must still be finite.
    const at::Tensor qkv = qkv_->forward(ribo::zero_padding(x, mask))
                               .view({batch, length, 3, options_.heads, width / options_.heads});
    const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind(0);
    at::Tensor q = parts[0], k = parts[1];
    if (options_.position == "rotary") {
      q = rotate(q, options_.rotary_base);
      k = rotate(k, options_.rotary_base);
    }
    const double dropout = is_training() ? options_.attention_dropout : 0;
    const at::Tensor bias = attention_bias(s);
    if (s.has("watch.attention") && !is_training()) {
      s.set("attention", attention_weights(q, k, bias, mask));
    }
    const at::Tensor y =
        bias.defined()
            ? ribo::kernels::pair_bias_attention(q, k, parts[2], bias, mask.sum(1), dropout)
            : at::scaled_dot_product_attention(q, k, parts[2], mask.unsqueeze(1).unsqueeze(1),
                                               dropout);
    return out_->forward(y.transpose(1, 2).reshape({batch, length, width}));
  }

  // [B, heads, L, L], or undefined.
  at::Tensor attention_bias(const ribo::Streams& s) {
    at::Tensor bias;
    if (pair_bias_) {
      bias = ribo::kernels::pair_bias(s.get("pair"), pair_norm_->weight(), pair_norm_->bias(),
                                      pair_bias_->weight);
    }
    if (bpp_bias_) {
      const at::Tensor more = ribo::blocks::bpp_bias(s.get("bpp"), bpp_bias_->weight);
      bias = bias.defined() ? bias + more : more;
    }
    return bias;
  }

  const Options options_;
  const bool pre_;
  const ribo::blocks::Activation activation_;
  std::shared_ptr<ribo::blocks::Norm> norm1_, norm2_, attention_norm_, pair_norm_;
  torch::nn::Linear qkv_ = nullptr, pair_bias_ = nullptr, bpp_bias_ = nullptr, out_ = nullptr;
  torch::nn::Linear linear1_ = nullptr, linear2_ = nullptr;
};

}  // namespace

RIBO_PLUGIN(transformer, RIBO_VERSION, "Transformer encoder layer") {
  plugin.block<Transformer>("transformer");
}
