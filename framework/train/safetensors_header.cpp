#include "train/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

namespace ribo {
namespace {

using nlohmann::json;

constexpr const char* metadata_key = "__metadata__";
constexpr int max_depth = 3;     // the file's map, a tensor's map, a list
constexpr size_t max_rank = 64;  // of at::TensorIterator

// nlohmann::json keeps the last of two equal keys; here that would hide a tensor.
json parse_strictly(std::string_view text) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&keys](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
      if (depth >= max_depth) throw Error("the header is nested too deeply");
      keys.emplace_back();
    } else if (event == json::parse_event_t::object_end ||
               event == json::parse_event_t::array_end) {
      keys.pop_back();
    } else if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) throw Error(cat("the name `", key, "` comes twice"));
    }
    return true;
  };
  return json::parse(text.begin(), text.end(), watch);
}

uint64_t unsigned_number(const json& value, const char* what) {
  if (!value.is_number_unsigned()) throw Error(cat(what, " holds `", value.dump(), "`"));
  return value.get<uint64_t>();
}

const json& member(const json& map, const char* key, json::value_t type) {
  const auto found = map.find(key);
  if (found == map.end() || found->type() != type) throw Error(cat("`", key, "` is missing"));
  return *found;
}

SafetensorsEntry parse_entry(const std::string& name, const json& value, uint64_t data_bytes) {
  if (!value.is_object()) throw Error("is not described by a map");
  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = member(value, "dtype", json::value_t::string).get<std::string>();
  uint64_t bytes = safetensors_element_size(entry.dtype);
  if (bytes == 0) throw Error(cat("the dtype ", entry.dtype, " is not supported"));

  const json& shape = member(value, "shape", json::value_t::array);
  if (shape.size() > max_rank) throw Error(cat("has ", shape.size(), " dimensions"));
  // Strides multiply the non-zero dimensions even of an empty tensor, so those must fit as well.
  uint64_t extent = bytes;
  for (const json& dimension : shape) {
    const uint64_t size = unsigned_number(dimension, "the shape");
    const uint64_t factor = std::max<uint64_t>(size, 1);
    if (factor > uint64_t{std::numeric_limits<int64_t>::max()} / extent) {
      throw Error("the shape is too large");
    }
    extent *= factor;
    bytes *= size;
    entry.shape.push_back(static_cast<int64_t>(size));
  }

  const json& offsets = member(value, "data_offsets", json::value_t::array);
  if (offsets.size() != 2) throw Error("`data_offsets` is not a pair");
  entry.begin = unsigned_number(offsets[0], "`data_offsets`");
  entry.end = unsigned_number(offsets[1], "`data_offsets`");
  if (entry.begin > entry.end || entry.end > data_bytes) {
    throw Error(cat("its bytes ", entry.begin, "..", entry.end, " lie outside the file's ",
                    data_bytes, " bytes of data; the file is truncated or damaged"));
  }
  if (entry.end - entry.begin != bytes) {
    throw Error(
        cat("has ", entry.end - entry.begin, " bytes, but its shape and dtype need ", bytes));
  }
  return entry;
}

void check_cover(const std::vector<SafetensorsEntry>& entries, uint64_t data_bytes) {
  uint64_t position = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != position) {
      throw Error(cat("tensor `", entry.name, "`: its bytes ",
                      entry.begin < position ? "overlap with" : "leave a hole after",
                      " those of the tensor before it"));
    }
    position = entry.end;
  }
  if (position != data_bytes) {
    throw Error(cat("its tensors end after ", position, " of ", data_bytes, " bytes of data"));
  }
}

}  // namespace

uint64_t safetensors_element_size(std::string_view dtype) {
  static const std::map<std::string_view, uint64_t> sizes = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
      {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U8", 1},   {"BOOL", 1}};
  const auto found = sizes.find(dtype);
  return found == sizes.end() ? 0 : found->second;
}

SafetensorsHeader parse_safetensors_header(std::string_view text, uint64_t data_bytes) {
  SafetensorsHeader header;
  json root;
  try {
    root = parse_strictly(text);
  } catch (const json::exception& e) {
    // The message quotes the last token, which may be as long as the header.
    throw Error(cat("the header is not valid JSON: ", std::string(e.what()).substr(0, 200)));
  }
  if (!root.is_object()) throw Error("the header is not a map");
  for (const auto& [name, value] : root.items()) {
    if (name == metadata_key) {
      if (!value.is_object()) throw Error("`__metadata__` is not a map");
      for (const auto& [key, entry] : value.items()) {
        if (!entry.is_string()) throw Error(cat("`__metadata__.", key, "` is not a string"));
        header.metadata[key] = entry.get<std::string>();
      }
      continue;
    }
    try {
      header.entries.push_back(parse_entry(name, value, data_bytes));
    } catch (const Error& e) {
      throw Error(cat("tensor `", name, "`: ", e.what()));
    }
  }
  std::sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  check_cover(header.entries, data_bytes);
  return header;
}

std::string safetensors_header_json(const SafetensorsHeader& header) {
  nlohmann::ordered_json root = nlohmann::ordered_json::object();
  std::string text;
  try {
    if (!header.metadata.empty()) root[metadata_key] = header.metadata;
    for (const SafetensorsEntry& entry : header.entries) {
      if (entry.name == metadata_key) throw Error("no tensor may be called `__metadata__`");
      root[entry.name] = {{"dtype", entry.dtype},
                          {"shape", entry.shape},
                          {"data_offsets", {entry.begin, entry.end}}};
    }
    text = root.dump();
  } catch (const json::exception&) {
    throw Error("a name or the metadata is not UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > max_safetensors_header) throw Error("the header would exceed 16 MiB");
  return text;
}

}  // namespace ribo
