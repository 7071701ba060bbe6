// Trained models against each other on the same sequences, as `ribo-run compare` asks for it.
#pragma once

#include <filesystem>
#include <vector>

#include "report/comparison_report.h"
#include "report/evaluate_run.h"

namespace ribo {

/// Scores both sides, each one or several seeds of a training, batch by batch in turns: they see
/// the same sequences, and their speeds are those of the same minutes. Throws as evaluate_run(),
/// and ConfigError where metrics, targets, sequences or measured values differ between the runs.
ComparisonReport compare_runs(const std::vector<std::filesystem::path>& a,
                              const std::vector<std::filesystem::path>& b,
                              const JudgeOptions& options, size_t moved);

}  // namespace ribo
