#include "ribo/predictor.h"

#include <algorithm>

#include "predict/batches.h"
#include "predict/ensemble.h"
#include "ribo/letters.h"

namespace ribo {
namespace {

// Pairs of residues in one batch of a model with a pair track: 256 MiB for each stream of 64
// channels.
constexpr size_t kPairs = size_t{1} << 20;

bool has_pairs(const Session& session) {
  const auto& specs = session.specs();
  for (const auto& [name, stream] : session.plan().result.streams()) {
    const bool given = std::any_of(specs.begin(), specs.end(),
                                   [&name = name](const StreamSpec& s) { return s.name == name; });
    if (!given && std::count(stream.shape.begin(), stream.shape.end(), dim::length) > 1) return true;
  }
  return false;
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
  Models(const std::vector<std::filesystem::path>& trained, const PredictorOptions& options)
      : ensemble_(trained, {options.plugin_path, options.device, options.flip}) {
    if (options.batch < 1) throw ConfigError(cat("batch must be at least 1, got ", options.batch));
    ensemble_.check_needs_sequences_alone();
    limits_.sequences = static_cast<size_t>(options.batch);
    for (const TrainedModel& one : ensemble_.models()) {
      if (has_pairs(*one.session)) limits_.pairs = kPairs;
    }
  }

  const std::vector<std::string>& targets() const { return ensemble_.targets(); }

  std::vector<at::Tensor> predict(const std::vector<std::string>& sequences,
                                  const Progress& progress) const {
    check_letters(sequences);
    const at::NoGradGuard no_grad;
    std::vector<size_t> lengths;
    for (const std::string& letters : sequences) lengths.push_back(letters.size());
    std::vector<at::Tensor> out(sequences.size());
    for (const auto& batch : plan_batches(lengths, limits_)) {
      std::vector<std::string> together;
      for (const size_t i : batch) together.push_back(sequences[i]);
      const at::Tensor values = ensemble_.predict(sequence_batch(together));
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
  const Ensemble ensemble_;
  BatchLimits limits_;
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
