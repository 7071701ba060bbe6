#include <algorithm>

#include "cli/pace.h"
#include "cli/stoppable.h"
#include "cli/verbs.h"
#include "predict/prediction_file.h"
#include "predict/sequences.h"
#include "ribo/log.h"
#include "ribo/predictor.h"

namespace ribo::cli {
namespace {

constexpr const char* kUsage =
    "Usage: ribo-run predict RUN|CHECKPOINT... --input FILE [options]\n"
    "Predicts profiles of sequences. A run stands for its best checkpoint; of several models the mean\n"
    "is written. Files and formats: docs/predicting.md.\n";

// Batches whose predictions are kept until they can be written in the input's order.
constexpr size_t kBatchesAtOnce = 16;

po::options_description predict_options() {
  po::options_description options("Options");
  options.add_options()("trained", po::value<std::vector<std::string>>()->required(),
                        "run directories, or folders in their checkpoints/")(
      "input,i", po::value<std::string>()->required(),
      "sequences: FASTA, CSV or JSON lines; - is standard input")(
      "format", po::value<std::string>()->default_value("auto"), "of the input: fasta, csv, json")(
      "out,o", po::value<std::string>()->default_value("-"),
      "where to write: .csv, .safetensors; - is standard output")(
      "format-out", po::value<std::string>()->default_value("auto"),
      "plain, ribonanza, openvaccine (the competitions' submissions) or safetensors")(
      "flip", po::value<std::string>()->default_value("auto"),
      "mean over both directions: yes, no; auto = as the run was validated")(
      "batch", po::value<int64_t>()->default_value(64),
      "sequences in one batch at most; fewer where they are long")(
      "device", po::value<std::string>()->default_value("auto"), "cpu, cuda or cuda:0");
  return options;
}

void predict_all(const Predictor& predictor, const std::vector<InputSequence>& sequences,
                 size_t at_once, PredictionFile& file, const Sink& sink, Pace& pace) {
  sink(file.begin());
  for (size_t first = 0; first < sequences.size(); first += at_once) {
    const size_t end = std::min(sequences.size(), first + at_once);
    std::vector<std::string> letters;
    for (size_t i = first; i < end; ++i) letters.push_back(sequences[i].letters);
    const auto profiles = predictor.predict(letters, [&](int64_t count, int64_t nucleotides) {
      pace.add(count, nucleotides);
      stop_if_asked();
    });
    for (size_t i = first; i < end; ++i) {
      const at::Tensor& profile = profiles[i - first];
      sink(file.add(i, {profile.const_data_ptr<float>(), static_cast<size_t>(profile.numel())}));
    }
  }
}

}  // namespace

int predict(const Arguments& arguments) {
  po::variables_map values;
  if (!parse(arguments, kUsage, predict_options(), "trained...", values)) return 0;
  apply_common(values);
  const auto text = [&](const char* name) { return values[name].as<std::string>(); };
  const std::string out = text("out");
  const PredictionFormat format = prediction_format(text("format-out"), out);
  const SequenceFormat format_in = sequence_format(text("format"));

  PredictorOptions options;
  options.plugin_path = plugin_path(values);
  options.device = text("device");
  options.flip = flip_option(text("flip"));
  options.batch = values["batch"].as<int64_t>();
  const auto& trained = values["trained"].as<std::vector<std::string>>();
  const Predictor predictor({trained.begin(), trained.end()}, options);
  const std::vector<InputSequence> sequences = read_sequences(text("input"), format_in);
  const auto file = make_prediction_file(format, predictor.targets(), sequences);

  std::string summary;
  const int status = write_stoppable(out, [&](const Sink& sink) {
    Pace pace(static_cast<int64_t>(sequences.size()), values.count("quiet") > 0);
    predict_all(predictor, sequences, static_cast<size_t>(options.batch) * kBatchesAtOnce, *file,
                sink, pace);
    summary = pace.summary();
  });
  if (status == 0) log::info(summary);
  return status;
}

}  // namespace ribo::cli
