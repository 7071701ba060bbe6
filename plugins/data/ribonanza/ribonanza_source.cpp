#include "ribonanza/ribonanza_source.h"

#include <ATen/ops/scalar_tensor.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/hash.h"
#include "common/overlap.h"
#include "common/sample.h"
#include "ribonanza/profile_cache.h"

namespace ribo {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

class RibonanzaSplit final : public Split {
 public:
  RibonanzaSplit(ProfileTable table, std::vector<Selected> samples, std::vector<double> clip,
                 bool flip)
      : table_(std::move(table)), samples_(std::move(samples)), flip_(flip) {
    if (!clip.empty()) {
      low_ = static_cast<float>(clip[0]);
      high_ = static_cast<float>(clip[1]);
    }
  }

  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  int64_t length(int64_t i) const override { return table_[at(i).sequence].length; }
  std::string id(int64_t i) const override { return std::string(table_.id(at(i).sequence)); }

  Streams get(int64_t i, uint64_t draw) const override {
    const Selected& sample = at(i);
    const auto letters = table_.tokens(sample.sequence);
    const auto length = static_cast<int64_t>(letters.size());
    const bool flip = flip_ && draw != 0 && (mix64(draw) & 1);
    constexpr auto kColumns = static_cast<int64_t>(kExperiments);
    ProfileSample out = profile_sample(letters, kColumns, kColumns);
    if (flip) std::reverse(out.tokens, out.tokens + length);
    if (flip_) out.streams.set("reversed", at::scalar_tensor(flip, at::kBool));
    for (size_t e = 0; e < kExperiments; ++e) {
      if (!sample.use[e]) continue;
      const Profile& profile = table_[sample.sequence].profiles[e];
      out.signal_to_noise[e] = profile.signal_to_noise;
      int64_t p = profile.first;
      for (const float value : table_.values(sample.sequence, e)) {
        const int64_t place = flip ? length - 1 - p : p;
        // NaN passes std::clamp as it is.
        out.reactivity[place * kColumns + static_cast<int64_t>(e)] = std::clamp(value, low_, high_);
        ++p;
      }
    }
    return std::move(out.streams);
  }

 private:
  const Selected& at(int64_t i) const { return samples_.at(static_cast<size_t>(i)); }

  ProfileTable table_;
  std::vector<Selected> samples_;
  bool flip_;
  float low_ = -std::numeric_limits<float>::infinity();
  float high_ = std::numeric_limits<float>::infinity();
};

}  // namespace

Schema<RibonanzaSource::Options> RibonanzaSource::schema() {
  Schema<Options> s(
      "2A3 and DMS reactivity profiles from tables in the format of Kaggle's Stanford Ribonanza "
      "(train_data.csv). The files of a split are joined by sequence_id or id. What was parsed is "
      "cached in the run's cache folder.");
  s.param("train", &Options::train, "CSV files of the training split");
  s.param("valid", &Options::valid, "CSV files of the validation split");
  s.param(
      "test", &Options::test,
      "CSV files of the test split, used whole; they may lack experiment and reactivity columns");
  s.param("clip", &Options::clip, "[lowest, highest] label; [] keeps labels as measured")
      .size(0, 2);
  s.param("train_min_signal_to_noise", &Options::train_min_signal_to_noise,
          "training profiles below count as not measured; sequences without a profile are dropped");
  s.param("train_require_sn_filter", &Options::train_require_sn_filter,
          "training profiles without SN_filter = 1 count as not measured");
  s.param("valid_require_sn_filter", &Options::valid_require_sn_filter,
          "validate only on sequences with SN_filter = 1 in both profiles");
  s.param("valid_fraction", &Options::valid_fraction,
          "without `valid`: the share of the training sequences held out, chosen by sequence and "
          "seed; overlapping or related sequences can fall on both sides")
      .range(0, 0.9);
  s.param("flip", &Options::flip, "reverse half of the training samples at random; `reversed` tells the blocks which");
  s.param("max_length", &Options::max_length, "drop longer training and validation sequences")
      .range(1, 1 << 20);
  s.param("limit", &Options::limit, "only the first so many sequences of each split")
      .range(1, 1e12);
  s.check([](const Options& o) -> std::string {
    if (o.train.empty() && o.valid.empty() && o.test.empty()) {
      return "no files; give at least one of train, valid, test";
    }
    if (o.clip.size() == 1 || (o.clip.size() == 2 && !(o.clip[0] < o.clip[1]))) {
      return "clip must be [lowest, highest], or [] for none";
    }
    if (o.valid_fraction > 0 && (!o.valid.empty() || o.train.empty())) {
      return "valid_fraction holds out from `train` where there is no `valid`; remove one";
    }
    return "";
  });
  return s;
}

