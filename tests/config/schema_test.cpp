#include "ribo/schema.h"

#include <gtest/gtest.h>

#include "config/yaml_reader.h"
#include "train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;

struct BaseOptions {
  double dropout = 0.1;
};

struct Options : BaseOptions {
  int64_t kernel = 9;
  bool gate = true;
  std::string act = "gelu";
  std::optional<int64_t> rank;
  std::vector<int64_t> widths = {3, 5};
  Interval every{500, Interval::Unit::updates};
};

Schema<Options> schema() {
  Schema<Options> s("A block.");
  s.param("kernel", &Options::kernel, "odd filter width").range(1, 63).step(2);
  s.param("dropout", &Options::dropout, "dropout").range(0, 1);
  s.param("gate", &Options::gate, "whether there is a gate");
  s.param("act", &Options::act, "activation").choices({"gelu", "silu"});
  s.param("rank", &Options::rank, "rank of dt").range(1, 64);
  s.param("widths", &Options::widths, "filter widths").range(1, 9).size(1, 3);
  s.param("every", &Options::every, "how often");
  s.check([](const Options& o) {
    return o.gate && o.kernel == 1 ? "a gate needs a kernel above 1" : "";
  });
  return s;
}

std::string wrong(const std::string& text, const std::string& path = "m") {
  Options options;
  Diagnostics diagnostics;
  schema().parse(read_yaml(text, "t"), path, {"type"}, diagnostics, &options);
  return error_of([&] { diagnostics.throw_if_any(); });
}

Options read(const std::string& text) {
  Options options;
  Diagnostics diagnostics;
  schema().parse(read_yaml(text, "t"), "m", {"type"}, diagnostics, &options);
  diagnostics.throw_if_any();
  return options;
}

template <class T>
std::string problem(const std::string& yaml) {
  T out{};
  return read_value(*read_yaml("x: " + yaml, "t").find("x"), out);
}

template <class T>
T value(const std::string& yaml) {
  T out{};
  EXPECT_EQ(read_value(*read_yaml("x: " + yaml, "t").find("x"), out), "");
  return out;
}

TEST(Schema, ReadsEveryTypeAndKeepsDefaults) {
  const Options o = read(
      "{type: b, kernel: 63, dropout: .5, gate: false, act: silu, rank: 4, widths: 7, every: 2e}");
  EXPECT_EQ(o.kernel, 63);
  EXPECT_EQ(o.dropout, 0.5);
  EXPECT_FALSE(o.gate);
  EXPECT_EQ(o.act, "silu");
  EXPECT_EQ(o.rank, 4);
  EXPECT_EQ(o.widths, std::vector<int64_t>{7});
  EXPECT_EQ(o.every, (Interval{2, Interval::Unit::epochs}));
  EXPECT_EQ(read("{rank: auto}").rank, std::nullopt);
  EXPECT_EQ(read("{}").kernel, 9);
}

TEST(Schema, TellsEveryProblemAtItsPlace) {
  EXPECT_EQ(wrong("kernle: 3\nkernel: 64\ndropout: 2\ngate: yes\nact: gleu\nrank: 0\n"
                  "widths: [1, x, 10]\nevery: 500\n"),
            "t:1:1: m: unknown key \"kernle\"; did you mean \"kernel\"?\n"
            "t:2:9: m.kernel: must lie in 1..63, got 64\n"
            "t:3:10: m.dropout: must lie in 0..1, got 2\n"
            "t:4:7: m.gate: expected true or false, got \"yes\"; write true\n"
            "t:5:6: m.act: must be one of gelu, silu, got \"gleu\"; did you mean \"gelu\"?\n"
            "t:6:7: m.rank: must lie in 1..64, got 0\n"
            "t:7:13: m.widths[1]: expected an integer, got \"x\"\n"
            "t:7:16: m.widths[2]: must lie in 1..9, got 10\n"
            "t:8:8: m.every: expected an interval such as 500u (updates), 2e (epochs), 30m, 90s "
            "or 1h, got \"500\"; add the unit");
}

