#include "predict/ensemble.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>
#include <utility>

#include "config/text.h"
#include "ribo/letters.h"

namespace ribo {
namespace {

// Of what the data measured, a sequence alone says nothing.
void check_inputs(const std::vector<PlanNode>& nodes, std::set<std::string>& unknown) {
  for (const PlanNode& node : nodes) {
    check_inputs(node.children, unknown);
    for (const std::string& name : node.out.needed()) {
      if (!unknown.contains(name)) continue;
      throw ConfigError(cat(node.mark.str(), ": ", node.path, " (", node.type,
                            ") reads the stream \"", name,
                            "\" of the data; such a model cannot predict from sequences alone"));
    }
    for (const std::string& name : node.out.produced()) unknown.erase(name);
  }
}

}  // namespace

std::vector<Output> outputs_of(const Shapes& shapes) {
  std::vector<Output> out;
  for (const auto& [name, stream] : shapes.streams()) {
    const Shape& shape = stream.shape;
    if (!name.starts_with("pred.") || shape.size() != 3 || shape[1] != dim::length ||
        shape[2] < 0) {
      continue;
    }
    out.push_back({name, stream.labels});
    const std::string what = name.substr(5);
    for (int64_t i = 0; stream.labels.empty() && i < shape[2]; ++i) {
      out.back().targets.push_back(cat(what, "_", i + 1));
    }
  }
  return out;
}

Streams sequence_batch(const std::vector<std::string>& sequences) {
  std::vector<int64_t> lengths;
  for (const auto& letters : sequences) lengths.push_back(static_cast<int64_t>(letters.size()));
  const int64_t longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  const auto rows = static_cast<int64_t>(sequences.size());
  at::Tensor tokens = at::full({rows, longest}, kPadToken, at::kLong);
  auto* row = tokens.data_ptr<int64_t>();
  for (const std::string& letters : sequences) {
    std::transform(letters.begin(), letters.end(), row, token_of);
    row += longest;
  }
  Streams streams;
  streams.set("tokens", tokens);
  streams.set("mask", at::arange(longest).unsqueeze(0) < at::tensor(lengths).unsqueeze(1));
  return streams;
}

Ensemble::Ensemble(const std::vector<std::filesystem::path>& trained,
                   const EnsembleOptions& options)
    : flip_(options.flip) {
  if (trained.empty()) throw ConfigError("no run or checkpoint to predict with");
  for (const auto& path : trained) add(path, options);
}

bool Ensemble::flips(size_t i) const {
  return models_[i].flips(flip_);
}

void Ensemble::add(const std::filesystem::path& path, const EnsembleOptions& options) {
  const bool is_first = models_.empty();
  // Where a model was trained says nothing about where it is to predict.
  TrainedModelRequest request{path, {cat("train.device=", options.device)}, options.plugin_path};
  if (is_first) request.evaluated = options.evaluated;
  TrainedModel one = load_trained(request);
  std::vector<std::string> targets;
  for (const Output& output : outputs_of(one.session->plan().result)) {
    targets.insert(targets.end(), output.targets.begin(), output.targets.end());
  }
  if (targets.empty()) {
    throw ConfigError(cat(path.string(),
                          ": this model has no stream pred.* with a value for each residue"));
  }
  if (is_first) targets_ = targets;
  if (targets != targets_) {
    throw ConfigError(cat(path.string(), " predicts ", join(targets), ", but ",
                          models_.front().run.string(), " predicts ", join(targets_),
                          "; only models of the same targets have a mean"));
  }
  models_.push_back(std::move(one));
}

void Ensemble::check_needs_sequences_alone() const {
  for (const TrainedModel& one : models_) {
    std::set<std::string> unknown;
    for (const StreamSpec& spec : one.session->specs()) {
      if (spec.name != "tokens" && spec.name != "reversed") unknown.insert(spec.name);
    }
    check_inputs(one.session->plan().nodes, unknown);
  }
}

at::Tensor Ensemble::predict(const Streams& inputs) const {
  at::Tensor sum;
  for (const TrainedModel& one : models_) {
    Streams streams = inputs;
    one.predict(streams, flip_);
    std::vector<at::Tensor> columns;
    for (const Output& output : outputs_of(one.session->plan().result)) {
      columns.push_back(streams.get(output.stream).to(at::kCPU, at::kFloat));
    }
    const at::Tensor values = at::cat(columns, -1);
    sum = sum.defined() ? sum + values : values;
  }
  return models_.size() > 1 ? sum / static_cast<double>(models_.size()) : sum;
}

}  // namespace ribo
