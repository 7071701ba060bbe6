#include "train/floors.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace ribo {
namespace {

constexpr int64_t kMaxSequences = 20'000;
constexpr int64_t kMers = kTokens * kTokens * kTokens;

// Index of the 3-mer centred at i; beyond an end stands N.
int64_t mer_at(const int64_t* tokens, int64_t i, int64_t length) {
  const int64_t before = i > 0 ? tokens[i - 1] : kPadToken;
  const int64_t after = i + 1 < length ? tokens[i + 1] : kPadToken;
  return (before * kTokens + tokens[i]) * kTokens + after;
}

struct Table {
  at::Tensor mean;    // [T]
  at::Tensor median;  // [kMers, T]
};

float median_of(std::vector<float>& v, float otherwise) {
  if (v.empty()) return otherwise;
  const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  return *middle;
}

Table fit(const Split& train, const std::string& target) {
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
  Table table{at::zeros({columns}), at::zeros({kMers, columns})};
  for (int64_t c = 0; c < columns; ++c) {
    const auto u = static_cast<size_t>(c);
    const auto mean = static_cast<float>(sum[u] / static_cast<double>(std::max<int64_t>(1, count[u])));
    table.mean[c] = mean;
    for (int64_t m = 0; m < kMers; ++m) {
      table.median[m][c] = median_of(by_mer[static_cast<size_t>(c * kMers + m)], mean);
    }
  }
  return table;
}

// The columns that the model predicts, in its order; all of them where they have no names.
Table select(Table table, const std::string& target, const Shapes& shapes) {
  const auto& predicted = shapes.labels("pred." + target);
  const auto& measured = shapes.labels("target." + target);
  if (predicted.empty() || measured.empty()) return table;
  std::vector<int64_t> columns;
  for (const std::string& label : predicted) {
    const auto it = std::find(measured.begin(), measured.end(), label);
    if (it == measured.end()) throw Error(cat("pred.", target, ": no data for \"", label, "\""));
    columns.push_back(it - measured.begin());
  }
  const at::Tensor index = at::tensor(columns, at::kLong);
  return {table.mean.index_select(0, index), table.median.index_select(1, index)};
}

// [B, L] indices into Table::median.
at::Tensor mers_of(const at::Tensor& tokens, const at::Tensor& mask) {
  const at::Tensor t = tokens.masked_fill(mask.logical_not(), kPadToken);
  const at::Tensor edge = at::full({t.size(0), 1}, kPadToken, t.options());
  const at::Tensor wide = at::cat({edge, t, edge}, 1);
  const int64_t length = t.size(1);
  return (wide.narrow(1, 0, length) * kTokens + t) * kTokens + wide.narrow(1, 2, length);
}

}  // namespace

std::vector<std::vector<std::pair<std::string, double>>> compute_floors(
    const Split& train, Loader& valid, const std::vector<NamedMetric>& metrics,
    const Shapes& shapes) {
  std::map<std::string, Table> tables;
  for (const NamedMetric& m : metrics) {
    if (!tables.contains(m.metric->target())) {
      tables[m.metric->target()] =
          select(fit(train, m.metric->target()), m.metric->target(), shapes);
    }
  }
  const auto predict_mean = [&](Streams& s) {
    for (const auto& [target, table] : tables) {
      const at::Tensor& tokens = s.tokens();
      s.set("pred." + target, table.mean.expand({tokens.size(0), tokens.size(1), -1}));
    }
  };
  const auto predict_median = [&](Streams& s) {
    const at::Tensor mers = mers_of(s.tokens(), s.mask());
    for (const auto& [target, table] : tables) s.set("pred." + target, table.median.index({mers}));
  };
  const Evaluation mean = evaluate(valid, predict_mean, nullptr, metrics);
  const Evaluation median = evaluate(valid, predict_median, nullptr, metrics);
  std::vector<std::vector<std::pair<std::string, double>>> out(metrics.size());
  for (size_t m = 0; m < metrics.size(); ++m) {
    out[m] = {{"mean", mean.values[m]}, {"3-mer median", median.values[m]}};
  }
  return out;
}

}  // namespace ribo
