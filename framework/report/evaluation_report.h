// The answer of `ribo-run evaluate`, as text and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/scores.h"

namespace ribo {

/// A line of a table.
struct EvaluationRow {
  std::string label;
  std::optional<double> lower, upper;  // of a bin
  Estimate model;
  std::vector<Estimate> floors;  // in the order of EvaluationReport::floors
};

struct EvaluationTable {
  std::string by;  // "length", "signal_to_noise", "column"
  std::vector<EvaluationRow> rows;
};

struct MetricReport {
  std::string name;
  bool lower_is_better = true;
  EvaluationRow all;
  std::vector<EvaluationTable> tables;
  std::vector<double> by_sequence;  // NaN where nothing was measured
};

struct EvaluationReport {
  std::string run, checkpoint;
  std::string source;  // the data source's type
  std::string split;
  std::vector<std::string> files;  // of --data
  bool flip = false;
  std::string device;
  Resampling resampling;
  std::vector<std::string> floors;  // their names
  std::string floors_note;          // why there are none
  std::vector<ScoredSequence> sequences;
  std::vector<MetricReport> metrics;
};

/// Intervals and tables of each metric, into `report`, whose sequences and resampling are set.
RIBO_API void add_metrics(EvaluationReport& report, const std::vector<MetricScores>& scores);

/// Tables for people, one for each metric.
RIBO_API std::string to_text(const EvaluationReport& report);

/// Everything, values of each sequence included; NaN is null. docs/evaluating.md describes it.
RIBO_API std::string to_json(const EvaluationReport& report);

}  // namespace ribo
