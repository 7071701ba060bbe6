#include "weights/name_map.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::TempFolder;
using testing::write_text;

std::optional<std::string> renamed(const std::string& from, const std::string& to,
                                   const std::string& name) {
  Bindings bindings;
  if (!NamePattern(from).match(name, bindings)) return {};
  return NamePattern(to).fill(bindings);
}

TEST(NamePattern, PlaceholdersStandForWordsAndNumbers) {
  EXPECT_EQ(renamed("a.{i}.b.{w}", "{w}.x.{i}", "a.7.b.bias"), "bias.x.7");
  EXPECT_EQ(renamed("a.{i}.b.{w}", "{w}.x.{i}", "a.7.c.bias"), std::nullopt);
  EXPECT_EQ(renamed("a.{w}", "b.{w}", "a.b.c"), std::nullopt) << "a word has no dot";
  EXPECT_EQ(renamed("a.{w}", "b.{w}", "a."), std::nullopt);
  EXPECT_EQ(renamed("norm{n}.{w}", "ln{n}.{w}", "norm12.bias"), "ln12.bias");
  EXPECT_EQ(renamed("a.{i}.{i}", "{i}", "a.3.3"), "3");
  EXPECT_EQ(renamed("a.{i}.{i}", "{i}", "a.3.4"), std::nullopt);
  EXPECT_EQ(renamed("a.{i+1}", "b.{i}", "a.3"), "b.2");
  EXPECT_EQ(renamed("a.{i+1}", "b.{i}", "a.0"), std::nullopt);
  EXPECT_EQ(renamed("a.{i}", "b.{i-1}", "a.0"), std::nullopt);
  for (const char* name : {"a.x", "a.03", "a.99999999999999999999", "a.-1", "a.+1"}) {
    EXPECT_EQ(renamed("a.{i+1}", "b.{i}", name), std::nullopt) << name;
  }
}

TEST(NamePattern, SaysWhatIsNoPattern) {
  for (const char* text : {"a.{", "a.{}", "{i+x}", "{a b}", "{i+}"}) {
    EXPECT_NE(error_of([&] { NamePattern{text}; }).find("placeholder that is none"),
              std::string::npos)
        << text;
  }
  EXPECT_NE(error_of([] { NamePattern{"{a}{b}"}; }).find("side by side"), std::string::npos);
}

constexpr const char* kMap = R"(
largest:
  last: {ours: "blocks.3.{last-1}.norm.weight", theirs: "layers.{last}.ln.weight"}
define:
  layer:
    - {ours: blocks.4.0, theirs: "layers.{last}"}
    - {ours: "blocks.3.{i}", theirs: "layers.{i}"}
names:
  - {ours: "{layer}.norm.{w}", theirs: "{layer}.ln.{w}"}
  - {ours: "{layer}.qkv.weight", theirs: ["{layer}.q.weight", "{layer}.k.weight"]}
)";

NameMap read(const std::string& text) {
  const TempFolder folder;
  write_text(folder / "map.yaml", text);
  return NameMap::read((folder / "map.yaml").string());
}

std::vector<std::string> lines(const RenamingPlan& plan) {
  std::vector<std::string> out;
  for (const Renaming& r : plan.renamings) {
    std::string line;
    for (const std::string& name : r.from) line += name + " ";
    line += "->";
    for (const std::string& name : r.to) line += " " + name;
    out.push_back(line);
  }
  std::sort(out.begin(), out.end());
  return out;
}

TEST(NameMap, ServesBothDirections) {
  const NameMap map = read(kMap);
  const std::vector<std::string> theirs = {"layers.0.k.weight",  "layers.0.ln.weight",
                                           "layers.0.q.weight",  "layers.1.ln.weight",
                                           "layers.10.ln.weight"};
  EXPECT_EQ(map.side_of(theirs), Side::theirs);
  const RenamingPlan plan = map.plan(theirs, Side::theirs);
  EXPECT_EQ(lines(plan), (std::vector<std::string>{
                             "layers.0.ln.weight -> blocks.3.0.norm.weight",
                             "layers.0.q.weight layers.0.k.weight -> blocks.3.0.qkv.weight",
                             "layers.1.ln.weight -> blocks.3.1.norm.weight",
                             "layers.10.ln.weight -> blocks.4.0.norm.weight"}));
  EXPECT_TRUE(plan.missing.empty());
  EXPECT_TRUE(plan.surplus.empty());

  const std::vector<std::string> ours = {"blocks.3.0.norm.weight", "blocks.3.1.norm.weight",
                                         "blocks.4.0.norm.weight", "blocks.4.0.qkv.weight"};
  EXPECT_EQ(map.side_of(ours), Side::ours);
  EXPECT_EQ(lines(map.plan(ours, Side::ours)),
            (std::vector<std::string>{
                "blocks.3.0.norm.weight -> layers.0.ln.weight",
                "blocks.3.1.norm.weight -> layers.1.ln.weight",
                "blocks.4.0.norm.weight -> layers.2.ln.weight",
                "blocks.4.0.qkv.weight -> layers.2.q.weight layers.2.k.weight"}));
}

