#include "config/pipeline.h"

#include <gtest/gtest.h>

#include "config/yaml_reader.h"
#include "train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::TempFolder;
using testing::write_text;

class PipelineTest : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((folder_ / name).parent_path());
    write_text(folder_ / name, text);
    return (folder_ / name).string();
  }
  Pipeline load(const std::string& text, const std::vector<std::string>& sets = {}) {
    return load_pipeline(write("p.yaml", text), sets);
  }
  // The errors, without the folder's name.
  std::string wrong(const std::string& text, const std::vector<std::string>& sets = {}) {
    std::string errors = error_of([&] { load(text, sets); });
    const std::string prefix = folder_.path().string() + "/";
    for (size_t at; (at = errors.find(prefix)) != std::string::npos;) {
      errors.erase(at, prefix.size());
    }
    return errors;
  }
  void expect(const Pipeline& pipeline, const std::string& yaml) {
    const Value expected = read_yaml(yaml, "expected");
    EXPECT_TRUE(pipeline.root == expected) << to_yaml(pipeline.root);
    // What --print-config shows is a pipeline that means the same, wherever it lies.
    const std::string copy = write("elsewhere/copy.yaml", to_yaml(pipeline.root));
    EXPECT_TRUE(load_pipeline(copy, {}).root == pipeline.root) << to_yaml(pipeline.root);
  }

  TempFolder folder_;
};

TEST_F(PipelineTest, MergesMapsReplacesListsAndRemovesWithNull) {
  write("base/x.yaml", "name: x\ntrain: {lr: 1, steps: 5, clip: 2}\nmetrics: [a, b]\n");
  const Pipeline p =
      load("extends: base/x.yaml\ntrain: {lr: 2, clip: null, ema: 3}\nmetrics: [c]\n");
  expect(p, "{name: x, train: {lr: 2, steps: 5, ema: 3}, metrics: [c]}");
  EXPECT_TRUE(p.notes.empty());
  EXPECT_EQ(p.root.find("train")->find("steps")->mark.str(),
            (folder_ / "base/x.yaml").string() + ":2:23");
}

TEST_F(PipelineTest, NameDefaultsToTheStem) { expect(load("seed: 1\n"), "{name: p, seed: 1}"); }

TEST_F(PipelineTest, LaterBasesOverrideEarlierOnes) {
  write("a.yaml", "name: a\nseed: 1\ndata: {n: 1}\n");
  write("sub/b.yaml", "extends: ../a.yaml\nseed: 2\n");
  expect(load("extends: [a.yaml, sub/b.yaml]\ndata: {m: 1}\n"),
         "{name: a, seed: 2, data: {n: 1, m: 1}}");
}

TEST_F(PipelineTest, AChangedTypeStartsAfreshAndSaysWhatWasDropped) {
  write("base.yaml", "name: n\ntrain: {optimizer: {type: adam, lr: 1, betas: [1], eps: 2}}\n");
  const Pipeline p =
      load("extends: base.yaml\ntrain: {optimizer: {type: sgd, lr: 3, eps: null}}\n");
  expect(p, "{name: n, train: {optimizer: {type: sgd, lr: 3}}}");
  EXPECT_EQ(p.notes,
            std::vector<std::string>{
                (folder_ / "p.yaml").string() +
                ":2:27: train.optimizer: type changed from adam to sgd; dropped keys: betas"});
  const Pipeline set = load("extends: base.yaml\n", {"train.optimizer.type=sgd"});
  expect(set, "{name: n, train: {optimizer: {type: sgd}}}");
  EXPECT_EQ(set.notes, std::vector<std::string>{
                           "--set train.optimizer.type=sgd: train.optimizer: type changed "
                           "from adam to sgd; dropped keys: lr, betas, eps"});
}

TEST_F(PipelineTest, PrintsTheCircleOfExtends) {
  write("a.yaml", "extends: b.yaml\n");
  write("b.yaml", "extends: p.yaml\n");
  EXPECT_EQ(wrong("extends: a.yaml\n"),
            "b.yaml:1:10: extends: goes in a circle: p.yaml -> a.yaml -> b.yaml -> p.yaml; remove "
            "one of these extends");
  EXPECT_EQ(
      wrong("extends: [p.yaml]\n"),
      "p.yaml:1:11: extends: goes in a circle: p.yaml -> p.yaml; remove one of these extends");
}

