#include "report/run_record.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/median.h"

namespace ribo {
namespace {

using Json = nlohmann::json;

double number(const Json& event, const char* key, double otherwise) {
  const auto it = event.find(key);
  return it != event.end() && it->is_number() ? it->get<double>() : otherwise;
}

std::string text(const Json& event, const char* key) {
  const auto it = event.find(key);
  return it != event.end() && it->is_string() ? it->get<std::string>() : "";
}

}  // namespace

RunRecord read_run_record(const std::filesystem::path& run) {
  RunRecord record;
  std::ifstream in(run / "metrics.jsonl");
  record.found = in.is_open();
  std::vector<double> speeds;
  // A validation lies between two updates now and then, hence the median.
  double before = std::numeric_limits<double>::quiet_NaN();
  for (std::string line; std::getline(in, line);) {
    const Json event = Json::parse(line, nullptr, false);
    if (!event.is_object()) continue;
    const std::string kind = text(event, "event");
    if (kind == "start") {
      record.device = text(event, "device");
      record.reason.clear();
      before = std::numeric_limits<double>::quiet_NaN();
    } else if (kind == "update") {
      const double seconds = number(event, "seconds", before);
      record.updates = static_cast<int64_t>(number(event, "update", 0));
      record.seconds = seconds;
      if (seconds > before) speeds.push_back(number(event, "sequences", 0) / (seconds - before));
      before = seconds;
    } else if (kind == "finish") {
      record.reason = text(event, "reason");
      record.updates = static_cast<int64_t>(number(event, "update", 0));
      record.seconds = number(event, "seconds", record.seconds);
      record.peak_memory =
          std::max(record.peak_memory, static_cast<int64_t>(number(event, "peak_memory", 0)));
    }
  }
  record.sequences_per_second = std::numeric_limits<double>::quiet_NaN();
  if (!speeds.empty()) record.sequences_per_second = median_of(speeds);
  return record;
}

}  // namespace ribo
