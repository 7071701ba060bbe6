#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "ribonanza/ribonanza_source.h"
#include "train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::TempFolder;
using testing::write_text;
using Options = RibonanzaSource::Options;

bool same(const Streams& a, const Streams& b) {
  for (const auto& [name, tensor] : a) {
    if (!at::allclose(tensor, b.get(name), 0, 0, /*equal_nan=*/true)) return false;
  }
  return true;
}

class Ribonanza : public ::testing::Test {
 protected:
  // 40 sequences of 5..9 residues, with a gap, values beyond the clip and low signal_to_noise.
  Ribonanza() {
    std::string text = "id,sequence,experiment_type,signal_to_noise,SN_filter";
    for (int p = 1; p <= 9; ++p) text += ",reactivity_000" + std::to_string(p);
    for (int i = 0; i < 40; ++i) {
      for (const char* experiment : {"2A3_MaP", "DMS_MaP"}) {
        const int length = 5 + i % 5;
        text += "\ns" + std::to_string(i) + ",";
        for (int p = 0; p < length; ++p) text += "ACGU"[(i >> (p % 3 * 2)) & 3];
        text += cat(",", experiment, ",", i % 4, ",", i % 3 > 0);
        for (int p = 0; p < 9; ++p) {
          text += p == 2 || p >= length ? "," : cat(",", -0.5 + 0.1 * (i + 3 * p));
        }
      }
    }
    write_text(folder_ / "t.csv", text + "\n");
    options_.train = {"t.csv"};
    context_ = {folder_.path(), folder_ / "cache", 0};
  }
  std::shared_ptr<const Split> split(const char* name) {
    return RibonanzaSource(options_, context_).split(name);
  }
  TempFolder folder_;
  Options options_;
  DataContext context_;
};

TEST_F(Ribonanza, SamplesMatchTheDeclaredStreams) {
  const RibonanzaSource source(options_, context_);
  const auto train = source.split("train");
  EXPECT_EQ(source.split("valid"), nullptr);
  EXPECT_EQ(source.split("test"), nullptr);
  ASSERT_GT(train->size(), 0);
  for (int64_t i = 0; i < train->size(); ++i) {
    const Streams sample = train->get(i, 0);
    size_t count = 0;
    for ([[maybe_unused]] const auto& stream : sample) ++count;
    EXPECT_EQ(count, source.streams().size());
    for (const StreamSpec& spec : source.streams()) {
      const at::Tensor& tensor = sample.get(spec.name);
      EXPECT_EQ(tensor.scalar_type(), spec.type);
      ASSERT_EQ(tensor.dim(), static_cast<int64_t>(spec.shape.size()));
      for (int64_t d = 0; d < tensor.dim(); ++d) {
        const int64_t size = spec.shape[static_cast<size_t>(d)];
        EXPECT_EQ(tensor.size(d), size == dim::length ? train->length(i) : size);
      }
    }
  }
}

TEST_F(Ribonanza, LabelsAreClippedAndGapsAreNaN) {
  const at::Tensor y = split("train")->get(0, 0).get("target.reactivity");
  EXPECT_TRUE(std::isnan(y[2][0].item<float>()));
  EXPECT_EQ(y[0][1].item<float>(), 0) << "-0.4 as measured";
  options_.clip = {};
  const at::Tensor raw = split("train")->get(0, 0).get("target.reactivity");
  EXPECT_NEAR(raw[0][1].item<float>(), -0.4, 1e-6);
}

TEST_F(Ribonanza, FlipTurnsSequenceAndLabelsTogether) {
  options_.flip = true;
  const auto train = split("train");
  int flipped = 0;
  for (int64_t i = 0; i < train->size(); ++i) {
    const Streams plain = train->get(i, 0);
    for (uint64_t draw = 1; draw <= 20; ++draw) {
      const Streams drawn = train->get(i, draw);
      ASSERT_TRUE(same(drawn, train->get(i, draw))) << "equal draws give equal samples";
      if (same(drawn, plain)) continue;
      ++flipped;
      EXPECT_TRUE(drawn.get("reversed").item<bool>());
      Streams back;  // turning it once more gives the sample as measured
      back.set("reversed", at::scalar_tensor(false, at::kBool));
      back.set("tokens", drawn.get("tokens").flip(0));
      back.set("target.reactivity", drawn.get("target.reactivity").flip(0));
      back.set("signal_to_noise", drawn.get("signal_to_noise"));
      ASSERT_TRUE(same(back, plain));
    }
    ASSERT_TRUE(same(plain, train->get(i, 0))) << "get() is pure";
  }
  EXPECT_NEAR(flipped, 10 * static_cast<double>(train->size()),
              3 * static_cast<double>(train->size()));
}

TEST_F(Ribonanza, WithoutFlipADrawChangesNothing) {
  const auto train = split("train");
  for (uint64_t draw = 0; draw < 20; ++draw)
    EXPECT_TRUE(same(train->get(3, draw), train->get(3, 0)));
}

