// What predictors that know next to nothing reach: the floors that a model must beat.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "train/evaluate.h"

namespace ribo {

/// What the floors know of one target: of each of its columns, whose names are `columns` (empty
/// where they have none), the training mean [T] and the training median of each 3-mer [125, T].
struct FloorTable {
  std::vector<std::string> columns;
  at::Tensor mean, median;  // float
};
using FloorTables = std::map<std::string, FloorTable>;  // by target

/// Fitted to the metrics' targets on at most 20,000 sequences, spread evenly over the training
/// split. `shapes`: the plan's result, which names the columns.
FloorTables fit_floors(const Split& train, const std::vector<NamedMetric>& metrics,
                       const Shapes& shapes);

/// A run keeps them (floors.json), for its training data may be gone when it is judged. What is
/// read equals what was written. Both throw Error.
void write_floors(const std::filesystem::path& path, const FloorTables& tables);
FloorTables read_floors(const std::filesystem::path& path);

struct Floor {
  std::string name;
  std::function<void(Streams&)> predict;  // sets pred.* of every table's target, on the CPU
};

/// "mean": every position is predicted by the training mean of its column; "3-mer median": by the
/// training median of its column over the positions with the same three letters around them. They
/// imitate the pred.* streams of `shapes` column by column. Throws Error where `tables` lack a
/// target of the metrics or a column.
std::vector<Floor> make_floors(const FloorTables& tables, const std::vector<NamedMetric>& metrics,
                               const Shapes& shapes);

/// For each metric each floor's name and its value on the loader's split.
std::vector<std::vector<std::pair<std::string, double>>> score_floors(
    const std::vector<Floor>& floors, Loader& valid, const std::vector<NamedMetric>& metrics);

}  // namespace ribo
