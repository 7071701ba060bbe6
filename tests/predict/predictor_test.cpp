#include "ribo/predictor.h"

#include <gmock/gmock.h>

#include "tests/support/tiny_run.h"
#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::error_of;
using testing::pipeline_with;
using testing::TempFolder;

// Convolutions, attention and a scan: what could see its neighbours in a batch.
constexpr const char* kMixed =
    "    - {type: conv, kernel: 5}\n    - {type: transformer, heads: 2}\n"
    "    - {type: mamba, bidirectional: true}\n";
constexpr const char* kPairs =
    "    - {type: outer_product_mean, hidden: 4}\n    - {type: triangle_multiply}\n"
    "    - {type: transformer, heads: 2}\n";

std::string with_pairs(std::string pipeline) {
  const std::string single = "{single: 8}";
  return pipeline.replace(pipeline.find(single), single.size(), "{single: 8, pair: 4}");
}

const std::vector<std::string> kSequences = {"GGGAAACCC", "a", "ACGUNACGUNACGUNACGUNACGUN",
                                             "ggguuuttt", "CC", "ACGUACGUACGU"};

class Predictors : public ::testing::Test {
 protected:
  fs::path run(const std::string& name, const std::string& pipeline,
               const std::vector<StreamSpec>& specs = testing::reactivity_streams()) {
    testing::write_run(temp_ / name, pipeline, specs);
    return temp_ / name;
  }
  static void expect_close(const at::Tensor& a, const at::Tensor& b) {
    EXPECT_TRUE(a.sizes() == b.sizes() && at::allclose(a, b, 1e-4, 1e-5)) << a << b;
  }
  TempFolder temp_;
};

TEST_F(Predictors, GiveAProfileForEachSequenceInOrder) {
  const Predictor predictor({run("a", pipeline_with(kMixed))});
  EXPECT_EQ(predictor.targets(), (std::vector<std::string>{"2a3", "dms"}));
  int64_t sequences = 0, nucleotides = 0;
  const auto profiles = predictor.predict(kSequences, [&](int64_t s, int64_t n) {
    sequences += s;
    nucleotides += n;
  });
  ASSERT_EQ(profiles.size(), kSequences.size());
  for (size_t i = 0; i < profiles.size(); ++i) {
    EXPECT_EQ(profiles[i].sizes(), (at::IntArrayRef{(int64_t)kSequences[i].size(), 2}));
    EXPECT_EQ(profiles[i].scalar_type(), at::kFloat);
    EXPECT_FALSE(profiles[i].requires_grad());
  }
  EXPECT_EQ(sequences, 6);
  EXPECT_EQ(nucleotides, 58);
  EXPECT_TRUE(predictor.predict({}).empty());
  expect_close(predictor.predict({"ACGT"})[0], predictor.predict({"acgu"})[0]);
}

TEST_F(Predictors, ASequenceIsPredictedAsIfItWereAlone) {
  for (const std::string& pipeline : {pipeline_with(kMixed), with_pairs(pipeline_with(kPairs))}) {
    const fs::path trained = run("a", pipeline);
    const Predictor together({trained});
    PredictorOptions alone;
    alone.batch = 1;
    const Predictor singly({trained}, alone);
    const auto a = together.predict(kSequences), b = singly.predict(kSequences);
    for (size_t i = 0; i < a.size(); ++i) {
      expect_close(a[i], b[i]);
      expect_close(a[i], together.predict({kSequences[i]})[0]);
    }
  }
}

TEST_F(Predictors, AnEnsembleIsTheMean) {
  const fs::path a = run("a", pipeline_with(kMixed, 1)), b = run("b", pipeline_with("", 2));
  const auto of_a = Predictor({a}).predict(kSequences), of_b = Predictor({b}).predict(kSequences);
  const auto mean = Predictor({a, b / "checkpoints/last"}).predict(kSequences);
  for (size_t i = 0; i < mean.size(); ++i) expect_close(mean[i], (of_a[i] + of_b[i]) / 2);
}

TEST_F(Predictors, AnEnsembleNeedsEqualTargets) {
  auto specs = testing::reactivity_streams();
  specs[1].labels = {"dms", "2a3"};
  const fs::path a = run("a", pipeline_with("")), b = run("b", pipeline_with(""), specs);
  EXPECT_THAT(error_of([&] { Predictor({a, b}); }),
              AllOf(HasSubstr("b predicts dms, 2a3, but "), HasSubstr("a predicts 2a3, dms")));
}

TEST_F(Predictors, LongerThanAnyInTraining) {
  const Predictor predictor({run("a", pipeline_with("    - {type: conv, kernel: 5}\n"))});
  const auto profiles = predictor.predict({"ACGU", std::string(10'000, 'G')});
  EXPECT_EQ(profiles[1].size(0), 10'000);
  expect_close(profiles[0], predictor.predict({"ACGU"})[0]);
}

TEST_F(Predictors, SayWhatTheyCannotRead) {
  const fs::path trained = run("a", pipeline_with(""));
  const Predictor predictor({trained});
  EXPECT_THAT(error_of([&] { predictor.predict({"ACGU", "ACRU"}); }),
              HasSubstr("sequence 2: `R` (A or G in IUPAC's code) at position 3"));
  EXPECT_EQ(error_of([&] { predictor.predict({""}); }), "sequence 1 is empty");
  EXPECT_THAT(error_of([&] { Predictor({temp_ / "none"}); }), HasSubstr("no such run"));
  EXPECT_THAT(error_of([&] { Predictor(std::vector<fs::path>{}); }), HasSubstr("no run"));
  PredictorOptions options;
  options.device = "abacus";
  EXPECT_THAT(error_of([&] { Predictor({trained}, options); }), HasSubstr("\"abacus\" is no device"));
}

TEST_F(Predictors, AModelThatReadsMoreOfTheDataIsRefused) {
  auto specs = testing::reactivity_streams();
  specs.push_back({"pair", {dim::length, dim::length, 4}, at::kFloat, 0, {}});
  const fs::path trained =
      run("a", with_pairs(pipeline_with("    - {type: pair_transition}\n")), specs);
  EXPECT_THAT(error_of([&] { Predictor({trained}); }),
              HasSubstr("model.blocks[1] (pair_transition) reads the stream \"pair\" of the data"));
}

TEST_F(Predictors, APluginWithOperatorsServesAnEnsemble) {
  const std::string plugins = cat("plugins: [", RIBO_BINARY_DIR, "/tests/plugins/testlab]\n");
  const std::string scaled = plugins + pipeline_with("    - {type: testlab/scale}\n");
  EXPECT_EQ(Predictor({run("a", scaled), run("b", scaled)}).predict({"ACGU"})[0].size(0), 4);
}

}  // namespace
}  // namespace ribo
