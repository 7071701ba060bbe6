#include "report/evaluate_run.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "report/scoring.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> sets_of(const JudgeOptions& options) {
  std::vector<std::string> sets = options.sets;
  // The run's own train.device says nothing about where it is judged.
  sets.push_back(cat("train.device=", options.device));
  return sets;
}

FloorTables floor_tables(const TrainedModel& trained, const JudgeOptions& options) {
  const fs::path file = trained.run / "floors.json";
  if (fs::exists(file)) return read_floors(file);
  try {
    // A run of an earlier version. --set may change what is judged, not what it was trained on.
    const EvaluatedData train{"train", {}};
    Session session({(trained.run / "pipeline.yaml").string(), {}, options.plugin_path, train});
    session.open();
    return session.fit_floors();
  } catch (const Error& e) {
    throw Error(cat("the run has no floors.json, and its training data does not open: ", e.what()));
  }
}

// The floors of the run, or none and the reason in `note`.
std::vector<Floor> find_floors(const TrainedModel& trained, const JudgeOptions& options,
                               std::string& note) {
  try {
    return make_floors(floor_tables(trained, options), trained.session->metrics(),
                       trained.session->plan().result);
  } catch (const Error& e) {
    note = e.what();
    note.resize(std::min(note.find('\n'), note.size()));
    return {};
  }
}

// Every metric, then every metric of a single column, in one list: a batch is walked once.
std::vector<NamedMetric> flatten(const std::vector<NamedMetric>& metrics,
                                 const std::vector<std::vector<NamedMetric>>& by_column) {
  std::vector<NamedMetric> all = metrics;
  for (const auto& columns : by_column) all.insert(all.end(), columns.begin(), columns.end());
  return all;
}

using AllRows = std::vector<MetricRows>;  // in the order of flatten()

MetricScores scores_of(const NamedMetric& metric, size_t place, const AllRows& model,
                       const std::vector<std::pair<std::string, AllRows>>& floors) {
  MetricScores out{
      metric.name, metric.metric->lower_is_better(), finish_of(metric.metric), model[place], {},
      {}};
  for (const auto& [name, rows] : floors) out.floors.push_back({name, rows[place]});
  return out;
}

}  // namespace

TrainedModel load_judged(const fs::path& path, const JudgeOptions& options) {
  TrainedModel trained = load_trained({path, sets_of(options), options.plugin_path, options.data});
  if (const auto& threads = trained.session->options().threads) {
    at::set_num_threads(static_cast<int>(*threads));
  }
  return trained;
}

std::unique_ptr<Loader> validation_batches(const TrainedModel& trained, const std::string& split) {
  LoaderOptions options;
  options.batch = trained.session->options().valid_batch;
  options.bucket = trained.session->options().bucket;
  return std::make_unique<Loader>(trained.session->split(split), trained.session->specs(), options);
}

std::vector<ScoredSequence> describe_sequences(const Split& split,
                                               const std::vector<StreamSpec>& specs) {
  const bool has_quality = std::any_of(specs.begin(), specs.end(), [](const StreamSpec& s) {
    return s.name == "signal_to_noise" && s.shape.size() <= 1 && s.type == at::kFloat;
  });
  std::vector<ScoredSequence> out;
  for (int64_t i = 0; i < split.size(); ++i) {
    ScoredSequence s{split.id(i), split.length(i), {}};
    if (has_quality) {
      const at::Tensor quality = split.get(i, 0).get("signal_to_noise").reshape(-1).contiguous();
      const auto* q = quality.const_data_ptr<float>();
      s.signal_to_noise.assign(q, q + quality.numel());
    }
    out.push_back(std::move(s));
  }
  return out;
}

void check_measured(const std::vector<MetricRows>& rows, const std::vector<NamedMetric>& metrics,
                    const std::string& split) {
  for (size_t m = 0; m < metrics.size(); ++m) {
    if (std::any_of(rows[m].sums.begin(), rows[m].sums.end(), [](double x) { return x != 0; })) {
      return;
    }
  }
  throw Error(cat("no sequence of the split \"", split, "\" has a measured value for ",
                  metrics.front().name, "; evaluate on data with profiles"));
}

EvaluationReport evaluate_run(const fs::path& path, const JudgeOptions& options) {
  const at::NoGradGuard no_grad;
  const TrainedModel trained = load_judged(path, options);
  const Session& session = *trained.session;
  const auto batches = validation_batches(trained, options.data.split);
  const Split& split = batches->split();

  EvaluationReport report;
  report.run = trained.run.string();
  report.checkpoint = trained.checkpoint.string();
  report.source = session.pipeline().root.find("data")->find("type")->text;
  report.split = options.data.split;
  for (const fs::path& file : options.data.files) report.files.push_back(file.string());
  report.flip = trained.flips(options.flip);
  report.device = session.device().str();
  report.resampling = options.resampling;
  const std::vector<Floor> floors = find_floors(trained, options, report.floors_note);
  for (const Floor& floor : floors) report.floors.push_back(floor.name);
  report.sequences = describe_sequences(split, session.specs());

  const std::vector<std::vector<NamedMetric>> by_column = session.metrics_by_column();
  const std::vector<NamedMetric> all = flatten(session.metrics(), by_column);
  const auto score = [&](const std::function<void(Streams&)>& predict, bool told) {
    RowCollector collector(all, split.size());
    batches->start(0);
    for (Batch batch; batches->next(batch);) {
      predict(batch.streams);
      collector.add(batch);
      if (!options.advance) continue;
      int64_t sequences = 0, nucleotides = 0;
      for (const int64_t i : batch.indices) {
        sequences += told;
        nucleotides += told ? split.length(i) : 0;
      }
      options.advance(sequences, nucleotides);
    }
    return collector.rows();
  };
  if (options.start) options.start(split.size());
  const AllRows model = score([&](Streams& s) { trained.predict(s, options.flip); }, true);
  check_measured(model, session.metrics(), report.split);
  std::vector<std::pair<std::string, AllRows>> beside;
  for (const Floor& floor : floors) beside.emplace_back(floor.name, score(floor.predict, false));

  std::vector<MetricScores> scores;
  size_t place = session.metrics().size();
  for (size_t m = 0; m < session.metrics().size(); ++m) {
    scores.push_back(scores_of(session.metrics()[m], m, model, beside));
    for (const NamedMetric& column : by_column[m]) {
      scores.back().columns.push_back(scores_of(column, place++, model, beside));
    }
  }
  add_metrics(report, scores);
  return report;
}

}  // namespace ribo
