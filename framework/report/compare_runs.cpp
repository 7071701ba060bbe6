#include "report/compare_runs.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <chrono>

#include "config/pipeline.h"
#include "config/text.h"
#include "core/median.h"
#include "report/scoring.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// A model that takes part.
struct Entrant {
  size_t side = 0;
  TrainedModel trained;
  std::shared_ptr<const Split> split;
  RowCollector collector;
  std::vector<double> speeds;  // sequences per second of each batch
};

[[noreturn]] void refuse(const Entrant& first, const Entrant& other, const std::string& what) {
  throw ConfigError(cat("cannot compare ", first.trained.run.string(), " with ",
                        other.trained.run.string(), ": ", what));
}

// What it was trained with, whatever --set and --data say now.
Value trained_pipeline(const Entrant& entrant) {
  return load_pipeline((entrant.trained.run / "pipeline.yaml").string(), {}).root;
}

bool names_columns(const Value& metric) {
  const Value* columns = metric.is_map() ? metric.find("columns") : nullptr;
  return columns && columns->is_list() && !columns->items.empty();
}

void check_metrics(const Entrant& first, const Entrant& other) {
  const Session &a = *first.trained.session, &b = *other.trained.session;
  const Value &one = *a.pipeline().root.find("metrics"), &two = *b.pipeline().root.find("metrics");
  if (!(one == two)) {
    refuse(first, other,
           cat("their metrics differ: ", one_line(one), " and ", one_line(two),
               "; give both the same, e.g. --set 'metrics=", one_line(one), "'"));
  }
  for (size_t m = 0; m < a.metrics().size(); ++m) {
    if (names_columns(one.items[m])) continue;
    const std::string stream = "pred." + a.metrics()[m].metric->target();
    const auto &labels = a.plan().result.labels(stream), &others = b.plan().result.labels(stream);
    if (labels != others) {
      refuse(first, other,
             cat("they predict other targets, ", join(labels), " and ", join(others),
                 "; name common ones as the metrics' `columns`, e.g. --set "
                 "'metrics[",
                 m, "].columns=[...]'"));
    }
  }
}

void check_sequences(const Entrant& first, const Entrant& other) {
  const Split &a = *first.split, &b = *other.split;
  const std::string remedy = "; give both the same with --data FILE";
  if (a.size() != b.size()) {
    refuse(first, other,
           cat("their data differ, ", a.size(), " and ", b.size(), " sequences", remedy));
  }
  for (int64_t i = 0; i < a.size(); ++i) {
    if (a.id(i) == b.id(i) && a.length(i) == b.length(i)) continue;
    refuse(first, other,
           cat("their data differ: sequence ", i + 1, " is ", a.id(i), " (", a.length(i),
               " nt) and ", b.id(i), " (", b.length(i), " nt)", remedy));
  }
}

bool same_values(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         at::isclose(a, b, 0, 0, /*equal_nan=*/true).all().item<bool>();
}

// The same letters and measured values, whatever the two data sections say.
void check_batch(const Entrant& first, const Entrant& other, const Batch& a, const Batch& b) {
  const auto check = [&](const std::string& stream, const std::string& what) {
    const at::Tensor &one = a.streams.get(stream), &two = b.streams.get(stream);
    for (size_t i = 0; i < a.indices.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      if (same_values(one[row], two[row])) continue;
      refuse(first, other,
             cat(what, " of ", first.split->id(a.indices[i]), " differ",
                 "; give both the same data section with --set data.KEY=VALUE, or "
                 "--data FILE"));
    }
  };
  check("tokens", "the letters");
  for (const NamedMetric& m : first.trained.session->metrics()) {
    check("target." + m.metric->target(), "the measured values (clipped, or other columns?)");
  }
}

// Returns the seconds that it took.
double predict_timed(const Entrant& entrant, Streams& streams, const std::optional<bool>& flip) {
  const double start = now();
  entrant.trained.predict(streams, flip);
  for (const NamedMetric& m : entrant.trained.session->metrics()) {
    // What a GPU still computes is waited for.
    (void)streams.get("pred." + m.metric->target()).to(at::kCPU);
  }
  return now() - start;
}

