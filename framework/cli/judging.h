// What `evaluate` and `compare` share: their options, and where their answers go.
#pragma once

#include <functional>
#include <string>

#include "cli/verbs.h"
#include "report/evaluate_run.h"

namespace ribo::cli {

/// --data, --split, --set, --flip, --device, --bootstrap, --out.
po::options_description judging_options();
/// Throws ConfigError.
JudgeOptions judge_options(const po::variables_map& values);

struct Answer {
  std::string text, json;
};

/// Calls `judge` with the options of the command line, its progress shown, and writes the answer:
/// the text to standard output and the JSON to --out, or with `--out -` the JSON alone. Whether
/// --out can be written is known before anything is computed. Returns the exit status.
int give_answer(const po::variables_map& values,
                const std::function<Answer(const JudgeOptions&)>& judge);

}  // namespace ribo::cli
