#include "openvaccine/row_reader.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "common/letters.h"
#include "ribo/config.h"

namespace ribo {
namespace {

using Json = nlohmann::json;

// One line of a file, and the reading of its keys with errors that name the place.
class Line {
 public:
  Line(std::string place, const std::string& text) : place_(std::move(place)) {
    try {
      json_ = Json::parse(text);
    } catch (const Json::parse_error& e) {
      // "[json.exception.parse_error.101] parse error at line 1, column 5: <what>"
      const std::string_view message = e.what();
      const size_t what = message.find(": ");
      fail(cat("not valid JSON at column ", e.byte, ": ",
               message.substr(what == std::string_view::npos ? 0 : what + 2)));
    } catch (const Json::exception& e) {  // a number beyond every double
      fail(cat("not readable: ", e.what()));
    }
    if (!json_.is_object()) fail("not a JSON object; write one object {...} on each line");
  }

  [[noreturn]] void fail(std::string_view what) const { throw Error(cat(place_, ": ", what)); }

  bool has(std::string_view key) const { return json_.contains(key); }

  const Json& need(const std::string& key) const {
    const auto it = json_.find(key);
    if (it != json_.end()) return *it;
    std::vector<std::string> keys;
    for (const auto& item : json_.items()) keys.push_back(item.key());
    fail(cat("the key `", key, "` is missing", did_you_mean(key, keys)));
  }

  std::string text(const std::string& key) const {
    const Json& value = need(key);
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
      fail(cat("`", key, "` must be a text that is not empty"));
    }
    return value.get<std::string>();
  }

  size_t count(const std::string& key) const {
    const Json& value = need(key);
    if (!value.is_number_unsigned()) fail(cat("`", key, "` must be a whole number"));
    return value.get<size_t>();
  }

  float number(const Json& value, std::string_view key) const {
    if (value.is_null()) return std::numeric_limits<float>::quiet_NaN();
    if (!value.is_number() || !std::isfinite(value.get<float>())) {
      fail(cat("`", value.dump(), "` in `", key,
               "` is not a number; write null where nothing was "
               "measured"));
    }
    return value.get<float>();
  }

  const Json& list(const std::string& key, size_t length) const {
    const Json& value = need(key);
    if (!value.is_array() || value.size() != length) {
      fail(cat("`", key, "` has ", value.is_array() ? value.size() : 0,
               " values, but seq_scored is ", length, "; give one for each scored position"));
    }
    return value;
  }

 private:
  std::string place_;
  Json json_;
};

// The lists of these keys side by side, [scored, 5]; NaN for one that is `optional` and not there.
std::vector<float> read_lists(const Line& line, const std::array<std::string_view, 5>& keys,
                              size_t scored, bool optional) {
  std::vector<float> out(scored * keys.size(), std::numeric_limits<float>::quiet_NaN());
  for (size_t k = 0; k < keys.size(); ++k) {
    const std::string key(keys[k]);
    if (optional && !line.has(key)) continue;
    size_t at = k;
    for (const Json& value : line.list(key, scored)) {
      out[at] = line.number(value, key);
      at += keys.size();
    }
  }
  return out;
}

OpenVaccineRow read_row(const Line& line, bool labels_required) {
  OpenVaccineRow row;
  row.id = line.text(line.has("id") || !line.has("seq_id") ? "id" : "seq_id");
  const std::string letters = line.text("sequence");
  if (const auto bad = encode_letters(letters, row.tokens)) line.fail(bad_letter(letters, *bad));
  if (const size_t length = line.count("seq_length"); length != letters.size()) {
    line.fail(cat("the sequence has ", letters.size(), " letters, but seq_length is ", length));
  }
  const size_t scored = line.count("seq_scored");
  if (scored > letters.size()) {
    line.fail(cat("seq_scored is ", scored, ", more than the ", letters.size(), " letters"));
  }
  bool labelled = labels_required;
  for (const auto key : kOpenVaccineTargets) labelled = labelled || line.has(key);
  if (labelled || line.has("signal_to_noise")) {
    row.signal_to_noise = line.number(line.need("signal_to_noise"), "signal_to_noise");
  } else {
    row.signal_to_noise = std::numeric_limits<float>::quiet_NaN();
  }
  if (!labelled) return row;
  row.sn_filter = line.number(line.need("SN_filter"), "SN_filter") == 1;
  row.targets = read_lists(line, kOpenVaccineTargets, scored, /*optional=*/false);
  row.errors = read_lists(line, kOpenVaccineErrors, scored, /*optional=*/true);
  return row;
}

}  // namespace

std::vector<OpenVaccineRow> read_openvaccine(const Paths& files, bool labels_required) {
  std::vector<OpenVaccineRow> rows;
  std::unordered_map<std::string, std::string> places;  // of each id
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    if (!in) throw Error(cat("cannot read ", file.string(), ": ", std::strerror(errno)));
    const size_t rows_before = rows.size();
    std::string text;
    for (size_t number = 1; std::getline(in, text); ++number) {
      if (number == 1 && text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
      const std::string place = cat(file.string(), ":", number);
      const Line line(place, text);
      rows.push_back(read_row(line, labels_required));
      const auto [it, is_new] = places.emplace(rows.back().id, place);
      if (!is_new) {
        line.fail(cat("the id `", rows.back().id, "` stands already at ", it->second,
                      "; remove one of the two"));
      }
    }
    if (in.bad()) throw Error(cat("cannot read ", file.string(), ": ", std::strerror(errno)));
    if (rows.size() == rows_before) {
      throw Error(cat(file.string(), ":1: the file is empty; it needs one JSON object a line"));
    }
  }
  return rows;
}

}  // namespace ribo