std::vector<Entrant> load_all(const std::vector<fs::path>& a, const std::vector<fs::path>& b,
                              const JudgeOptions& options) {
  std::vector<Entrant> entrants;
  for (size_t side = 0; side < 2; ++side) {
    for (const fs::path& path : side == 0 ? a : b) {
      TrainedModel trained = load_judged(path, options);
      auto split = trained.session->split(options.data.split);
      RowCollector collector(trained.session->metrics(), split->size());
      entrants.push_back({side, std::move(trained), std::move(split), std::move(collector), {}});
      check_metrics(entrants.front(), entrants.back());
      check_sequences(entrants.front(), entrants.back());
    }
  }
  return entrants;
}

void score_all(std::vector<Entrant>& entrants, const JudgeOptions& options) {
  const auto order = validation_batches(entrants.front().trained, options.data.split)->order(0);
  if (options.start) {
    options.start(entrants.front().split->size() * static_cast<int64_t>(entrants.size()));
  }
  bool warm = false;
  for (size_t n = 0; n < order.size(); ++n) {
    const std::vector<uint64_t> as_measured(order[n].size(), 0);
    int64_t nucleotides = 0;
    for (const int64_t i : order[n]) nucleotides += entrants.front().split->length(i);
    const Entrant* reference_of = nullptr;
    Batch reference;
    for (size_t e = 0; e < entrants.size(); ++e) {
      // Every other batch in the other order: what a batch costs also depends on what ran before.
      Entrant& entrant = entrants[n % 2 == 0 ? e : entrants.size() - 1 - e];
      Batch batch =
          collate(*entrant.split, entrant.trained.session->specs(), order[n], as_measured);
      if (reference_of) {
        check_batch(*reference_of, entrant, reference, batch);
      } else {
        reference_of = &entrant;
        reference = batch;
      }
      if (!warm) {
        Streams untimed = batch.streams;
        predict_timed(entrant, untimed, options.flip);
      }
      entrant.speeds.push_back(static_cast<double>(order[n].size()) /
                               predict_timed(entrant, batch.streams, options.flip));
      entrant.collector.add(batch);
      if (options.advance) options.advance(static_cast<int64_t>(order[n].size()), nucleotides);
    }
    warm = true;
  }
}

}  // namespace

ComparisonReport compare_runs(const std::vector<fs::path>& a, const std::vector<fs::path>& b,
                              const JudgeOptions& options, size_t moved) {
  const at::NoGradGuard no_grad;
  std::vector<Entrant> entrants = load_all(a, b, options);
  const Entrant& first = entrants.front();
  if (const auto& threads = first.trained.session->options().threads) {
    at::set_num_threads(static_cast<int>(*threads));
  }
  const Session& session = *first.trained.session;
  score_all(entrants, options);
  check_measured(first.collector.rows(), session.metrics(), options.data.split);

  ComparisonReport report;
  report.source = session.pipeline().root.find("data")->find("type")->text;
  report.split = options.data.split;
  report.device = session.device().str();
  for (const fs::path& file : options.data.files) report.files.push_back(file.string());
  report.threads = at::get_num_threads();
  report.resampling = options.resampling;
  report.moved = moved;
  report.sequences = describe_sequences(*first.split, session.specs());
  for (Entrant& e : entrants) {
    // The median, for a neighbour may take the machine for a moment.
    report.sides[e.side].push_back(
        {e.trained.run.string(), e.trained.checkpoint.string(), e.trained.model->count_parameters(),
         e.trained.flips(options.flip), median_of(e.speeds), read_run_record(e.trained.run)});
  }
  for (size_t m = 0; m < session.metrics().size(); ++m) {
    const NamedMetric& metric = session.metrics()[m];
    std::array<std::vector<MetricScores>, 2> scores;
    for (const Entrant& e : entrants) {
      scores[e.side].push_back({metric.name,
                                metric.metric->lower_is_better(),
                                finish_of(metric.metric),
                                e.collector.rows()[m],
                                {},
                                {}});
    }
    report.metrics.push_back(compare_metric(scores[0], scores[1], options.resampling));
  }
  for (PipelineDifference& d :
       differences(trained_pipeline(first), trained_pipeline(entrants[a.size()]))) {
    // Seeds of one training differ in their seed by their nature.
    if (d.key != "seed" || entrants.size() == 2) report.pipeline.push_back(std::move(d));
  }
  return report;
}

}  // namespace ribo
