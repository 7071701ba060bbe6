#include "selection.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

namespace ribo::reactivity {
namespace {

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

int64_t index_of(const std::string& column, const std::string& stream,
                 const std::vector<std::string>& labels) {
  const auto it = std::find(labels.begin(), labels.end(), column);
  if (it == labels.end()) {
    throw ConfigError(cat("columns: \"", stream, "\" has no column \"", column, "\"",
                          did_you_mean(column, labels),
                          "; it has: ", labels.empty() ? "columns without names" : join(labels)));
  }
  return it - labels.begin();
}

at::Tensor pick(const at::Tensor& x, const std::vector<int64_t>& columns) {
  bool all = static_cast<int64_t>(columns.size()) == x.size(-1);
  for (size_t i = 0; i < columns.size(); ++i) all = all && columns[i] == static_cast<int64_t>(i);
  return all ? x : x.index_select(-1, at::tensor(columns).to(x.device()));
}

}  // namespace

void Comparison::resolve(Shapes& shapes) {
  const std::string pred = "pred." + selection_.target, target = "target." + selection_.target;
  const int64_t predicted = shapes.need(pred, 3).back(), measured = shapes.need(target, 3).back();
  shapes.need("mask", 2);
  const auto& pred_labels = shapes.labels(pred);
  const auto& target_labels = shapes.labels(target);
  const auto& wanted = selection_.columns.empty() ? pred_labels : selection_.columns;
  in_pred_.clear();
  in_target_.clear();
  if (wanted.empty() || (selection_.columns.empty() && target_labels.empty())) {
    // Columns without names are matched by their places.
    if (predicted != measured) {
      throw ConfigError(cat("\"", pred, "\" has ", predicted, " columns, \"", target, "\" has ",
                            measured, ", and they have no names to match them by"));
    }
    in_pred_.resize(static_cast<size_t>(predicted));
    std::iota(in_pred_.begin(), in_pred_.end(), 0);
    in_target_ = in_pred_;
    return;
  }
  for (const std::string& column : wanted) {
    in_target_.push_back(index_of(column, target, target_labels));
    in_pred_.push_back(index_of(column, pred, pred_labels));
  }
}

Pairs Comparison::pairs(const Streams& streams, at::ScalarType least) const {
  const at::Tensor& all_pred = streams.get("pred." + selection_.target);
  const at::Tensor& all_target = streams.get("target." + selection_.target);
  const at::Tensor pred = pick(all_pred, in_pred_);
  const at::Tensor target = pick(all_target, in_target_);

  Pairs out;
  out.valid = target.isnan().logical_not_().logical_and_(streams.mask().unsqueeze(-1));
  if (both_) out.valid = out.valid.all(-1, /*keepdim=*/true).expand_as(target);
  const at::Tensor invalid = out.valid.logical_not();
  const at::ScalarType type = at::promote_types(pred.scalar_type(), least);
  out.pred = pred.to(type).masked_fill(invalid, 0);
  out.target = target.to(type).masked_fill(invalid, 0);
  return out;
}

}  // namespace ribo::reactivity
