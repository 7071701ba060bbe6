#include <algorithm>
#include <functional>
#include <optional>
#include <unordered_map>

#include "cli/stoppable.h"
#include "cli/verbs.h"
#include "config/text.h"
#include "predict/ensemble.h"
#include "predict/sequences.h"
#include "report/take_picture.h"
#include "ribo/config.h"
#include "ribo/log.h"
#include "train/loader.h"

namespace ribo::cli {
namespace {

using Words = std::vector<std::string>;

constexpr const char* kUsage =
    "Usage: ribo-run picture RUN|CHECKPOINT... --out PAGE.html [--input FILE] [--id ID...]\n"
    "Shows on one page what a trained model predicts of a few sequences, beside what was\n"
    "measured, and the pairs and the attention behind it. Without --input the sequences are those\n"
    "of the run's validation data. What is to be seen: docs/pictures.md.\n";

constexpr size_t kMost = 20;  // sequences on a page
constexpr size_t kFew = 3;    // without --id, of the validation data

po::options_description picture_options() {
  po::options_description options("Options");
  options.add_options()("trained", po::value<Words>()->required(),
                        "run directories, or folders in their checkpoints/")(
      "out,o", po::value<std::string>()->required(), "the HTML page; - is standard output")(
      "id", po::value<Words>()->multitoken()->composing(),
      "the sequences to show, by their ids; without it all of --input, or the first few of the "
      "validation data")("input,i", po::value<std::string>(),
                         "sequences: FASTA, CSV or JSON lines; - is standard input")(
      "format", po::value<std::string>()->default_value("auto"), "of the input: fasta, csv, json")(
      "data", po::value<Words>()->multitoken()->composing(),
      "files of measured profiles in place of data.valid of the run")(
      "layer", po::value<int64_t>(),
      "whose attention to show, from 1, of the blocks that have one; without it the last")(
      "device", po::value<std::string>()->default_value("auto"), "cpu, cuda or cuda:0");
  return options;
}

Words words_of(const po::variables_map& values, const char* name) {
  return values.count(name) ? values[name].as<Words>() : Words();
}

// Where the sequences come from.
struct Source {
  std::string name;  // "x.fasta", "the validation data"
  Words ids;
  std::function<Batch(size_t)> sample;
};

Source from_file(const std::string& path, SequenceFormat format) {
  auto sequences = read_sequences(path, format);
  Source out{path == "-" ? "standard input" : path, {}, {}};
  for (const InputSequence& sequence : sequences) out.ids.push_back(sequence.id);
  out.sample = [sequences](size_t i) {
    return Batch{sequence_batch({sequences[i].letters}), {static_cast<int64_t>(i)}};
  };
  return out;
}

Source from_data(const Session& session, const Words& files) {
  const auto split = session.split("valid");
  Source out{files.empty() ? "the validation data" : join(files), {}, {}};
  for (int64_t i = 0; i < split->size(); ++i) out.ids.push_back(split->id(i));
  out.sample = [split, specs = session.specs()](size_t i) {
    return collate(*split, specs, {static_cast<int64_t>(i)}, {0});
  };
  return out;
}

// "a, b, c and 97 more"
std::string some_of(const Words& ids) {
  const size_t shown = std::min<size_t>(ids.size(), 3);
  const Words first(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(shown));
  return join(first) + (ids.size() > shown ? cat(" and ", ids.size() - shown, " more") : "");
}

// Indices into the source.
std::vector<size_t> choose(const Source& source, const Words& ids, bool all) {
  std::vector<size_t> out;
  if (ids.empty()) {
    for (size_t i = 0; i < source.ids.size() && (all || i < kFew); ++i) out.push_back(i);
  }
  std::unordered_map<std::string_view, size_t> places;
  for (size_t i = 0; i < source.ids.size(); ++i) places.emplace(source.ids[i], i);
  for (const std::string& id : ids) {
    const auto it = places.find(id);
    if (it == places.end()) {
      const std::string meant = did_you_mean(id, source.ids);
      throw ConfigError(cat("--id ", id, ": there is no such sequence in ", source.name,
                            meant.empty() ? "; there are: " + some_of(source.ids) : meant));
    }
    out.push_back(it->second);
  }
  if (out.size() > kMost) {
    throw ConfigError(cat(out.size(), " sequences of ", source.name, " are too many for a page of ",
                          kMost, "; choose some by their ids, such as --id ", source.ids[out[0]],
                          " ", source.ids[out[1]]));
  }
  return out;
}

std::string model_fact(const TrainedModel& one) {
  return cat(one.session->name(), ", run ", one.run.filename().string(), ", checkpoint ",
             one.checkpoint.filename().string());
}

std::string direction_fact(const Ensemble& ensemble) {
  const size_t count = ensemble.models().size();
  size_t flipped = 0;
  for (size_t i = 0; i < count; ++i) flipped += ensemble.flips(i);
  const std::string maps =
      cat("Maps and attention: the 5'→3' direction", count == 1 ? "." : ", of the first model.");
  if (flipped == 0) return "Profiles: the 5'→3' direction. " + maps;
  return cat("Profiles: the mean of both directions",
             flipped == count ? ", as validated. " : " for those models that were validated so. ",
             maps);
}

PicturePage start_page(const Ensemble& ensemble, const Source& source) {
  const auto& models = ensemble.models();
  Words facts;
  for (const TrainedModel& one : models) facts.push_back("Model: " + model_fact(one) + ".");
  facts.push_back(direction_fact(ensemble));
  facts.push_back(cat("Sequences: ", source.name, "."));
  return {"Predictions of " + (models.size() == 1 ? models.front().session->name()
                                                  : cat(models.size(), " models, their mean")),
          facts};
}

}  // namespace

int picture(const Arguments& arguments) {
  po::variables_map values;
  if (!parse(arguments, kUsage, picture_options(), "trained...", values)) return 0;
  apply_common(values);
  const std::string out = values["out"].as<std::string>();
  const Words ids = words_of(values, "id"), files = words_of(values, "data");
  const bool from_input = values.count("input") > 0;
  if (from_input && !files.empty()) {
    throw ConfigError("--input and --data both say where the sequences are; leave out one of them");
  }
  std::optional<int64_t> layer;
  if (values.count("layer")) layer = values["layer"].as<int64_t>();

  EnsembleOptions options;
  options.plugin_path = plugin_path(values);
  options.device = values["device"].as<std::string>();
  if (!from_input) options.evaluated = EvaluatedData{"valid", data_files(values)};
  const auto& trained = values["trained"].as<Words>();
  const Ensemble ensemble({trained.begin(), trained.end()}, options);
  if (from_input) ensemble.check_needs_sequences_alone();
  const Source source = from_input ? from_file(values["input"].as<std::string>(),
                                               sequence_format(values["format"].as<std::string>()))
                                   : from_data(*ensemble.models().front().session, files);
  const std::vector<size_t> chosen = choose(source, ids, from_input);

  PicturePage page = start_page(ensemble, source);
  const int status = write_stoppable(out, [&](const Sink& sink) {
    for (const size_t i : chosen) {
      page.add(take_picture(ensemble, source.ids[i], source.sample(i).streams, layer));
      stop_if_asked();
    }
    sink(page.html());
  });
  if (status != 0) return status;
  log::info(cat(page.size(), page.size() == 1 ? " picture" : " pictures", " in ",
                out == "-" ? "the page" : out));
  return 0;
}

}  // namespace ribo::cli