TEST(NameMap, TellsWhatHasNoPlaceAndWhatIsMissing) {
  const NameMap map = read(kMap);
  const RenamingPlan plan = map.plan(
      {"layers.0.ln.weight", "layers.0.q.weight", "layers.0.rotary", "head"}, Side::theirs);
  EXPECT_EQ(plan.surplus, (std::vector<std::string>{"head", "layers.0.rotary"}));
  EXPECT_EQ(plan.missing, (std::vector<std::string>{"layers.0.k.weight"}));
  EXPECT_NE(error_of([&] { (void)map.side_of({"head", "tail"}); }).find("matches any of these"),
            std::string::npos);
  EXPECT_NE(error_of([&] { (void)map.side_of({}); }).find("there are none"), std::string::npos);
}

TEST(NameMap, TwoTensorsCannotGetOneName) {
  const NameMap map = read(R"(names:
  - {ours: a, theirs: x}
  - {ours: a, theirs: y}
)");
  EXPECT_NE(error_of([&] { (void)map.plan({"x", "y"}, Side::theirs); })
                .find("`x` and `y` would both become `a`"),
            std::string::npos);
}

TEST(NameMap, ExtendsAnother) {
  const TempFolder folder;
  write_text(folder / "base.yaml", kMap);
  write_text(folder / "more.yaml", R"(extends: base.yaml
define:
  layer:
    - {ours: "blocks.9.{i}", theirs: "layers.{i}"}
names:
  - {ours: "{layer}.special", theirs: "{layer}.ln.bias"}
)");
  const NameMap map = NameMap::read((folder / "more.yaml").string());
  EXPECT_EQ(lines(map.plan({"layers.0.ln.bias", "layers.1.ln.weight"}, Side::theirs)),
            (std::vector<std::string>{"layers.0.ln.bias -> blocks.9.0.special",
                                      "layers.1.ln.weight -> blocks.9.1.norm.weight"}));
}

TEST(NameMap, TellsEveryMistakeWithItsPlace) {
  const TempFolder folder;
  const std::string file = (folder / "map.yaml").string();
  const std::string head = R"(largest:
  last: {ours: "a.{x}", theirs: "b.{last}"}
define:
  layer: "a"
)";
  const std::string tail = R"(names:
  - {ours: "a.{w}", theirs: "b"}
  - {ours: "a.{w", theirs: "b.{w}"}
  - {ours: "a.{w}"}
  - {ours: [a, b], theirs: [c, d]}
  - {ours: a, thiers: b}
)";
  write_text(file, head + "nmaes: []\n" + tail);
  const std::string what = error_of([&] { (void)NameMap::read(file); });
  EXPECT_NE(what.find(file + ":5:1: unknown key \"nmaes\"; did you mean \"names\"?"),
            std::string::npos)
      << what;
  write_text(file, head + tail);
  const std::string rest = error_of([&] { (void)NameMap::read(file); });
  for (const char* part :
       {":2:9: largest.last: both patterns must hold {last}", ":4:10: define.layer: expected a list",
        ":6:5: names[0]: \"b\" lacks the placeholder {w}", ":7:5: names[1]: \"a.{w\" has a placeholder",
        ":8:5: names[2]: expected {ours: PATTERN, theirs: PATTERN}; see \"theirs\"",
        ":9:5: names[3]: only one side may be a list",
        ":10:15: names[4]: unknown key \"thiers\"; did you mean \"theirs\"?"}) {
    EXPECT_NE(rest.find(file + part), std::string::npos) << part << "\nin\n" << rest;
  }
}

TEST(NameMap, AShorthandMayNotStandInItself) {
  EXPECT_NE(error_of([] {
              (void)read("define: {a: [{ours: \"{b}\", theirs: \"{b}\"}], "
                         "b: [{ours: \"{a}.x\", theirs: \"{a}.x\"}]}\n"
                         "names: [{ours: \"{a}\", theirs: \"{a}\"}]\n");
            }).find("stands in itself"),
            std::string::npos);
}

}  // namespace
}  // namespace ribo
