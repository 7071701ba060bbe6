#include "train/stream_specs.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "ribo/files.h"

namespace ribo {
namespace {

using Json = nlohmann::json;

constexpr at::ScalarType kTypes[] = {at::kLong, at::kInt,   at::kShort, at::kChar,    at::kByte,
                                     at::kBool, at::kFloat, at::kHalf,  at::kBFloat16, at::kDouble};

at::ScalarType type_called(const std::string& name) {
  for (const at::ScalarType type : kTypes) {
    if (name == c10::toString(type)) return type;
  }
  throw Error(cat("\"", name, "\" is no type of a stream"));
}

Json to_json(const StreamSpec& spec) {
  Json shape = Json::array();
  for (const int64_t d : spec.shape) shape.push_back(d == dim::length ? Json("L") : Json(d));
  return {{"name", spec.name},
          {"shape", shape},
          {"type", c10::toString(spec.type)},
          {"pad", std::isnan(spec.pad) ? Json() : Json(spec.pad)},
          {"labels", spec.labels}};
}

StreamSpec from_json(const Json& json) {
  StreamSpec spec;
  spec.name = json.at("name").get<std::string>();
  for (const Json& d : json.at("shape")) {
    spec.shape.push_back(d == "L" ? dim::length : d.get<int64_t>());
  }
  spec.type = type_called(json.at("type").get<std::string>());
  const Json& pad = json.at("pad");
  spec.pad = pad.is_null() ? std::numeric_limits<double>::quiet_NaN() : pad.get<double>();
  spec.labels = json.at("labels").get<std::vector<std::string>>();
  return spec;
}

}  // namespace

void write_stream_specs(const std::filesystem::path& path, const std::vector<StreamSpec>& specs) {
  Json streams = Json::array();
  for (const StreamSpec& spec : specs) streams.push_back(to_json(spec));
  write_file_atomically(path, Json{{"streams", streams}}.dump(2) + "\n");
}

std::vector<StreamSpec> read_stream_specs(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(cat("cannot read ", path.string(), ": ", std::strerror(errno)));
  try {
    const Json file = Json::parse(in);
    std::vector<StreamSpec> specs;
    for (const Json& json : file.at("streams")) specs.push_back(from_json(json));
    return specs;
  } catch (const std::exception& e) {
    throw Error(cat(path.string(), ": not the streams of a run: ", e.what()));
  }
}

}  // namespace ribo