TEST(Schema, NamesStepsSizesAndKeys) {
  EXPECT_EQ(wrong("kernel: 4"), "t:1:9: m.kernel: must be odd, got 4");
  EXPECT_EQ(wrong("widths: [1, 2, 3, 4]"), "t:1:9: m.widths: must have 1..3 entries, got 4");
  EXPECT_EQ(wrong("widths: []"), "t:1:9: m.widths: must have 1..3 entries, got 0");
  EXPECT_EQ(wrong("banana: 4"),
            "t:1:1: m: unknown key \"banana\"; valid keys: kernel, dropout, gate, act, rank, "
            "widths, every");
  EXPECT_EQ(wrong("kernel:"), "t:1:1: m.kernel: expected an integer, got an empty value");
  EXPECT_EQ(wrong("[1]"), "t:1:1: m: expected a map, got a list");
  EXPECT_EQ(wrong("kernel: 4", ""), "t:1:9: kernel: must be odd, got 4");
}

TEST(Schema, ChecksRulesOnlyWhenEachMemberIsSound) {
  EXPECT_EQ(wrong("kernel: 1"), "t:1:1: m: a gate needs a kernel above 1");
  EXPECT_EQ(wrong("{kernel: 1, dropout: x}"), "t:1:22: m.dropout: expected a number, got \"x\"");
}

TEST(Schema, NamesAMissingKeyWithItsMeaning) {
  Schema<Options> s("A source.");
  s.param("act", &Options::act, "the file to read").required();
  Options options;
  Diagnostics diagnostics;
  s.parse(read_yaml("{}", "t"), "data", {}, diagnostics, &options);
  EXPECT_EQ(diagnostics.errors(),
            std::vector<std::string>{"t:1:1: data: missing key \"act\": the file to read"});
}

TEST(Schema, DescribesItself) {
  const auto s = schema();
  EXPECT_EQ(s.params()[0].constraint(), "1..63, odd");
  EXPECT_EQ(s.params()[3].constraint(), "one of gelu, silu");
  EXPECT_EQ(s.params()[5].constraint(), "1..9, 1..3 entries");
  EXPECT_EQ(to_yaml(s.params()[4].default_value), "auto\n");
  EXPECT_EQ(to_yaml(s.params()[6].default_value), "500u\n");
  EXPECT_EQ(s.params()[0].type, "integer");
  Schema<Options> twice("A block.");
  twice.param("act", &Options::act, "once");
  EXPECT_EQ(error_of([&] { twice.param("act", &Options::act, "twice"); }),
            "a schema names two parameters \"act\"");
}

