#include "ribo/predictor.h"

#include <algorithm>
#include <set>
#include <utility>

#include "config/text.h"
#include "predict/batches.h"
#include "predict/trained_model.h"
#include "ribo/letters.h"

namespace ribo {
namespace {

// Pairs of residues in one batch of a model with a pair track: 256 MiB for each stream of 64
// channels.
constexpr size_t kPairs = size_t{1} << 20;

// A stream pred.<x> [B, L, columns].
struct Output {
  std::string stream;
  std::vector<std::string> targets;
};

std::vector<Output> outputs_of(const Shapes& shapes) {
  std::vector<Output> out;
  for (const auto& [name, stream] : shapes.streams()) {
    const Shape& shape = stream.shape;
    if (!name.starts_with("pred.") || shape.size() != 3 || shape[1] != dim::length || shape[2] < 0) {
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

// Of what the data measured, a sequence alone says nothing.
void check_inputs(const std::vector<PlanNode>& nodes, std::set<std::string>& unknown) {
  for (const PlanNode& node : nodes) {
    check_inputs(node.children, unknown);
    for (const std::string& name : node.out.needed()) {
      if (!unknown.contains(name)) continue;
      throw ConfigError(cat(node.mark.str(), ": ", node.path, " (", node.type, ") reads the stream \"",
                            name, "\" of the data; such a model cannot predict from sequences alone"));
    }
    for (const std::string& name : node.out.produced()) unknown.erase(name);
  }
}

bool has_pairs(const Session& session) {
  const auto& specs = session.specs();
  for (const auto& [name, stream] : session.plan().result.streams()) {
    const bool given = std::any_of(specs.begin(), specs.end(),
                                   [&name = name](const StreamSpec& s) { return s.name == name; });
    if (!given && std::count(stream.shape.begin(), stream.shape.end(), dim::length) > 1) return true;
  }
  return false;
}

Streams batch_of(const std::vector<std::string>& sequences, const std::vector<size_t>& batch) {
  int64_t longest = 0;
  std::vector<int64_t> lengths;
  for (const size_t i : batch) {
    lengths.push_back(static_cast<int64_t>(sequences[i].size()));
    longest = std::max(longest, lengths.back());
  }
  at::Tensor tokens = at::full({static_cast<int64_t>(batch.size()), longest}, kPadToken, at::kLong);
  auto* row = tokens.data_ptr<int64_t>();
  for (const size_t i : batch) {
    for (size_t p = 0; p < sequences[i].size(); ++p) row[p] = token_of(sequences[i][p]);
    row += longest;
  }
  Streams streams;
  streams.set("tokens", tokens);
  streams.set("mask", at::arange(longest).unsqueeze(0) < at::tensor(lengths).unsqueeze(1));
  return streams;
}

void check_letters(const std::vector<std::string>& sequences) {
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::string& letters = sequences[i];
    if (letters.empty()) throw Error(cat("sequence ", i + 1, " is empty"));
    for (size_t p = 0; p < letters.size(); ++p) {
      if (token_of(letters[p]) < 0) throw Error(cat("sequence ", i + 1, ": ", bad_letter(letters, p)));
    }
  }
}

}  // namespace

class Predictor::Models {
 public:
  Models(const std::vector<std::filesystem::path>& trained, const PredictorOptions& options) {
    if (trained.empty()) throw ConfigError("no run or checkpoint to predict with");
    if (options.batch < 1) throw ConfigError(cat("batch must be at least 1, got ", options.batch));
    flip_ = options.flip;
    limits_.sequences = static_cast<size_t>(options.batch);
    for (const auto& path : trained) add(path, options);
  }

  const std::vector<std::string>& targets() const { return targets_; }

  std::vector<at::Tensor> predict(const std::vector<std::string>& sequences,
                                  const Progress& progress) const {
    check_letters(sequences);
    const at::NoGradGuard no_grad;
    std::vector<size_t> lengths;
    for (const std::string& letters : sequences) lengths.push_back(letters.size());
    std::vector<at::Tensor> out(sequences.size());
    for (const auto& batch : plan_batches(lengths, limits_)) {
      const at::Tensor values = forward(batch_of(sequences, batch));
      int64_t nucleotides = 0;
      for (size_t b = 0; b < batch.size(); ++b) {
        const auto length = static_cast<int64_t>(lengths[batch[b]]);
        // A copy: a view would keep the padded batch alive.
        out[batch[b]] = values[static_cast<int64_t>(b)].narrow(0, 0, length).clone();
        nucleotides += length;
      }
      if (progress) progress(static_cast<int64_t>(batch.size()), nucleotides);
    }
    return out;
  }

 private:
  void add(const std::filesystem::path& path, const PredictorOptions& options) {
    // Where a model was trained says nothing about where it is to predict.
    TrainedModel one = load_trained(
        {path, {cat("train.device=", options.device)}, options.plugin_path});
    std::set<std::string> unknown;
    for (const StreamSpec& spec : one.session->specs()) {
      if (spec.name != "tokens" && spec.name != "reversed") unknown.insert(spec.name);
    }
    const Plan& plan = one.session->plan();
    check_inputs(plan.nodes, unknown);
    std::vector<std::string> targets;
    for (const Output& output : outputs_of(plan.result)) {
      targets.insert(targets.end(), output.targets.begin(), output.targets.end());
    }
    if (targets.empty()) {
      throw ConfigError(cat(path.string(), ": this model has no stream pred.* with a value for each "
                            "residue"));
    }
    if (models_.empty()) targets_ = targets;
    if (targets != targets_) {
      throw ConfigError(cat(path.string(), " predicts ", join(targets), ", but ",
                            models_.front().run.string(), " predicts ", join(targets_),
                            "; only models of the same targets have a mean"));
    }
    if (has_pairs(*one.session)) limits_.pairs = kPairs;
    models_.push_back(std::move(one));
  }

  // [B, L, targets] in float32 on the CPU.
  at::Tensor forward(const Streams& inputs) const {
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

  std::vector<TrainedModel> models_;
  std::vector<std::string> targets_;
  BatchLimits limits_;
  std::optional<bool> flip_;
};

Predictor::Predictor(const std::vector<std::filesystem::path>& trained,
                     const PredictorOptions& options)
    : models_(std::make_unique<Models>(trained, options)) {}
Predictor::~Predictor() = default;
Predictor::Predictor(Predictor&&) noexcept = default;
Predictor& Predictor::operator=(Predictor&&) noexcept = default;

const std::vector<std::string>& Predictor::targets() const { return models_->targets(); }

std::vector<at::Tensor> Predictor::predict(const std::vector<std::string>& sequences,
                                           const Progress& progress) const {
  return models_->predict(sequences, progress);
}

}  // namespace ribo
