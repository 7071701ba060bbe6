// Heads: from a representation of the residues to what was measured at them.
#include <torch/nn/modules/linear.h>

#include <algorithm>

#include "../layers.h"
#include "ribo/plugin.h"

namespace {

struct ReactivityHead final : ribo::Block {
  struct Options {
    std::vector<std::string> targets;
    std::string stream = "reactivity";
    int64_t hidden = 0;
    bool norm = true;
    double dropout = 0;
  };

  static ribo::Schema<Options> schema() {
    ribo::Schema<Options> s(
        "Predicts one value for each residue and target (2A3, DMS, deg_Mg_pH10 ...) from `single`, "
        "as pred.<stream>.");
    s.param("targets", &Options::targets,
            "columns of target.<stream> to predict, in the data's order; empty = all of them");
    s.param("stream", &Options::stream, "what is predicted: the name behind `target.`");
    s.param("hidden", &Options::hidden, "width of a hidden layer with GELU; 0 = none")
        .range(0, 65536);
    s.param("norm", &Options::norm, "layer norm in front");
    s.param("dropout", &Options::dropout, "dropout in front of the last layer").range(0, 1);
    return s;
  }

  static void shapes(const Options& o, ribo::Shapes& s) {
    const ribo::Shape single = s.need("single", 3);
    s.need("mask", 2);
    const Columns columns = columns_of(o, s);
    s.produce("pred." + o.stream, {single[0], single[1], columns.count}, columns.labels);
  }

  ReactivityHead(const Options& options, const ribo::Shapes& in) : options_(options) {
    const int64_t width = in.width("single");
    norm_ = register_module(
        "norm", std::make_shared<ribo::blocks::Norm>(options.norm ? "layer" : "none", width));
    if (options.hidden > 0) {
      hidden_ = register_module("hidden", torch::nn::Linear(width, options.hidden));
    }
    out_ = register_module("out", torch::nn::Linear(options.hidden > 0 ? options.hidden : width,
                                                    columns_of(options, in).count));
  }

  void forward(ribo::Streams& s) override {
    at::Tensor x = norm_->forward(s.single());
    if (hidden_) x = at::gelu(hidden_->forward(x));
    x = out_->forward(at::dropout(x, options_.dropout, is_training()));
    s.set("pred." + options_.stream, ribo::zero_padding(x, s.mask()));
  }

 private:
  struct Columns {
    int64_t count;
    std::vector<std::string> labels;
  };

  static Columns columns_of(const Options& o, const ribo::Shapes& s) {
    const std::string target = "target." + o.stream;
    const int64_t asked = static_cast<int64_t>(o.targets.size());
    if (!s.has(target)) {
      if (asked == 0) {
        throw ribo::ConfigError(ribo::cat("targets: must be given, because the data has no \"",
                                          target, "\" to take them from"));
      }
      return {asked, o.targets};
    }
    const std::vector<std::string>& labels = s.labels(target);
    if (asked == 0) return {s.width(target), labels};
    if (labels.empty()) {
      if (asked != s.width(target)) {
        throw ribo::ConfigError(ribo::cat("targets: ", asked, " are named, but \"", target,
                                          "\" has ", s.width(target), " columns without names"));
      }
      return {asked, o.targets};
    }
    std::string known;
    for (const std::string& label : labels) known += (known.empty() ? "" : ", ") + label;
    auto next = labels.begin();
    for (const std::string& name : o.targets) {
      const auto it = std::find(labels.begin(), labels.end(), name);
      if (it == labels.end()) {
        throw ribo::ConfigError(ribo::cat("targets: \"", target, "\" has no column \"", name, "\"",
                                          ribo::did_you_mean(name, labels), "; it has: ", known));
      }
      if (it < next) {
        throw ribo::ConfigError(ribo::cat("targets: \"", name, "\" is repeated or out of order; \"",
                                          target, "\" has: ", known));
      }
      next = it + 1;
    }
    return {asked, o.targets};
  }

  const Options options_;
  std::shared_ptr<ribo::blocks::Norm> norm_;
  torch::nn::Linear hidden_ = nullptr, out_ = nullptr;
};

}  // namespace

RIBO_PLUGIN(heads, RIBO_VERSION, "Heads that predict measurements") {
  plugin.block<ReactivityHead>("reactivity_head");
}
