#include "cli/judging.h"
#include "report/compare_runs.h"

namespace ribo::cli {
namespace {

constexpr const char* kUsage =
    "Usage: ribo-run compare A B [options], or for seeds: ribo-run compare A1 A2 --with B1 B2\n"
    "Scores trained models on the same sequences and says which side is better, if the data can "
    "tell.\n"
    "A run stands for its best checkpoint. See docs/evaluating.md.\n";

using Paths = std::vector<std::filesystem::path>;

Paths paths_of(const po::variables_map& values, const char* option) {
  if (!values.count(option)) return {};
  const auto& words = values[option].as<std::vector<std::string>>();
  return {words.begin(), words.end()};
}

}  // namespace

int compare(const Arguments& arguments) {
  po::options_description options = judging_options();
  options.add_options()("trained", po::value<std::vector<std::string>>()->required(),
                        "run directories, or folders in their checkpoints/")(
      "with", po::value<std::vector<std::string>>()->multitoken()->composing(),
      "those of side B, where a side has several seeds")(
      "moved", po::value<int64_t>()->default_value(10), "sequences to list that moved most");
  po::variables_map values;
  if (!parse(arguments, kUsage, options, "trained...", values)) return 0;
  apply_common(values);
  Paths a = paths_of(values, "trained"), b = paths_of(values, "with");
  if (b.empty()) {
    if (a.size() != 2) {
      throw ConfigError(cat("compare: say two runs, or those of side B behind --with; got ",
                            a.size(), a.size() == 1 ? " run" : " runs"));
    }
    b = {a.back()};
    a.pop_back();
  }
  const int64_t moved = values["moved"].as<int64_t>();
  if (moved < 0) throw ConfigError(cat("--moved ", moved, ": must be at least 0"));
  return give_answer(values, [&](const JudgeOptions& judge) {
    const ComparisonReport report = compare_runs(a, b, judge, static_cast<size_t>(moved));
    return Answer{to_text(report), to_json(report)};
  });
}

}  // namespace ribo::cli
