// The embedded data source: random RNAs, folded, with reactivities drawn from their ensembles.
#include <ATen/ATen.h>

#include <cmath>
#include <cstdio>

#include "common/cache_file.h"
#include "common/hash.h"
#include "folding/partition_function.h"
#include "ribo/plugin.h"
#include "sequences.h"
#include "threads/for_each_index.h"

namespace ribo::simulated {
namespace {

struct Options {
  int64_t train = 2048;
  int64_t valid = 256;
  int64_t min_length = 60;
  int64_t max_length = 120;
  double hairpins = 0.8;
  double noise = 0.35;
  int64_t tail = 20;
  int64_t data_seed = 0;
};

struct Rna {
  std::string sequence;
  std::vector<float> paired;   // probability of being paired, of each base
  std::vector<float> profile;  // [L, 2]
};

class SimulatedSplit final : public Split {
 public:
  SimulatedSplit(std::shared_ptr<const std::vector<Rna>> all, size_t first, size_t count)
      : all_(std::move(all)), first_(first), count_(count) {}

  int64_t size() const override { return static_cast<int64_t>(count_); }
  int64_t length(int64_t i) const override { return static_cast<int64_t>(at(i).sequence.size()); }
  std::string id(int64_t i) const override {
    return cat("simulated_", first_ + static_cast<size_t>(i));
  }
  Streams get(int64_t i, uint64_t) const override {
    const Rna& rna = at(i);
    const int64_t n = length(i);
    at::Tensor tokens = at::empty({n}, at::kLong);
    for (int64_t k = 0; k < n; ++k) {
      tokens.data_ptr<int64_t>()[k] = token_of(rna.sequence[static_cast<size_t>(k)]);
    }
    Streams out;
    out.set("tokens", std::move(tokens));
    out.set("target.reactivity",
            at::from_blob(const_cast<float*>(rna.profile.data()), {n, 2}, at::kFloat).clone());
    return out;
  }

 private:
  const Rna& at(int64_t i) const { return (*all_)[first_ + static_cast<size_t>(i)]; }
  std::shared_ptr<const std::vector<Rna>> all_;
  size_t first_, count_;
};

// Folding is what takes time here, so its result is kept: the paired probability of every base of
// every sequence. Raise the number whenever the folding changes.
class FoldCache {
 public:
  FoldCache(const std::filesystem::path& folder, const std::vector<Rna>& all)
      : key_("simulated folds 2\n") {
    for (const Rna& rna : all) key_ += rna.sequence + "\n";
    char hex[17];
    std::snprintf(hex, sizeof hex, "%016llx",
                  static_cast<unsigned long long>(hash64(key_.data(), key_.size())));
    path_ = folder / cat("simulated-", hex, ".bin");
  }

  bool read(std::vector<Rna>& all) const {
    Cached cached;
    if (open_cache(path_, key_, cached) != CacheState::good) return false;
    const auto* p = reinterpret_cast<const float*>(cached.sections.at(0).data());
    for (Rna& rna : all) {
      rna.paired.assign(p, p + rna.sequence.size());
      p += rna.sequence.size();
    }
    return true;
  }

  void write(const std::vector<Rna>& all) const {
    std::vector<float> paired;
    for (const Rna& rna : all) paired.insert(paired.end(), rna.paired.begin(), rna.paired.end());
    try {
      write_cache(path_, key_, {as_bytes_of(paired)});
    } catch (const Error&) {
      // A cache that cannot be written costs the next start its folding, nothing else.
    }
  }

 private:
  std::string key_;  // all that the result depends on
  std::filesystem::path path_;
};

void fold_all(std::vector<Rna>& all) {
  for_each_index(all.size(), [&](size_t i) {
    all[i].paired = fold::partition_function(all[i].sequence).paired;
  });
}

class Simulated final : public DataSource {
 public:
  using Options = simulated::Options;

  static Schema<Options> schema() {
    Schema<Options> s(
        "Random and hairpin-rich RNAs, folded by a partition function with Turner-2004 energies; "
        "2A3 and DMS reactivity is drawn from each base's probability of being unpaired. Needs no "
        "file: for first runs and tests, never for conclusions about real RNA.");
    s.param("train", &Options::train, "sequences to train on").range(1, 1e6);
    s.param("valid", &Options::valid, "sequences to validate on").range(1, 1e6);
    s.param("min_length", &Options::min_length, "shortest, in nucleotides").range(1, 5000);
    s.param("max_length", &Options::max_length, "longest, in nucleotides").range(1, 5000);
    s.param("hairpins", &Options::hairpins, "share of sequences made of hairpins").range(0, 1);
    s.param("noise", &Options::noise, "standard deviation of the log of the multiplicative noise")
        .range(0, 3);
    s.param("tail", &Options::tail, "positions at the 3' end that are not measured").range(0, 1000);
    s.param("data_seed", &Options::data_seed, "of the sequences and the noise, apart from the run's")
        .range(0, 1e15);
    s.check([](const Options& o) -> std::string {
      if (o.min_length > o.max_length) return "min_length is above max_length";
      if (o.tail >= o.min_length) return "tail leaves nothing measured of the shortest sequences";
      return "";
    });
    return s;
  }

  Simulated(const Options& options, const DataContext& context) : options_(options) {
    auto all = std::make_shared<std::vector<Rna>>(
        static_cast<size_t>(options.train + options.valid));
    const uint64_t seed = Random(static_cast<uint64_t>(options.data_seed)).bits();
    Random random(seed);
    for (Rna& rna : *all) {
      const int64_t length = random.integer(options.min_length, options.max_length);
      rna.sequence = random_sequence(random, length, options.hairpins);
    }
    const FoldCache cache(context.cache, *all);
    cached_ = cache.read(*all);
    if (!cached_) {
      fold_all(*all);
      cache.write(*all);
    }
    Random noise(seed ^ 0x6e6f697365ull);
    for (Rna& rna : *all) {
      rna.profile = reactivity_profile(noise, rna.sequence, rna.paired, {options.noise, 0.05},
                                       options.tail);
    }
    const auto train = static_cast<size_t>(options.train), valid = static_cast<size_t>(options.valid);
    train_ = std::make_shared<SimulatedSplit>(all, 0, train);
    valid_ = std::make_shared<SimulatedSplit>(all, train, valid);
  }

  std::vector<StreamSpec> streams() const override {
    return {{"tokens", {dim::length}, at::kLong, static_cast<double>(kPadToken)},
            {"target.reactivity", {dim::length, 2}, at::kFloat, NAN, {"2a3", "dms"}}};
  }

  std::shared_ptr<const Split> split(std::string_view name) const override {
    return name == "train" ? train_ : name == "valid" ? valid_ : nullptr;
  }

  std::vector<std::string> report() const override {
    return {cat("simulated: ", options_.train, " + ", options_.valid, " sequences of ",
                options_.min_length, "..", options_.max_length, " nt, ",
                cached_ ? "foldings from the cache" : "folded now and cached")};
  }

 private:
  Options options_;
  bool cached_ = false;
  std::shared_ptr<const Split> train_, valid_;
};

}  // namespace
}  // namespace ribo::simulated

RIBO_PLUGIN(simulated, RIBO_VERSION, "Simulated chemical mapping of random RNAs") {
  plugin.data<ribo::simulated::Simulated>("simulated");
}
