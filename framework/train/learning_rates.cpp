#include "train/learning_rates.h"

#include "weights/glob.h"

namespace ribo {
namespace {

constexpr const char* kPath = "train.learning_rates";
constexpr double kMost = 1000;

}  // namespace

void check_learning_rates(const Value& rates, Diagnostics& diagnostics) {
  if (rates.is_null()) return;
  if (!rates.is_map()) {
    diagnostics.error(rates.mark, kPath,
                      cat("expected a map of patterns and factors such as {\"blocks.0.*\": 0.1}, "
                          "got ",
                          rates.describe()));
    return;
  }
  for (const auto& [pattern, mark, value] : rates.members) {
    double factor = 0;
    std::string wrong = read_value(value, factor);
    if (wrong.empty() && !(factor >= 0 && factor <= kMost)) {
      wrong = cat("must be in 0..", kMost, ", got ", factor);
    }
    if (!wrong.empty()) diagnostics.error(value.mark, cat(kPath, ".", pattern), wrong);
  }
}

void apply_learning_rates(const Value& rates, Parameters& parameters) {
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters) names.push_back(parameter.name);
  Diagnostics diagnostics;
  for (const auto& [pattern, mark, value] : rates.members) {
    double factor = 1;
    (void)read_value(value, factor);
    const std::vector<bool> chosen = glob_select(pattern, names, mark, kPath, diagnostics);
    for (size_t i = 0; i < names.size(); ++i) {
      if (chosen[i]) parameters[i].factor *= factor;
    }
  }
  diagnostics.throw_if_any();
}

}  // namespace ribo