RibonanzaSource::RibonanzaSource(const Options& options, const DataContext& context)
    : options_(options) {
  const auto load = [&](const std::vector<std::string>& names, const std::string& key) {
    ReadOptions read;
    read.labels_optional = key == "test";
    return load_profiles(find_inputs(names, context.base, key), context.cache, read, report_);
  };
  SelectionRules train, valid, test;
  train.min_signal_to_noise = options.train_min_signal_to_noise;
  train.each_needs_sn_filter = options.train_require_sn_filter;
  valid.both_need_sn_filter = options.valid_require_sn_filter;
  test.needs_profile = false;
  train.max_length = valid.max_length = options.max_length;
  train.limit = valid.limit = test.limit = options.limit;

  ProfileTable train_table, valid_table;
  if (!options.train.empty()) {
    train_table = load(options.train, "train");
    if (options.valid_fraction > 0) {
      valid_table = train_table;
      const auto held_out = [table = train_table, seed = context.seed,
                             fraction = options.valid_fraction](size_t i) {
        return falls_in_fraction(sequence_hash(table, i, seed), fraction);
      };
      valid.among = held_out;
      train.among = [held_out](size_t i) { return !held_out(i); };
    }
    add_split("train", train_table, train,
              "lower train_min_signal_to_noise, or set train_require_sn_filter: false");
  }
  if (!options.valid.empty()) valid_table = load(options.valid, "valid");
  if (valid_table.size() > 0) {
    add_split("valid", valid_table, valid,
              "set valid_require_sn_filter: false, or give other files");
  }
  if (!options.test.empty())
    add_split("test", load(options.test, "test"), test, "give other files");

  const uint64_t shared = count_shared(hashes_["train"], hashes_["valid"]);
  if (shared > 0) report_.push_back(cat("valid: ", shared, " sequences also occur in train"));
}

void RibonanzaSource::add_split(const std::string& name, const ProfileTable& table,
                                const SelectionRules& rules, const std::string& remedy) {
  Selection selection = select(table, rules);
  if (selection.samples.empty()) {
    throw Error(cat(name, ": nothing is left: ", selection.describe(), "; ", remedy));
  }
  report_.push_back(cat(name, ": ", selection.describe()));
  hashes_[name] = sequence_hashes(table, selection);
  splits_[name] = std::make_shared<RibonanzaSplit>(table, std::move(selection.samples),
                                                   options_.clip, options_.flip);
}

std::vector<StreamSpec> RibonanzaSource::streams() const {
  constexpr auto kColumns = static_cast<int64_t>(kExperiments);
  std::vector<StreamSpec> out = {
      {"tokens", {dim::length}, at::kLong, static_cast<double>(kPadToken), {}},
      {"target.reactivity", {dim::length, kColumns}, at::kFloat, kNaN, {"2a3", "dms"}},
      {"signal_to_noise", {kColumns}, at::kFloat, kNaN, {"2a3", "dms"}},
  };
  if (options_.flip) out.push_back({"reversed", {}, at::kBool, 0, {}});
  return out;
}

std::shared_ptr<const Split> RibonanzaSource::split(std::string_view name) const {
  const auto it = splits_.find(name);
  return it == splits_.end() ? nullptr : it->second;
}

}  // namespace ribo
