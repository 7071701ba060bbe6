#include "openvaccine/openvaccine_source.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/hash.h"
#include "common/overlap.h"
#include "common/sample.h"

namespace ribo {
namespace {

using Rows = std::vector<OpenVaccineRow>;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr auto kColumns = static_cast<int64_t>(kOpenVaccineTargets.size());

class OpenVaccineSplit final : public Split {
 public:
  OpenVaccineSplit(Rows rows, const std::vector<double>& clip) : rows_(std::move(rows)) {
    if (clip.empty()) return;
    const auto low = static_cast<float>(clip[0]), high = static_cast<float>(clip[1]);
    for (OpenVaccineRow& row : rows_) {
      // NaN passes std::clamp as it is.
      for (float& value : row.targets) value = std::clamp(value, low, high);
    }
  }

  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  int64_t length(int64_t i) const override { return static_cast<int64_t>(at(i).tokens.size()); }
  std::string id(int64_t i) const override { return at(i).id; }

  Streams get(int64_t i, uint64_t /*draw*/) const override {
    const OpenVaccineRow& row = at(i);
    ProfileSample sample = profile_sample(row.tokens, kColumns, 1);
    std::copy(row.targets.begin(), row.targets.end(), sample.reactivity);
    *sample.signal_to_noise = row.signal_to_noise;
    at::Tensor error = at::full({length(i), kColumns}, kNaN);
    std::copy(row.errors.begin(), row.errors.end(), error.mutable_data_ptr<float>());
    sample.streams.set("error.reactivity", std::move(error));
    return std::move(sample.streams);
  }

 private:
  const OpenVaccineRow& at(int64_t i) const { return rows_.at(static_cast<size_t>(i)); }

  Rows rows_;
};

// Moves round(fraction * candidates) rows out of `rows`: those of the lowest hash of id and seed,
// so that the choice depends on neither the files' order nor the run.
Rows hold_out(Rows& rows, double fraction, uint64_t seed, bool require_sn_filter) {
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string& id = rows[i].id;
    if (rows[i].sn_filter || !require_sn_filter) {
      order.emplace_back(hash64(id.data(), id.size(), seed), i);
    }
  }
  std::sort(order.begin(), order.end());
  order.resize(static_cast<size_t>(std::lround(fraction * static_cast<double>(order.size()))));
  std::vector<bool> held(rows.size());
  for (const auto& [hash, i] : order) held[i] = true;
  Rows kept, out;
  for (size_t i = 0; i < rows.size(); ++i) (held[i] ? out : kept).push_back(std::move(rows[i]));
  rows = std::move(kept);
  return out;
}

}  // namespace

Schema<OpenVaccineSource::Options> OpenVaccineSource::schema() {
  Schema<Options> s(
      "Reactivity and four degradation profiles from JSON lines in the format of Kaggle's "
      "OpenVaccine (train.json); only the first seq_scored positions have labels. Their errors, "
      "where the files have them, are the stream error.reactivity.");
  s.param("train", &Options::train, "JSON-lines files of the training split");
  s.param("valid", &Options::valid,
          "JSON-lines files of the validation split; without any, valid_fraction is held out");
  s.param("test", &Options::test,
          "JSON-lines files of the test split, used whole; may lack labels");
  s.param("valid_fraction", &Options::valid_fraction,
          "without `valid`: the share of the training files' rows held out, chosen by id and "
          "split_seed; 0 for none")
      .range(0, 0.9);
  s.param("split_seed", &Options::split_seed,
          "chooses the rows that are held out; independent of the run's seed, so that all runs "
          "validate on the same rows");
  s.param("train_require_sn_filter", &Options::train_require_sn_filter,
          "train only on rows with SN_filter = 1");
  s.param("valid_require_sn_filter", &Options::valid_require_sn_filter,
          "validate only on rows with SN_filter = 1");
  s.param("clip", &Options::clip, "[lowest, highest] label; [] keeps labels as measured")
      .size(0, 2);
  s.check([](const Options& o) -> std::string {
    if (o.train.empty() && o.valid.empty() && o.test.empty()) {
      return "no files; give at least one of train, valid, test";
    }
    if (o.clip.size() == 1 || (o.clip.size() == 2 && !(o.clip[0] < o.clip[1]))) {
      return "clip must be [lowest, highest], or [] for none";
    }
    return "";
  });
  return s;
}