TEST(ReadValue, TakesEveryDecimalAndNothingElse) {
  EXPECT_EQ(value<int64_t>("1e3"), 1000);
  EXPECT_EQ(value<int64_t>("-0"), 0);
  EXPECT_EQ(value<int64_t>("+12"), 12);
  EXPECT_EQ(value<int64_t>("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(value<double>("1e-3"), 1e-3);
  EXPECT_EQ(value<double>("-.5"), -0.5);
  EXPECT_EQ(value<double>("0.25"), 0.25);
  EXPECT_EQ(problem<int64_t>("fast"), "expected an integer, got \"fast\"");
  EXPECT_EQ(problem<int64_t>("1.5"), "expected an integer, got \"1.5\"");
  EXPECT_EQ(problem<int64_t>("010"),
            "expected an integer, got \"010\"; write it without leading zeros");
  EXPECT_EQ(problem<int64_t>("0x10"), "expected an integer, got \"0x10\"; write it in decimal");
  EXPECT_EQ(problem<int64_t>("1_000"),
            "expected an integer, got \"1_000\"; write it without \"_\"");
  EXPECT_EQ(problem<int64_t>("9223372036854775808"),
            "expected an integer, got \"9223372036854775808\"; that does not fit in 64 bits");
  EXPECT_EQ(problem<int64_t>("1e18"), "expected an integer, got \"1e18\"; write all its digits");
  EXPECT_EQ(problem<int64_t>("\"8\""),
            "expected an integer, got the quoted text \"8\"; remove the quotes");
  EXPECT_EQ(problem<double>(".inf"), "expected a number, got \".inf\"; numbers must be finite");
  EXPECT_EQ(problem<double>("nan"), "expected a number, got \"nan\"; numbers must be finite");
  EXPECT_EQ(problem<double>("1e999"),
            "expected a number, got \"1e999\"; that is beyond the range of a double");
  for (const char* text : {"1e", ".", "e5", "1.2.3", "1 2", "--1", "+-1", "1:30", "1d0", "true"}) {
    EXPECT_NE(problem<double>(text), "") << text;
  }
}

TEST(ReadValue, BooleansAreTrueAndFalse) {
  EXPECT_TRUE(value<bool>("true"));
  EXPECT_EQ(problem<bool>("off"), "expected true or false, got \"off\"; write false");
  EXPECT_EQ(problem<bool>("True"), "expected true or false, got \"True\"; write true");
  EXPECT_EQ(problem<bool>("1"), "expected true or false, got \"1\"");
  EXPECT_EQ(problem<bool>("'true'"),
            "expected true or false, got the quoted text \"true\"; remove the quotes");
}

TEST(ReadValue, IntervalsCarryUnits) {
  EXPECT_EQ(value<Interval>("500u"), (Interval{500, Interval::Unit::updates}));
  EXPECT_EQ(value<Interval>("1e3u"), (Interval{1000, Interval::Unit::updates}));
  EXPECT_EQ(value<Interval>("0.5e"), (Interval{0.5, Interval::Unit::epochs}));
  EXPECT_EQ(value<Interval>("1.5m"), (Interval{90, Interval::Unit::seconds}));
  EXPECT_EQ(value<Interval>("1h"), (Interval{3600, Interval::Unit::seconds}));
  EXPECT_EQ(value<std::optional<Interval>>("auto"), std::nullopt);
  const std::string start =
      "expected an interval such as 500u (updates), 2e (epochs), 30m, 90s or 1h";
  EXPECT_EQ(problem<Interval>("1.5u"), start + ", got \"1.5u\"; updates must be whole");
  EXPECT_EQ(problem<Interval>("-1e"), start + ", got \"-1e\"; it must not be negative");
  EXPECT_EQ(problem<std::optional<Interval>>("5 d"), start + ", or auto, got \"5 d\"");
}

TEST(ReadValue, WhatIsWrittenReadsBack) {
  for (const double v : {0.1, 1e-30, 1.0 / 3, 1e300, -2.5, 1e15, 123456789.0}) {
    double out = 0;
    EXPECT_EQ(read_value(write_value(v), out), "");
    EXPECT_EQ(out, v);
  }
  for (const double count : {0.0, 1.0, 59.5, 90.0, 7200.0, 1e15}) {
    for (const auto unit :
         {Interval::Unit::updates, Interval::Unit::epochs, Interval::Unit::seconds}) {
      if (unit == Interval::Unit::updates && count == 59.5) continue;
      Interval out;
      EXPECT_EQ(read_value(write_value(Interval{count, unit}), out), "");
      EXPECT_EQ(out, (Interval{count, unit}));
    }
  }
  EXPECT_EQ((Interval{7200, Interval::Unit::seconds}).str(), "2h");
  EXPECT_EQ((Interval{90, Interval::Unit::seconds}).str(), "90s");
  EXPECT_EQ((Interval{1e6, Interval::Unit::updates}).str(), "1000000u");
}

TEST(ReadValue, AListMayBeASingleScalar) {
  EXPECT_EQ(value<std::vector<std::string>>("2a3"), std::vector<std::string>{"2a3"});
  EXPECT_EQ(value<std::vector<double>>("[1, 2e-1]"), (std::vector<double>{1, 0.2}));
  EXPECT_EQ(problem<std::vector<int64_t>>("[1, [2]]"), "[1]: expected an integer, got a list");
  EXPECT_EQ(problem<std::vector<int64_t>>("{a: 1}"), "expected a list of integers, got a map");
}

}  // namespace
}  // namespace ribo
