#include "predict/watch.h"

#include <ATen/ATen.h>

namespace ribo {
namespace {

// Takes the attention out of the streams behind each block that leaves one there, and keeps that of
// the layer asked for: those of all layers together may not fit into memory.
class AttentionProbe final : public ModelNode::Probe {
 public:
  AttentionProbe(Model& model, Streams& streams, std::optional<int64_t> layer)
      : model_(model), streams_(streams), layer_(layer) {
    streams_.set("watch.attention", at::ones({}, at::kBool));
    model_.set_probe(this);
  }
  ~AttentionProbe() override { model_.set_probe(nullptr); }

  void before(const PlanNode&) override {}
  void after(const PlanNode&) override {
    if (!streams_.has("attention")) return;
    ++layers_;
    if (layers_ == layer_.value_or(layers_)) attention_ = streams_.get("attention");
    streams_.erase("attention");
  }

  const at::Tensor& attention() const { return attention_; }
  int64_t layers() const { return layers_; }

 private:
  Model& model_;
  Streams& streams_;
  const std::optional<int64_t> layer_;
  at::Tensor attention_;
  int64_t layers_ = 0;
};

at::Tensor on_cpu(const at::Tensor& x) { return x[0].to(at::kCPU, at::kFloat).contiguous(); }

}  // namespace

Watched watch(const TrainedModel& trained, const Streams& inputs, std::optional<int64_t> layer) {
  const at::NoGradGuard no_grad;
  Streams streams = inputs;
  const AttentionProbe probe(*trained.model, streams, layer);
  trained.predict(streams, /*flip=*/false);
  Watched out;
  out.layers = probe.layers();
  out.layer = layer.value_or(out.layers);
  if (layer && (*layer < 1 || *layer > out.layers)) {
    throw ConfigError(cat("layer ", *layer, ": ",
                          out.layers == 0
                              ? std::string("no block of this model shows its attention")
                              : cat("the layers that show their attention are 1 to ", out.layers)));
  }
  if (probe.attention().defined()) out.attention = on_cpu(probe.attention());
  if (streams.has("bpp")) out.pairing = on_cpu(streams.get("bpp"));
  if (streams.has("pair")) {
    const at::Tensor& pair = streams.get("pair");
    out.pair_strength = on_cpu(at::linalg_vector_norm(pair.to(at::kFloat), 2, {-1}));
    out.pair_width = pair.size(-1);
  }
  return out;
}

}  // namespace ribo
