#include "cli/judging.h"

namespace ribo::cli {
namespace {

constexpr const char* kUsage =
    "Usage: ribo-run evaluate RUN|CHECKPOINT [options]\n"
    "Scores a trained model with the metrics of its pipeline, with intervals, by length, quality "
    "and\n"
    "target, beside the floors. A run stands for its best checkpoint. See docs/evaluating.md.\n";

}  // namespace

int evaluate(const Arguments& arguments) {
  po::options_description options = judging_options();
  options.add_options()("trained", po::value<std::string>()->required(),
                        "a run directory, or a folder in its checkpoints/");
  po::variables_map values;
  if (!parse(arguments, kUsage, options, "trained", values)) return 0;
  apply_common(values);
  return give_answer(values, [&](const JudgeOptions& judge) {
    const EvaluationReport report = evaluate_run(values["trained"].as<std::string>(), judge);
    return Answer{to_text(report), to_json(report)};
  });
}

}  // namespace ribo::cli