OpenVaccineSource::OpenVaccineSource(const Options& options, const DataContext& context)
    : options_(options) {
  const auto load = [&](const std::vector<std::string>& names, const std::string& key) {
    const Paths files = find_inputs(names, context.base, key);
    Rows rows = read_openvaccine(files, key != "test");
    const auto passed = std::count_if(rows.begin(), rows.end(),
                                      [](const OpenVaccineRow& row) { return row.sn_filter; });
    report_.push_back(
        cat(names_of(files), ": ", rows.size(), " sequences, ", passed, " with SN_filter = 1"));
    return rows;
  };
  const auto filter = [](Rows& rows, bool require_sn_filter) {
    if (!require_sn_filter) return;
    std::erase_if(rows, [](const OpenVaccineRow& row) { return !row.sn_filter; });
  };
  if (!options.train.empty()) {
    Rows rows = load(options.train, "train");
    if (options.valid.empty() && options.valid_fraction > 0) {
      Rows held = hold_out(rows, options.valid_fraction, static_cast<uint64_t>(options.split_seed),
                           options.valid_require_sn_filter);
      const size_t read = held.size();
      add_split("valid", std::move(held), read, "raise valid_fraction, or set it to 0");
    }
    const size_t read = rows.size();
    filter(rows, options.train_require_sn_filter);
    add_split("train", std::move(rows), read, "set train_require_sn_filter: false");
  }
  if (!options.valid.empty()) {
    Rows rows = load(options.valid, "valid");
    const size_t read = rows.size();
    filter(rows, options.valid_require_sn_filter);
    add_split("valid", std::move(rows), read, "set valid_require_sn_filter: false");
  }
  if (!options.test.empty()) {
    Rows rows = load(options.test, "test");
    const size_t read = rows.size();
    add_split("test", std::move(rows), read, "give other files");
  }
  const uint64_t shared = count_shared(hashes_["train"], hashes_["valid"]);
  if (shared > 0) report_.push_back(cat("valid: ", shared, " sequences also occur in train"));
}

void OpenVaccineSource::add_split(const std::string& name, Rows rows, size_t read,
                                  const std::string& remedy) {
  if (rows.empty()) {
    throw Error(cat(name, ": none of ", read, " sequences is left; ", remedy));
  }
  report_.push_back(cat(
      name, ": ", rows.size(), " sequences",
      rows.size() < read ? cat("; dropped: ", read - rows.size(), " without SN_filter = 1") : ""));
  for (const OpenVaccineRow& row : rows) {
    hashes_[name].push_back(hash64(row.tokens.data(), row.tokens.size()));
  }
  splits_[name] = std::make_shared<OpenVaccineSplit>(std::move(rows), options_.clip);
}

std::vector<StreamSpec> OpenVaccineSource::streams() const {
  const std::vector<std::string> columns(kOpenVaccineTargets.begin(), kOpenVaccineTargets.end());
  return {
      {"tokens", {dim::length}, at::kLong, static_cast<double>(kPadToken), {}},
      {"target.reactivity", {dim::length, kColumns}, at::kFloat, kNaN, columns},
      {"error.reactivity", {dim::length, kColumns}, at::kFloat, kNaN, columns},
      {"signal_to_noise", {1}, at::kFloat, kNaN, {}},
  };
}

std::shared_ptr<const Split> OpenVaccineSource::split(std::string_view name) const {
  const auto it = splits_.find(name);
  return it == splits_.end() ? nullptr : it->second;
}

}  // namespace ribo