TEST_F(PipelineTest, LimitsTheChainOfExtends) {
  for (int i = 0; i < 20; ++i) {
    write(cat("e", i, ".yaml"), i == 19 ? "seed: 1\n" : cat("extends: e", i + 1, ".yaml\n"));
  }
  EXPECT_EQ(wrong("extends: e0.yaml\n"), "e14.yaml:1:10: extends: more than 16 files in a row");
}

TEST_F(PipelineTest, TellsTheProblemsOfAllFilesAtOnce) {
  write("a.yaml", "seed: 1\nseed: 2\n");
  EXPECT_EQ(
      wrong("extends: [a.yaml, nope.yaml]\nplugins: [{}]\n"),
      "a.yaml:2:1: duplicate key \"seed\"; it stands at a.yaml:1:1 already; keep one of them\n"
      "p.yaml:1:19: extends: cannot read \"nope.yaml\": No such file or directory; check the "
      "path\n"
      "p.yaml:2:11: plugins: expected a path or a list of paths, got a map");
  EXPECT_EQ(wrong("- a\n"), "p.yaml:1:1: a pipeline is a map (data:, model:, ...), got a list");
}

TEST_F(PipelineTest, TellsTheProblemsOfAllStagesAtOnce) {
  EXPECT_EQ(
      wrong("modle: 1\nbanana: 2\nmodel: {blocks: [{use: mixr}]}\ndefine: {mixer: {type: m}}\n",
            {"seed.x=1", "seed"}),
      "--set seed: expected path=value, such as model.blocks[0].kernel=7\n"
      "p.yaml:1:1: unknown key \"modle\"; did you mean \"model\"?\n"
      "p.yaml:2:1: unknown key \"banana\"; valid keys: name, extends, plugins, define, seed, "
      "data, model, init_from, loss, metrics, train\n"
      "p.yaml:3:24: model.blocks[0].use: nothing is defined as \"mixr\"; did you mean "
      "\"mixer\"?");
}

TEST_F(PipelineTest, PluginsAreRelativeToTheFileThatSaysThem) {
  write("base/x.yaml", "name: x\nplugins: [./mylab, /abs/y.so]\n");
  const std::string folder = folder_.path().string();
  expect(load("extends: base/x.yaml\n"),
         "{name: x, plugins: [\"" + folder + "/base/mylab\", /abs/y.so]}");
}

constexpr const char* kModel =
    "name: n\nseed: 1\nmodel:\n  blocks:\n    - {type: a, k: 1}\n    - {type: b}\n    - {type: "
    "c}\n";

TEST_F(PipelineTest, SetsKeysEntriesAndNewMaps) {
  expect(
      load(kModel, {"model.blocks[2].kernels=[3, 5]", "train.ema.decay=0.9", "seed=2",
                    "model.blocks[1]={type: d, x: 1}", "model.blocks[0].k=null"}),
      "{name: n, seed: 2, model: {blocks: [{type: a}, {type: d, x: 1}, {type: c, kernels: [3, 5]}]}"
      ", train: {ema: {decay: 0.9}}}");
}

TEST_F(PipelineTest, SetExplainsWhatItCannotDo) {
  const auto one = [this](const std::string& set) {
    const std::string errors = wrong(kModel, {set});
    const std::string start = "--set " + set + ": ";
    EXPECT_EQ(errors.substr(0, start.size()), start);
    return errors.substr(std::min(start.size(), errors.size()));
  };
  EXPECT_EQ(one("model.blocks[3].k=1"), "model.blocks: has no entry [3]; it has 3, [0] to [2]");
  EXPECT_EQ(one("seed.x=1"), "seed: is \"1\", which has no keys; set seed itself");
  EXPECT_EQ(one("model.blocks.k=1"),
            "model.blocks: is a list of 3; choose an entry as in model.blocks[0].k");
  EXPECT_EQ(one("model[0]=1"), "model: is a map, not a list; [0] chooses an entry of a list");
  EXPECT_EQ(one("model.blocks[0]=null"),
            "model.blocks[0]: null cannot remove an entry; set the whole list without it");
  EXPECT_EQ(one("sed=null"), "sed: is not set, so null removes nothing; did you mean \"seed\"?");
  EXPECT_EQ(one("seed="),
            "seed: the value is empty; null removes the key, '\"\"' is an empty string");
  EXPECT_EQ(one("model.blocks=- a"),
            "write a list as [a, b], a map as {a: b}, and quote other text");
  EXPECT_EQ(one("seed=[1, \"x]"), "not valid YAML: illegal EOF in scalar; close the quotes");
  EXPECT_EQ(one("seed={a: 1]"),
            "not valid YAML: illegal flow end; there is a \"]\" or \"}\" too many");
  EXPECT_EQ(one("extends=x.yaml"),
            "extends: can only be said in a file; write a small file that extends this one");
  for (const char* path : {"a..b", "a.", ".a", "[0]", "a[x]", "a[1", "a[-1]", "a[1]b", "a b"}) {
    EXPECT_EQ(one(std::string(path) + "=1"),
              cat("bad path \"", path,
                  "\"; join keys with dots, entries of lists as [0]: "
                  "model.blocks[2].kernel"));
  }
}

