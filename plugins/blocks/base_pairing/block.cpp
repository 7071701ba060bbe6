// Which bases pair, by the thermodynamics of RNA folding.
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <stdexcept>

#include "../layers.h"
#include "../pair_stream.h"
#include "../pairing_features.h"
#include "pairings.h"
#include "ribo/files.h"
#include "ribo/plugin.h"

namespace {

using ribo::blocks::kPairingFeatures;
using ribo::blocks::kPairingScale;
using ribo::blocks::without_bias;

struct BasePairing final : ribo::Block {
  struct Options {
    bool single = true;
    std::string pair = "auto";
    int64_t cache_mib = 1024;
  };

  static ribo::Schema<Options> schema() {
    ribo::Schema<Options> s(
        "Probabilities of all base pairs by McCaskill's partition function (Turner 2004, 37 "
        "degrees). Makes `bpp`; projections of it are added to `single` and to `pair`.");
    s.param("single", &Options::single,
            "add to `single` a projection of each base's probability of pairing with a later and "
            "with an earlier one");
    s.param("pair", &Options::pair,
            "add a projection of each pair's probability to `pair`, making it where there is none; "
            "auto = if there is a `pair` or model.streams gives it a width")
        .choices({"auto", "always", "never"});
    s.param(
         "cache_mib", &Options::cache_mib,
         "memory for the pairs of sequences seen before, and a file of them in the cache folder; "
         "what no longer fits is folded each time it comes; 0 = neither")
        .range(0, 1 << 20);
    return s;
  }

  static void shapes(const Options& o, ribo::Shapes& s) {
    using namespace ribo::dim;
    s.need("tokens", 2);
    s.need("mask", 2);
    if (s.has("reversed")) s.need("reversed", 1);
    if (o.single) s.produce("single", s.need("single", 3));
    if (feeds_pair(o, s)) s.produce("pair", ribo::blocks::added_to_pair(s));
    s.produce("bpp", {batch, length, length});
  }

  BasePairing(const Options& options, const ribo::Shapes& in)
      : pairings_(static_cast<size_t>(options.cache_mib) << 20,
                  ribo::cache_folder() / "base_pairing.bin") {
    if (options.single) {
      to_single_ = register_module("to_single", without_bias(2, in.width("single")));
    }
    if (feeds_pair(options, in)) {
      to_pair_ = register_module("to_pair",
                                 without_bias(kPairingFeatures, ribo::blocks::pair_width(in)));
    }
  }

  // Nothing has a bias, so that what pairs with nothing, padding among it, gets nothing.
  void forward(ribo::Streams& s) override {
    const at::Tensor bpp = probabilities(s).to(s.mask().device());
    if (to_single_) {
      const at::Tensor later = bpp.triu().sum(2), earlier = bpp.tril().sum(2);
      const at::Tensor update =
          to_single_->forward(as_input(at::stack({later, earlier}, 2) * kPairingScale, to_single_));
      s.set("single", s.single() + update);
    }
    if (to_pair_) {
      const at::Tensor features = ribo::blocks::pairing_features(bpp).permute({0, 2, 3, 1});
      const at::Tensor update = to_pair_->forward(as_input(features, to_pair_));
      s.set("pair", s.has("pair") ? s.get("pair") + update : update);
    }
    s.set("bpp", bpp);
  }

 private:
  static bool feeds_pair(const Options& o, const ribo::Shapes& s) {
    return o.pair == "always" || (o.pair == "auto" && (s.has("pair") || s.declares("pair")));
  }

  static at::Tensor as_input(const at::Tensor& x, const torch::nn::Linear& layer) {
    return x.to(layer->weight.scalar_type());
  }

  // [B, L, L] on the CPU.
  at::Tensor probabilities(const ribo::Streams& s) {
    const at::Tensor tokens = s.tokens().cpu().contiguous();
    const at::Tensor lengths = s.mask().sum(1).cpu();
    const at::Tensor reversed =
        s.has("reversed") ? s.get("reversed").cpu() : at::zeros_like(lengths, at::kBool);
    const int64_t rows = tokens.size(0), longest = tokens.size(1);
    std::vector<std::string> sequences;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t* token = tokens.const_data_ptr<int64_t>() + row * longest;
      std::string& sequence = sequences.emplace_back();
      for (int64_t i = 0; i < lengths[row].item<int64_t>(); ++i) {
        sequence += token[i] >= 0 && token[i] < 4 ? "ACGU"[token[i]] : 'N';
      }
      if (reversed[row].item<bool>()) std::reverse(sequence.begin(), sequence.end());
    }
    const auto all = fold(sequences);
    const at::Tensor bpp = at::zeros({rows, longest, longest});
    for (int64_t row = 0; row < rows; ++row) {
      const auto last = static_cast<int64_t>(sequences[static_cast<size_t>(row)].size()) - 1;
      const bool turned = reversed[row].item<bool>();
      float* const p = bpp.data_ptr<float>() + row * longest * longest;
      for (const ribo::pairing::Pair& pair : *all[static_cast<size_t>(row)]) {
        const int64_t i = turned ? last - pair.i : pair.i, j = turned ? last - pair.j : pair.j;
        p[i * longest + j] = p[j * longest + i] = pair.probability;
      }
    }
    return bpp;
  }

  std::vector<ribo::pairing::Pairs> fold(const std::vector<std::string>& sequences) {
    try {
      return pairings_.of(sequences);
    } catch (const std::overflow_error& e) {
      throw ribo::Error(ribo::cat("base_pairing: ", e.what()));
    }
  }

  ribo::pairing::Pairings pairings_;  // remembers, and changes no result
  torch::nn::Linear to_single_ = nullptr, to_pair_ = nullptr;
};

}  // namespace

RIBO_PLUGIN(base_pairing, RIBO_VERSION, "Base pairing probabilities") {
  plugin.block<BasePairing>("base_pairing");
}
