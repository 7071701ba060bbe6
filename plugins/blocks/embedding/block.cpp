// Tokens to vectors: the first block of a model.
#include <torch/nn/modules/embedding.h>

#include "ribo/plugin.h"

namespace {

struct Embedding final : ribo::Block {
  struct Options {
    double dropout = 0;
  };

  static ribo::Schema<Options> schema() {
    ribo::Schema<Options> s(
        "A learned vector for each of A, C, G, U and N. Makes `single`, as wide as model.streams "
        "says.");
    s.param("dropout", &Options::dropout, "dropout on the vectors").range(0, 1);
    return s;
  }

  static void shapes(const Options&, ribo::Shapes& s) {
    s.need("tokens", 2);
    s.need("mask", 2);
    s.produce("single", {ribo::dim::batch, ribo::dim::length, s.declared("single")});
  }

  Embedding(const Options& options, const ribo::Shapes& in)
      : options_(options),
        // Drawn from N(0, 1), torch's default: there are five rows, and norms follow.
        embedding_(register_module("embedding",
                                   torch::nn::Embedding(ribo::kTokens, in.declared("single")))) {}

  void forward(ribo::Streams& s) override {
    const at::Tensor tokens =
        s.tokens().masked_fill(s.mask().logical_not(), ribo::kPadToken);  // whatever stood there
    const at::Tensor x = at::dropout(embedding_->forward(tokens), options_.dropout, is_training());
    s.set("single", ribo::zero_padding(x, s.mask()));
  }

 private:
  const Options options_;
  torch::nn::Embedding embedding_;
};

}  // namespace

RIBO_PLUGIN(embedding, RIBO_VERSION, "Token embeddings") { plugin.block<Embedding>("embedding"); }