TEST_F(PipelineTest, AUseIsReplacedMergedOrSpliced) {
  const Pipeline p = load(
      "name: n\n"
      "define:\n"
      "  mixer: {type: mamba, state: 16, gate: {type: g}}\n"
      "  small: {use: mixer, state: 8}\n"
      "  pair: [{use: small}, {type: conv}]\n"
      "  none: []\n"
      "model:\n"
      "  blocks:\n"
      "    - {use: mixer, width: 3, gate: {bias: 1}}\n"
      "    - repeat: 2\n"
      "      blocks: [{use: pair}, {use: none}, {use: pair}]\n");
  expect(p,
         "{name: n, model: {blocks: [{type: mamba, state: 16, gate: {type: g, bias: 1}, width: 3}, "
         "{repeat: 2, blocks: [{type: mamba, state: 8, gate: {type: g}}, {type: conv}, "
         "{type: mamba, state: 8, gate: {type: g}}, {type: conv}]}]}}");
}

TEST_F(PipelineTest, SetReachesDefinitionsBeforeTheyAreUsed) {
  const std::string text =
      "name: n\ndefine: {m: {type: a, k: 1}}\nmodel: {blocks: [{use: m}, {use: m, k: 2}]}\n";
  expect(load(text, {"define.m.k=7"}),
         "{name: n, model: {blocks: [{type: a, k: 7}, {type: a, k: 2}]}}");
  const Pipeline changed = load(text, {"define.m.type=b"});
  expect(changed, "{name: n, model: {blocks: [{type: b}, {type: b, k: 2}]}}");
  EXPECT_EQ(changed.notes.size(), 1u);
}

TEST_F(PipelineTest, ExplainsAWrongUse) {
  EXPECT_EQ(wrong("define:\n  a: {use: b}\n  b: [{use: c}]\n  c: {use: a}\n"),
            "p.yaml:4:12: define.a: uses itself: a -> b -> c -> a; break the circle");
  EXPECT_EQ(wrong("define: {l: [{type: a}]}\nmodel: {blocks: [{use: l, k: 1}]}\n"),
            "p.yaml:2:27: model.blocks[0]: \"l\" is a list of blocks, so key \"k\" cannot override "
            "it; remove the key");
  EXPECT_EQ(wrong("model: {blocks: [{use: l}]}\n"),
            "p.yaml:1:24: model.blocks[0].use: nothing is defined as \"l\"; the pipeline has no "
            "define:");
  EXPECT_EQ(
      wrong("define: {a: 3, b: [4]}\n"),
      "p.yaml:1:13: define.a: expected a block such as {type: conv}, or a list of blocks, got "
      "\"3\"\n"
      "p.yaml:1:20: define.b[0]: expected a block such as {type: conv}, got \"4\"");
  EXPECT_EQ(wrong("define: {a: {type: x}}\nmodel: {head: {use: a}}\n"),
            "p.yaml:2:16: model.head: \"use\" stands for an entry of a list only; put it into a "
            "list, or write the map out");
}

TEST_F(PipelineTest, RefusesUsesThatGrowWithoutBound) {
  std::string text = "define:\n  d0: [{type: a}, {type: a}]\n";
  for (int i = 1; i < 30; ++i) {
    text += cat("  d", i, ": [{use: d", i - 1, "}, {use: d", i - 1, "}, {use: d", i - 1, "}]\n");
  }
  EXPECT_NE(wrong(text).find("the uses expand to more than 100000 values or 1 MiB; use less, or "
                             "repeat:"),
            std::string::npos);
}

TEST_F(PipelineTest, ALiteralDollarBraceSurvivesPrintConfig) {
  expect(load("name: n\ndata: {pattern: \"$${x}\", other: \"$$${y}\"}\n", {"data.set=$${z}"}),
         "{name: n, data: {pattern: \"$${x}\", other: \"$$${y}\", set: \"$${z}\"}}");
}

}  // namespace
}  // namespace ribo
