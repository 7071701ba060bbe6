#include "report/comparison_report.h"

#include <algorithm>
#include <cmath>

#include "report/json.h"

namespace ribo {
namespace {

using Json = nlohmann::ordered_json;

std::vector<MetricRows> rows_of(const std::vector<MetricScores>& seeds) {
  std::vector<MetricRows> out;
  for (const MetricScores& s : seeds) out.push_back(s.rows);
  return out;
}

std::vector<double> by_sequence(const std::vector<MetricScores>& seeds) {
  std::vector<double> out(seeds.front().rows.size());
  for (size_t i = 0; i < out.size(); ++i) {
    for (const MetricScores& s : seeds) out[i] += s.finish(s.rows.row(i));
    out[i] /= static_cast<double>(seeds.size());
  }
  return out;
}

Json json_of(const ComparedRun& run) {
  Json training;
  if (run.record.found) {
    training = {
        {"device", run.record.device},
        {"reason", run.record.reason},
        {"updates", run.record.updates},
        {"seconds", json_number(run.record.seconds)},
        {"sequences_per_second", json_number(run.record.sequences_per_second)},
        {"peak_memory", run.record.peak_memory > 0 ? Json(run.record.peak_memory) : Json()}};
  }
  return {{"run", run.run},
          {"checkpoint", run.checkpoint},
          {"parameters", run.parameters},
          {"flip", run.flip},
          {"sequences_per_second", json_number(run.sequences_per_second)},
          {"training", training}};
}

Json json_of(const MetricComparison& m) {
  return {{"name", m.name},
          {"lower_is_better", m.lower_is_better},
          {"sequences", m.all.sequences},
          {"A", json_number(m.all.a)},
          {"B", json_number(m.all.b)},
          {"A_seeds", json_numbers(m.all.a_seeds)},
          {"B_seeds", json_numbers(m.all.b_seeds)},
          {"difference", json_number(m.all.difference)},
          {"interval", json_of(m.all.interval)},
          {"p", json_number(m.all.p)},
          {"verdict", verdict(m)}};
}

}  // namespace

MetricComparison compare_metric(const std::vector<MetricScores>& a,
                                const std::vector<MetricScores>& b, const Resampling& resampling) {
  return {a.front().name, a.front().lower_is_better,
          compare_paired(rows_of(a), rows_of(b), a.front().finish, resampling), by_sequence(a),
          by_sequence(b)};
}

std::vector<size_t> most_moved(const MetricComparison& metric, size_t count) {
  std::vector<size_t> order;
  const auto moved = [&](size_t i) { return std::abs(metric.b[i] - metric.a[i]); };
  for (size_t i = 0; i < metric.a.size(); ++i) {
    if (moved(i) > 0) order.push_back(i);  // not what is NaN
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t x, size_t y) { return moved(x) > moved(y); });
  order.resize(std::min(order.size(), count));
  return order;
}

std::string to_json(const ComparisonReport& report) {
  Json json = {{"kind", "comparison"}};
  for (size_t side = 0; side < 2; ++side) {
    json[kSides[side]] = Json::array();
    for (const ComparedRun& run : report.sides[side]) json[kSides[side]].push_back(json_of(run));
  }
  json["data"] = {{"source", report.source}, {"split", report.split}, {"files", report.files}};
  json["device"] = report.device;
  json["threads"] = report.threads;
  json["bootstrap"] = {{"resamples", report.resampling.count}, {"seed", report.resampling.seed}};
  json["metrics"] = Json::array();
  for (const MetricComparison& m : report.metrics) json["metrics"].push_back(json_of(m));
  json["moved"] = Json::array();
  for (const size_t i : most_moved(report.metrics.front(), report.moved)) {
    json["moved"].push_back(report.sequences[i].id);
  }
  json["pipeline"] = Json::array();
  for (const PipelineDifference& d : report.pipeline) {
    json["pipeline"].push_back({{"key", d.key}, {"A", d.a}, {"B", d.b}});
  }
  json["sequences"] = Json::array();
  for (size_t i = 0; i < report.sequences.size(); ++i) {
    Json line = json_of(report.sequences[i]);
    for (const MetricComparison& m : report.metrics) {
      line["values"][m.name] = {{"A", json_number(m.a[i])}, {"B", json_number(m.b[i])}};
    }
    json["sequences"].push_back(line);
  }
  return dump(json);
}

}  // namespace ribo
