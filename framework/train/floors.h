// What predictors that know next to nothing reach: the floors that a model must beat.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "train/evaluate.h"

namespace ribo {

/// For each metric: {"mean", "3-mer median"} with the metric's value on `valid` when every position
/// is predicted by the training mean of its column, or by the training median of its column over
/// the positions with the same three letters around them. Fitted on at most 20,000 sequences,
/// spread evenly over the training split. `shapes`: the plan's result, whose pred.* streams the
/// floors imitate column by column.
std::vector<std::vector<std::pair<std::string, double>>> compute_floors(
    const Split& train, Loader& valid, const std::vector<NamedMetric>& metrics,
    const Shapes& shapes);

}  // namespace ribo
