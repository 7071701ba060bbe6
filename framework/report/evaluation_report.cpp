#include "report/evaluation_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/text.h"
#include "report/bins.h"
#include "report/json.h"
#include "report/text_table.h"
#include "train/progress.h"

namespace ribo {
namespace {

using Json = nlohmann::ordered_json;

EvaluationRow make_row(std::string label, const MetricScores& scores,
                       const std::vector<size_t>& among, const Resampling& resampling) {
  EvaluationRow row;
  row.label = std::move(label);
  row.model = estimate(scores.rows, among, scores.finish, resampling);
  for (const NamedRows& floor : scores.floors) {
    row.floors.push_back(estimate(floor.rows, among, scores.finish, resampling));
  }
  return row;
}

EvaluationTable make_table(std::string by, const std::vector<Bin>& bins, const MetricScores& scores,
                           const Resampling& resampling) {
  EvaluationTable table{std::move(by), {}};
  for (const Bin& bin : bins) {
    table.rows.push_back(make_row(bin.label, scores, bin.members, resampling));
    table.rows.back().lower = bin.lower;
    table.rows.back().upper = bin.upper;
  }
  return table;
}

Json json_of(const Estimate& e) {
  return {{"sequences", e.sequences},
          {"value", json_number(e.value)},
          {"interval", json_of(e.interval)}};
}

Json json_of(const EvaluationRow& row, const std::vector<std::string>& floors) {
  Json json = json_of(row.model);
  Json beside = Json::object();
  for (size_t f = 0; f < row.floors.size(); ++f) beside[floors[f]] = json_of(row.floors[f]);
  json["floors"] = beside;
  return json;
}

Json json_of(const MetricReport& metric, const std::vector<std::string>& floors) {
  Json json = {{"name", metric.name}, {"lower_is_better", metric.lower_is_better}};
  json.update(json_of(metric.all, floors));
  Json tables = Json::object();
  for (const EvaluationTable& table : metric.tables) {
    Json rows = Json::array();
    for (const EvaluationRow& row : table.rows) {
      Json line = {{"label", row.label}};
      if (table.by != "column") {
        line["from"] = row.lower ? Json(*row.lower) : Json();
        line["below"] = row.upper ? Json(*row.upper) : Json();
      }
      line.update(json_of(row, floors));
      rows.push_back(line);
    }
    tables[table.by] = rows;
  }
  json["tables"] = tables;
  return json;
}

std::vector<std::string> cells_of(std::string label, const EvaluationRow& row) {
  std::vector<std::string> cells = {std::move(label), std::to_string(row.model.sequences),
                                    format_score(row.model.value),
                                    format_bounds(row.model.interval)};
  for (const Estimate& floor : row.floors) cells.push_back(format_score(floor.value));
  return cells;
}

}  // namespace

void add_metrics(EvaluationReport& report, const std::vector<MetricScores>& scores) {
  std::vector<int64_t> lengths;
  std::vector<double> qualities;
  for (const ScoredSequence& s : report.sequences) {
    lengths.push_back(s.length);
    qualities.push_back(s.lowest_signal_to_noise());
  }
  const bool has_quality =
      std::any_of(report.sequences.begin(), report.sequences.end(),
                  [](const ScoredSequence& s) { return !s.signal_to_noise.empty(); });
  const std::vector<size_t> all = all_of(report.sequences.size());
  for (const MetricScores& s : scores) {
    MetricReport metric{
        s.name, s.lower_is_better, make_row("all", s, all, report.resampling), {}, {}};
    if (!s.columns.empty()) {
      EvaluationTable table{"column", {}};
      for (const MetricScores& column : s.columns) {
        table.rows.push_back(make_row(column.name, column, all, report.resampling));
      }
      metric.tables.push_back(std::move(table));
    }
    metric.tables.push_back(make_table("length", bins_by_length(lengths), s, report.resampling));
    if (has_quality) {
      metric.tables.push_back(
          make_table("signal_to_noise", bins_by_signal_to_noise(qualities), s, report.resampling));
    }
    for (const size_t i : all) metric.by_sequence.push_back(s.finish(s.rows.row(i)));
    report.metrics.push_back(std::move(metric));
  }
}

std::string to_text(const EvaluationReport& report) {
  const std::string data = report.files.empty() ? report.source : join(report.files);
  std::string text =
      cat(report.checkpoint, "\n", report.split, " (", data, "): ", report.sequences.size(),
          " sequences", report.flip ? ", mean of both directions" : "", "\n");
  for (const MetricReport& metric : report.metrics) {
    TextTable table;
    std::vector<std::string> head = {
        cat(metric.name, metric.lower_is_better ? " (lower is better)" : " (higher is better)"),
        "sequences", "value", "95 % interval"};
    head.insert(head.end(), report.floors.begin(), report.floors.end());
    table.add(head);
    table.add(cells_of("all", metric.all));
    for (const EvaluationTable& part : metric.tables) {
      for (const EvaluationRow& row : part.rows) {
        table.add(cells_of(cat("  ", part.by, " ", row.label), row));
      }
    }
    text += "\n" + table.str();
  }
  if (!report.floors_note.empty()) text += cat("\nno floors: ", report.floors_note, "\n");
  return text;
}

std::string to_json(const EvaluationReport& report) {
  Json json = {
      {"kind", "evaluation"},
      {"run", report.run},
      {"checkpoint", report.checkpoint},
      {"data", {{"source", report.source}, {"split", report.split}, {"files", report.files}}},
      {"flip", report.flip},
      {"device", report.device},
      {"bootstrap", {{"resamples", report.resampling.count}, {"seed", report.resampling.seed}}}};
  if (!report.floors_note.empty()) json["no_floors"] = report.floors_note;
  json["metrics"] = Json::array();
  for (const MetricReport& metric : report.metrics) {
    json["metrics"].push_back(json_of(metric, report.floors));
  }
  json["sequences"] = Json::array();
  for (size_t i = 0; i < report.sequences.size(); ++i) {
    Json line = json_of(report.sequences[i]);
    for (const MetricReport& metric : report.metrics) {
      line["values"][metric.name] = json_number(metric.by_sequence[i]);
    }
    json["sequences"].push_back(line);
  }
  return dump(json);
}

}  // namespace ribo
