#include "train/floors.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/median.h"
#include "ribo/files.h"

namespace ribo {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxSequences = 20'000;
constexpr int64_t kMers = kTokens * kTokens * kTokens;

// Index of the 3-mer centred at i; beyond an end stands N.
int64_t mer_at(const int64_t* tokens, int64_t i, int64_t length) {
  const int64_t before = i > 0 ? tokens[i - 1] : kPadToken;
  const int64_t after = i + 1 < length ? tokens[i + 1] : kPadToken;
  return (before * kTokens + tokens[i]) * kTokens + after;
}

FloorTable fit(const Split& train, const std::string& target) {
  std::vector<std::vector<float>> by_mer;  // [T * kMers]
  std::vector<double> sum;
  std::vector<int64_t> count;
  const int64_t step = std::max<int64_t>(1, (train.size() + kMaxSequences - 1) / kMaxSequences);
  for (int64_t n = 0; n < train.size(); n += step) {
    const Streams sample = train.get(n, 0);
    const at::Tensor tokens = sample.tokens().contiguous();
    const at::Tensor values = sample.get("target." + target).to(at::kFloat).contiguous();
    const int64_t length = values.size(0), columns = values.size(1);
    sum.resize(static_cast<size_t>(columns));
    count.resize(static_cast<size_t>(columns));
    by_mer.resize(static_cast<size_t>(columns * kMers));
    const auto* t = tokens.const_data_ptr<int64_t>();
    const auto* v = values.const_data_ptr<float>();
    for (int64_t i = 0; i < length; ++i) {
      for (int64_t c = 0; c < columns; ++c) {
        const float x = v[i * columns + c];
        if (std::isnan(x)) continue;
        sum[static_cast<size_t>(c)] += x;
        ++count[static_cast<size_t>(c)];
        by_mer[static_cast<size_t>(c * kMers + mer_at(t, i, length))].push_back(x);
      }
    }
  }
  const auto columns = static_cast<int64_t>(sum.size());
  FloorTable table{{}, at::zeros({columns}), at::zeros({kMers, columns})};
  for (int64_t c = 0; c < columns; ++c) {
    const auto u = static_cast<size_t>(c);
    const auto mean =
        static_cast<float>(sum[u] / static_cast<double>(std::max<int64_t>(1, count[u])));
    table.mean[c] = mean;
    for (int64_t m = 0; m < kMers; ++m) {
      std::vector<float>& values = by_mer[static_cast<size_t>(c * kMers + m)];
      table.median[m][c] = values.empty() ? mean : median_of(values);
    }
  }
  return table;
}

// The columns that the model predicts, in its order; all of them where they have no names.
FloorTable select(const FloorTable& table, const std::string& target, const Shapes& shapes) {
  const auto& predicted = shapes.labels("pred." + target);
  const int64_t width = shapes.width("pred." + target);
  if (predicted.empty() || table.columns.empty()) {
    if (table.mean.size(0) == width) return table;
    throw Error(cat("the floors of target.", target, " have ", table.mean.size(0),
                    " columns, but the model predicts ", width));
  }
  std::vector<int64_t> columns;
  for (const std::string& label : predicted) {
    const auto it = std::find(table.columns.begin(), table.columns.end(), label);
    if (it == table.columns.end()) {
      throw Error(cat("pred.", target, ": no data for \"", label, "\""));
    }
    columns.push_back(it - table.columns.begin());
  }
  const at::Tensor index = at::tensor(columns, at::kLong);
  return {predicted, table.mean.index_select(0, index), table.median.index_select(1, index)};
}

// [B, L] indices into FloorTable::median.
at::Tensor mers_of(const at::Tensor& tokens, const at::Tensor& mask) {
  const at::Tensor t = tokens.masked_fill(mask.logical_not(), kPadToken);
  const at::Tensor edge = at::full({t.size(0), 1}, kPadToken, t.options());
  const at::Tensor wide = at::cat({edge, t, edge}, 1);
  const int64_t length = t.size(1);
  return (wide.narrow(1, 0, length) * kTokens + t) * kTokens + wide.narrow(1, 2, length);
}

std::vector<float> numbers_of(const at::Tensor& x) {
  const at::Tensor flat = x.contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

}  // namespace

FloorTables fit_floors(const Split& train, const std::vector<NamedMetric>& metrics,
                       const Shapes& shapes) {
  FloorTables tables;
  for (const NamedMetric& m : metrics) {
    const std::string target = m.metric->target();
    if (tables.contains(target)) continue;
    FloorTable& table = tables[target] = fit(train, target);
    table.columns = shapes.labels("target." + target);
  }
  return tables;
}

void write_floors(const std::filesystem::path& path, const FloorTables& tables) {
  Json targets = Json::object();
  for (const auto& [target, table] : tables) {
    targets[target] = {{"columns", table.columns},
                       {"mean", numbers_of(table.mean)},
                       {"median", numbers_of(table.median)}};
  }
  write_file_atomically(path, Json{{"targets", targets}}.dump() + "\n");
}

FloorTables read_floors(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(cat("cannot read ", path.string(), ": ", std::strerror(errno)));
  try {
    FloorTables tables;
    const Json file = Json::parse(in);
    for (const auto& [target, json] : file.at("targets").items()) {
      const auto mean = json.at("mean").get<std::vector<float>>();
      const auto median = json.at("median").get<std::vector<float>>();
      const auto columns = static_cast<int64_t>(mean.size());
      if (median.size() != mean.size() * static_cast<size_t>(kMers)) {
        throw Error(cat("\"median\" of \"", target, "\" has ", median.size(),
                        " numbers instead of ", kMers, " for each column"));
      }
      tables[target] = {json.at("columns").get<std::vector<std::string>>(),
                        at::tensor(mean, at::kFloat),
                        at::tensor(median, at::kFloat).view({kMers, columns})};
    }
    return tables;
  } catch (const std::exception& e) {
    throw Error(cat(path.string(), ": not the floors of a run: ", e.what()));
  }
}

std::vector<Floor> make_floors(const FloorTables& tables, const std::vector<NamedMetric>& metrics,
                               const Shapes& shapes) {
  FloorTables selected;
  for (const NamedMetric& m : metrics) {
    const std::string target = m.metric->target();
    const auto it = tables.find(target);
    if (it == tables.end()) throw Error(cat("there are no floors of target.", target));
    selected[target] = select(it->second, target, shapes);
  }
  const auto predict_mean = [selected](Streams& s) {
    for (const auto& [target, table] : selected) {
      const at::Tensor& tokens = s.tokens();
      s.set("pred." + target, table.mean.expand({tokens.size(0), tokens.size(1), -1}));
    }
  };
  const auto predict_median = [selected](Streams& s) {
    const at::Tensor mers = mers_of(s.tokens(), s.mask());
    for (const auto& [target, table] : selected) {
      s.set("pred." + target, table.median.index({mers}));
    }
  };
  return {{"mean", predict_mean}, {"3-mer median", predict_median}};
}

std::vector<std::vector<std::pair<std::string, double>>> score_floors(
    const std::vector<Floor>& floors, Loader& valid, const std::vector<NamedMetric>& metrics) {
  std::vector<std::vector<std::pair<std::string, double>>> out(metrics.size());
  for (const Floor& floor : floors) {
    const Evaluation scores = evaluate(valid, floor.predict, nullptr, metrics);
    for (size_t m = 0; m < metrics.size(); ++m) out[m].emplace_back(floor.name, scores.values[m]);
  }
  return out;
}

}  // namespace ribo
