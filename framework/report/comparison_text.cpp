#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include "config/text.h"
#include "report/comparison_report.h"
#include "report/text_table.h"
#include "train/progress.h"

namespace ribo {
namespace {

std::string signed_score(double x) { return x > 0 ? "+" + format_score(x) : format_score(x); }

std::string format_p(double p) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", p);
  return text;
}

std::string signed_bounds(const std::optional<Bounds>& bounds) {
  return bounds ? cat(signed_score(bounds->low), "..", signed_score(bounds->high)) : "-";
}

double spread(const std::vector<double>& seeds) {
  const auto [low, high] = std::minmax_element(seeds.begin(), seeds.end());
  return *high - *low;
}

std::string seeds_line(const char* side, const std::vector<double>& seeds) {
  std::string text = cat("  ", side, ":");
  for (const double x : seeds) text += " " + format_score(x);
  return cat(text, "  (spread ", format_score(spread(seeds)), ")\n");
}

bool has_seeds(const PairedDifference& d) { return d.a_seeds.size() > 1 || d.b_seeds.size() > 1; }

// One cell of a row about the runs.
using Cell = std::function<std::string(const ComparedRun&)>;

std::string speed(double x) {
  if (std::isnan(x)) return "?";
  char text[32];
  std::snprintf(text, sizeof text, x < 10 ? "%.2f" : "%.0f", x);
  return text;
}

std::string runs_text(const ComparisonReport& report) {
  TextTable table;
  std::vector<std::string> head = {""};
  for (size_t side = 0; side < 2; ++side) {
    const size_t count = report.sides[side].size();
    for (size_t s = 0; s < count; ++s) {
      head.push_back(count > 1 ? cat(kSides[side], s + 1) : kSides[side]);
    }
  }
  table.add(head);
  const auto line = [&](const std::string& name, const Cell& cell) {
    std::vector<std::string> cells = {name};
    for (const auto& side : report.sides) {
      for (const ComparedRun& run : side) cells.push_back(cell(run));
    }
    table.add(cells);
  };
  line("parameters", [](const ComparedRun& r) { return std::to_string(r.parameters); });
  line("predicting here, sequences/s",
       [](const ComparedRun& r) { return speed(r.sequences_per_second); });
  line("trained on", [](const ComparedRun& r) { return r.record.found ? r.record.device : "?"; });
  line("updates", [](const ComparedRun& r) {
    return r.record.found ? std::to_string(r.record.updates) : "?";
  });
  line("training, with validations", [](const ComparedRun& r) {
    return r.record.found ? format_duration(r.record.seconds) : "?";
  });
  line("training, sequences/s",
       [](const ComparedRun& r) { return speed(r.record.sequences_per_second); });
  line("training, peak main memory", [](const ComparedRun& r) {
    return r.record.peak_memory > 0 ? cat((r.record.peak_memory + (1 << 19)) >> 20, " MiB") : "?";
  });
  return table.str();
}

std::string moved_text(const ComparisonReport& report) {
  const MetricComparison& metric = report.metrics.front();
  TextTable table;
  table.add({cat("moved most, ", metric.name), "length", "A", "B", "B - A"});
  for (const size_t i : most_moved(metric, report.moved)) {
    const ScoredSequence& s = report.sequences[i];
    table.add({"  " + s.id, std::to_string(s.length), format_score(metric.a[i]),
               format_score(metric.b[i]), signed_score(metric.b[i] - metric.a[i])});
  }
  return table.str();
}

}  // namespace

std::string verdict(const MetricComparison& metric) {
  const PairedDifference& d = metric.all;
  const bool seeds = has_seeds(d);
  const bool apart = d.interval && (d.interval->low > 0 || d.interval->high < 0);
  const bool same = d.difference == 0 && most_moved(metric, 1).empty();
  const std::string numbers =
      cat("B - A = ", signed_score(d.difference), ", 95 % interval ", signed_bounds(d.interval),
          ", p = ", format_p(d.p), " over sequences");
  std::string text;
  if (std::isnan(d.difference)) {
    return cat("There is no ", metric.name, " to compare: A ", format_score(d.a), ", B ",
               format_score(d.b), ".");
  }
  if (!d.interval) {
    text = cat("Too few sequences to tell A and B apart on ", metric.name, ".");
  } else if (same) {
    text = cat("A and B score the same on ", metric.name, ".");
  } else if (apart && (seeds || d.p < 0.05)) {
    const bool b_is_better = (d.difference < 0) == metric.lower_is_better;
    text = cat(b_is_better ? "B" : "A", " is better on ", metric.name, ": ",
               format_score(b_is_better ? d.b : d.a), " against ",
               format_score(b_is_better ? d.a : d.b), " (", numbers, ").");
  } else {
    text = cat("The data cannot tell A and B apart on ", metric.name, " (", numbers, ").");
  }
  if (same) return text;
  if (std::min(d.a_seeds.size(), d.b_seeds.size()) == 1) {
    text += seeds ? " One side has one seed: another one may change this."
                  : " Each side has one seed: another one may change this, for the interval covers "
                    "the sequences only.";
  }
  return text;
}

std::string to_text(const ComparisonReport& report) {
  std::string text;
  for (size_t side = 0; side < 2; ++side) {
    for (const ComparedRun& run : report.sides[side]) {
      text += cat(kSides[side], "  ", run.checkpoint, run.flip ? "  (mean of both directions)" : "",
                  "\n");
    }
  }
  const std::string data = report.files.empty() ? report.source : join(report.files);
  text += cat(report.split, " (", data, "): ", report.sequences.size(), " sequences\n");
  TextTable table;
  table.add({"", "sequences", "A", "B", "B - A", "95 % interval", "p"});
  for (const MetricComparison& m : report.metrics) {
    table.add({cat(m.name, m.lower_is_better ? " (lower is better)" : " (higher is better)"),
               std::to_string(m.all.sequences), format_score(m.all.a), format_score(m.all.b),
               signed_score(m.all.difference), signed_bounds(m.all.interval), format_p(m.all.p)});
  }
  text += "\n" + table.str();
  for (const MetricComparison& m : report.metrics) {
    if (!has_seeds(m.all)) continue;
    text += cat("\nseeds, ", m.name, "\n", seeds_line("A", m.all.a_seeds),
                seeds_line("B", m.all.b_seeds));
  }
  text += "\n";
  for (const MetricComparison& m : report.metrics) text += verdict(m) + "\n";
  if (!most_moved(report.metrics.front(), report.moved).empty()) text += "\n" + moved_text(report);
  text += "\n" + runs_text(report);
  if (!report.pipeline.empty()) {
    text += "\npipelines: A | B\n";
    for (const PipelineDifference& d : report.pipeline) {
      text += cat("  ", d.key, ": ", d.a, " | ", d.b, "\n");
    }
  }
  return text;
}

}  // namespace ribo