TEST_F(Ribonanza, HeldOutSequencesAreDisjointAndDependOnTheSeedAlone) {
  options_.valid_fraction = 0.3;
  options_.valid_require_sn_filter = false;
  options_.train_min_signal_to_noise = -10;
  const auto sequences = [](const Split& s) {
    std::set<std::string> result;
    for (int64_t i = 0; i < s.size(); ++i) {
      const at::Tensor tokens = s.get(i, 0).tokens();
      std::string text;
      for (int64_t p = 0; p < tokens.numel(); ++p) text += "ACGU"[tokens[p].item<int64_t>()];
      result.insert(text);
    }
    return result;
  };
  const auto valid = sequences(*split("valid"));
  for (const std::string& s : sequences(*split("train"))) EXPECT_FALSE(valid.contains(s)) << s;
  EXPECT_EQ(split("train")->size() + split("valid")->size(), 40);
  EXPECT_EQ(sequences(*split("valid")), valid);
  context_.seed = 1;
  EXPECT_NE(sequences(*split("valid")), valid);
}

TEST_F(Ribonanza, ReportsWhatWasDroppedAndShared) {
  options_.valid = {"t.csv"};
  const auto report = RibonanzaSource(options_, context_).report();
  ASSERT_EQ(report.size(), 5u);
  EXPECT_EQ(report[0], "t.csv: 40 sequences, 80 profiles");
  EXPECT_EQ(report[1], "train: 30 of 40 sequences; dropped: 10 without a profile that passes");
  EXPECT_EQ(report[3],
            "valid: 26 of 40 sequences; dropped: 14 without SN_filter = 1 in both profiles");
  EXPECT_TRUE(report[4].ends_with("sequences also occur in train")) << report[4];
}

TEST_F(Ribonanza, SaysWhenNothingIsLeftOrFound) {
  options_.train_min_signal_to_noise = 100;
  EXPECT_EQ(error_of([&] { split("train"); }),
            "train: nothing is left: 0 of 40 sequences; dropped: 40 without a profile that passes; "
            "lower train_min_signal_to_noise, or set train_require_sn_filter: false");
  options_.train = {"absent.csv"};
  EXPECT_NE(error_of([&] { split("train"); }).find("train: cannot read "), std::string::npos);
}

TEST(RibonanzaSchema, RefusesWhatContradictsItself) {
  const auto problem = [](const char* key, Value value) {
    Value map = Value::map();
    map.set("train", Value::scalar("a.csv"));
    map.set(key, std::move(value));
    Options options;
    Diagnostics diagnostics;
    RibonanzaSource::schema().parse(map, "data", {}, diagnostics, &options);
    return diagnostics.ok() ? "" : diagnostics.errors().at(0);
  };
  Value reversed = Value::list();
  reversed.items = {Value::scalar("1"), Value::scalar("0")};
  EXPECT_EQ(problem("clip", Value::list()), "");
  EXPECT_NE(problem("clip", reversed).find("[lowest, highest]"), std::string::npos);
  EXPECT_EQ(problem("valid_fraction", Value::scalar("0.1")), "");
  EXPECT_NE(problem("valid_fraction", Value::scalar("2")), "");
  EXPECT_NE(problem("max_length", Value::scalar("0")), "");
  EXPECT_EQ(problem("limit", Value::scalar("100")), "");
  Value without_files = Value::list();
  EXPECT_NE(problem("train", without_files).find("at least one of train, valid, test"),
            std::string::npos);
}

TEST(RibonanzaData, HasTheRowsAndPositionsThatItsReadmeStates) {
  const char* root = std::getenv("RIBO_DATA");
  if (!root) GTEST_SKIP() << "RIBO_DATA is not set";
  TempFolder cache;
  Options options;
  options.train = {"ribonanza/train.csv"};
  options.valid = {"ribonanza/valid_mers.csv"};
  options.test = {"ribonanza/PK50_2A3.csv", "ribonanza/PK50_DMS.csv"};
  options.train_min_signal_to_noise = -1e9;
  options.valid_require_sn_filter = false;
  const RibonanzaSource source(options, {root, cache.path(), 0});
  EXPECT_TRUE(source.report()[0].starts_with("train.csv: 13000 sequences, 26000 profiles"))
      << source.report()[0];
  EXPECT_NE(source.report()[2].find("valid_mers.csv: 2000 sequences, 4000 profiles"),
            std::string::npos);
  const auto train = source.split("train"), test = source.split("test");
  EXPECT_EQ(test->size(), 2729);
  int64_t first = 1000, last = 0;
  for (int64_t i = 0; i < train->size(); ++i) {
    ASSERT_EQ(train->length(i), 170);
    const at::Tensor y = train->get(i, 0).get("target.reactivity");
    const float* values = y.const_data_ptr<float>();
    for (int64_t p = 0; p < y.size(0); ++p) {
      if (std::isnan(values[2 * p]) && std::isnan(values[2 * p + 1])) continue;
      first = std::min(first, p + 1);
      last = std::max(last, p + 1);
    }
  }
  EXPECT_EQ(first, 27);
  EXPECT_EQ(last, 129);
}

}  // namespace
}  // namespace ribo
