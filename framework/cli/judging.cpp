#include "cli/judging.h"

#include "cli/pace.h"
#include "cli/stoppable.h"

namespace ribo::cli {
po::options_description judging_options() {
  po::options_description options("Options");
  options.add_options()("data", po::value<std::vector<std::string>>()->multitoken()->composing(),
                        "files to judge on, instead of those of the run's split")(
      "split", po::value<std::string>()->default_value("valid"), "valid, test or train")(
      "set", po::value<std::vector<std::string>>()->composing(),
      "a.b[2].c=value: change the run's pipeline (repeatable)")(
      "flip", po::value<std::string>()->default_value("auto"),
      "mean over both directions: yes, no; auto = as the run was validated")(
      "device", po::value<std::string>()->default_value("auto"), "cpu, cuda or cuda:0")(
      "bootstrap", po::value<int64_t>()->default_value(2000),
      "resamples for each interval, and permutations for each p-value")(
      "out,o", po::value<std::string>(),
      "a JSON file with everything, values of each sequence included; - prints it instead of "
      "tables");
  return options;
}

JudgeOptions judge_options(const po::variables_map& values) {
  JudgeOptions options;
  options.data.split = values["split"].as<std::string>();
  if (const std::string& s = options.data.split; s != "valid" && s != "test" && s != "train") {
    throw ConfigError(cat("--split ", s, ": expected valid, test or train"));
  }
  options.data.files = data_files(values);
  if (values.count("set")) options.sets = values["set"].as<std::vector<std::string>>();
  options.plugin_path = plugin_path(values);
  options.flip = flip_option(values["flip"].as<std::string>());
  options.device = values["device"].as<std::string>();
  options.resampling.count = values["bootstrap"].as<int64_t>();
  if (options.resampling.count < 100) {
    throw ConfigError(cat("--bootstrap ", options.resampling.count,
                          ": an interval of 95 % needs at least 100 resamples"));
  }
  return options;
}

int give_answer(const po::variables_map& values,
                const std::function<Answer(const JudgeOptions&)>& judge) {
  const std::string out = values.count("out") ? values["out"].as<std::string>() : "";
  JudgeOptions options = judge_options(values);
  Answer answer;
  const int status = write_stoppable(out.empty() ? "-" : out, [&](const Sink& sink) {
    Pace pace(0, values.count("quiet") > 0);
    options.start = [&](int64_t sequences) { pace.start(sequences); };
    options.advance = [&](int64_t sequences, int64_t nucleotides) {
      pace.add(sequences, nucleotides);
      stop_if_asked();
    };
    options.resampling.before_each = stop_if_asked;
    answer = judge(options);
    stop_if_asked();
    pace.clear();
    sink(out.empty() ? answer.text : answer.json);
  });
  if (status != 0 || out.empty() || out == "-") return status;
  return write_stoppable("-", [&](const Sink& sink) { sink(answer.text); });
}

}  // namespace ribo::cli
