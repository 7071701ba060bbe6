#include "config/yaml_reader.h"

#include <gtest/gtest.h>

#include <random>

#include "train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::TempFolder;
using testing::write_text;

std::string wrong(const std::string& text) {
  return error_of([&] { read_yaml(text, "t.yaml"); });
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Sets a variable for the length of a test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  Variable(const Variable&) = delete;
  ~Variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

TEST(YamlReader, KeepsTextOrderAndPlaces) {
  const Value root = read_yaml("model:\n  lr: 010\n  \"a b\": [x, 'y']\n", "t.yaml");
  const Value& model = *root.find("model");
  EXPECT_EQ(model.members[0].key, "lr");
  EXPECT_EQ(model.members[0].value.text, "010");
  EXPECT_EQ(model.members[0].value.mark.str(), "t.yaml:2:7");
  EXPECT_EQ(model.members[1].key_mark.str(), "t.yaml:3:3");
  EXPECT_FALSE(model.members[1].value.items[0].quoted);
  EXPECT_TRUE(model.members[1].value.items[1].quoted);
}

TEST(YamlReader, TellsEveryDuplicateAliasAndMergeKeyAtOnce) {
  EXPECT_EQ(wrong("a: &x 1\nb: *x\nb: 2\na: 3\n<<: {c: 1}\n"),
            "t.yaml:1:4: anchors such as \"&x\" are not supported; use define: and use:\n"
            "t.yaml:2:4: aliases are not supported; use define: and use:\n"
            "t.yaml:3:1: duplicate key \"b\"; it stands at t.yaml:2:1 already; keep one of them\n"
            "t.yaml:4:1: duplicate key \"a\"; it stands at t.yaml:1:1 already; keep one of them\n"
            "t.yaml:5:1: merge keys (<<) are not supported; use extends:, or define: and use:");
}

TEST(YamlReader, RefusesAListThatHoldsItself) {
  EXPECT_EQ(wrong("&a [*a]\n"),
            "t.yaml:1:1: anchors such as \"&a\" are not supported; use define: and use:\n"
            "t.yaml:1:5: aliases are not supported; use define: and use:");
}

TEST(YamlReader, RefusesTheAliasBomb) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int k = 0; k < 8; ++k) bomb += ", " + last;
    bomb += "]\n";
  }
  EXPECT_TRUE(contains(wrong(bomb), "aliases are not supported; use define: and use:"));
}

TEST(YamlReader, RefusesWhatYamlCppTakesInSilence) {
  EXPECT_EQ(wrong("a: \"x\nb: 1\n"), "t.yaml:1:4: the quote that opens here is never closed");
  EXPECT_EQ(wrong("a: 'it''s\n"), "t.yaml:1:4: the quote that opens here is never closed");
  EXPECT_EQ(wrong("a: 1\nb\n"), "t.yaml:2:1: \"b\" has no value; write \"b: value\"");
  EXPECT_EQ(wrong("{lr:1}\n"), "t.yaml:1:2: \"lr:1\" has no value; write \"lr: 1\"");
  EXPECT_EQ(wrong("  a: 1\nb: 2\n"),
            "t.yaml:2:1: this does not continue what stands above; check the indentation");
  EXPECT_EQ(wrong(std::string("a: 1\n\4b: 2\n")),
            "t.yaml:2:1: a control character; this is no YAML text");
  EXPECT_EQ(wrong(std::string("a: 1\n\0b: 2\n", 12)),
            "t.yaml:2:1: a NUL byte; this is no YAML text");
}

TEST(YamlReader, RefusesWhatOneDocumentOfTextMapsIsNot) {
  EXPECT_EQ(wrong("a: 1\n---\nb: 2\n"),
            "t.yaml:2:1: a second document starts here; keep one document in a file");
  EXPECT_EQ(wrong("a:\n\tb: 1\n"),
            "t.yaml:2:1: a tab; indent with spaces, and write \\t inside double quotes");
  EXPECT_EQ(wrong("? [a]\n: b\n"), "t.yaml:1:3: a key must be text, got a list");
  EXPECT_EQ(wrong("a: !!int 3\n"),
            "t.yaml:1:4: the tag \"tag:yaml.org,2002:int\" is not supported; remove it");
  EXPECT_EQ(wrong("a: \xff\n"), "t.yaml:1:4: invalid UTF-8; save the file as UTF-8 text");
  EXPECT_EQ(wrong("a: \xc0\xaf\n"), "t.yaml:1:4: invalid UTF-8; save the file as UTF-8 text");
  EXPECT_EQ(wrong(""), "t.yaml: the file is empty; see pipelines/ for examples");
  EXPECT_EQ(wrong("# only a comment\n"), "t.yaml: the file is empty; see pipelines/ for examples");
}

TEST(YamlReader, RewritesSyntaxErrors) {
  EXPECT_EQ(wrong("a: b: c\n"),
            "t.yaml:1:5: not valid YAML: illegal map value; quote text that holds \": \"");
  EXPECT_EQ(wrong("a: [${HOME}]\n"),
            "t.yaml:1:6: not valid YAML: end of sequence flow not found; inside [..] and {..}, "
            "quote text that holds ${...}");
}

TEST(YamlReader, LimitsDepthValuesAndBytes) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']');
  };
  EXPECT_TRUE(read_yaml(nested(32), "t.yaml").is_list());
  EXPECT_EQ(wrong(nested(33)), "t.yaml:1:33: nested deeper than 32 levels; flatten it");
  EXPECT_TRUE(contains(wrong(nested(100'000)), "nested deeper than 32 levels"));
  std::string list;
  for (int i = 0; i < 100'000; ++i) list += "- 1\n";
  EXPECT_EQ(wrong(list), "t.yaml:100000:3: more than 100000 values; keep data out of the pipeline");
  EXPECT_EQ(wrong("a: " + std::string(1 << 20, 'x')),
            "t.yaml: larger than 1 MiB; keep data out of the pipeline");
}

TEST(YamlReader, NamesAFileThatCannotBeRead) {
  const TempFolder folder;
  const std::string absent = (folder / "absent.yaml").string();
  EXPECT_EQ(error_of([&] { read_yaml_file(absent); }),
            "cannot read \"" + absent + "\": No such file or directory; check the path");
  EXPECT_EQ(error_of([&] { read_yaml_file(folder.path().string()); }),
            "\"" + folder.path().string() + "\" is a directory; give a YAML file");
  EXPECT_EQ(error_of([&] { read_yaml_file("/dev/zero"); }),
            "/dev/zero: larger than 1 MiB; keep data out of the pipeline");
}

TEST(YamlReader, SkipsAByteOrderMarkAndTakesWindowsLines) {
  const Value root = read_yaml(
      "\xef\xbb\xbf"
      "a: 1\r\nb:\r\n  c: x\r\n",
      "t.yaml");
  EXPECT_EQ(root.find("a")->mark.str(), "t.yaml:1:4");
  EXPECT_EQ(root.find("b")->find("c")->text, "x");
}

TEST(YamlReader, ReplacesEnvironmentVariables) {
  const Variable dir("RIBO_TEST_DIR", "/data");
  const Variable empty("RIBO_TEST_EMPTY", "");
  const Value root = read_yaml(
      "a: ${RIBO_TEST_DIR}/x\nb: \"${RIBO_TEST_DIR}\"\nc: ${RIBO_TEST_EMPTY:-7}\nd: $${HOME} $5\n"
      "e: ${RIBO_TEST_NO:-}\nf: ${RIBO_TEST_NO:-null}\n",
      "t.yaml");
  EXPECT_EQ(root.find("a")->text, "/data/x");
  EXPECT_EQ(root.find("b")->text, "/data");
  EXPECT_EQ(root.find("c")->text, "7");
  EXPECT_FALSE(root.find("c")->quoted);
  EXPECT_EQ(root.find("d")->text, "${HOME} $5");
  EXPECT_EQ(root.find("e")->text, "");
  EXPECT_TRUE(root.find("f")->is_null());
}

TEST(YamlReader, NamesTheVariableThatIsNotSet) {
  EXPECT_EQ(wrong("a: ${RIBO_TEST_NO}\nb: ${x\nc: ${a b}\n"),
            "t.yaml:1:4: environment variable \"RIBO_TEST_NO\" is not set; set it, or write "
            "${RIBO_TEST_NO:-default}\n"
            "t.yaml:2:4: \"${\" has no closing \"}\"; for a literal \"${\" write \"$${\"\n"
            "t.yaml:3:4: \"${a b}\" names no environment variable; write ${NAME} or "
            "${NAME:-default}, or $${ for a literal ${");
}

class RandomValues {
 public:
  explicit RandomValues(unsigned seed) : random_(seed) {}

  Value container(int depth) {
    const bool list = below(2) == 0;
    Value v = list ? Value::list() : Value::map();
    for (int n = below(5); n > 0; --n) {
      if (list) {
        v.items.push_back(any(depth - 1));
      } else {
        v.set(text(), any(depth - 1));
      }
    }
    return v;
  }

 private:
  int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

  Value any(int depth) {
    if (depth > 0 && below(2) == 0) return container(depth);
    if (below(10) == 0) return Value();
    return Value::scalar(text(), {}, below(4) == 0);
  }

  std::string text() {
    static const std::vector<std::string> kWords = {"",
                                                    "null",
                                                    "~",
                                                    "true",
                                                    "y",
                                                    "-",
                                                    "--- a",
                                                    "...",
                                                    "<<",
                                                    "010",
                                                    "1e3",
                                                    "a: b",
                                                    "#",
                                                    "a #b",
                                                    "*x",
                                                    "&x",
                                                    "!t",
                                                    "[",
                                                    "{a}",
                                                    "?",
                                                    "|",
                                                    "a\nb",
                                                    "\n",
                                                    " a",
                                                    "b ",
                                                    "'",
                                                    "\"",
                                                    "\\",
                                                    "%x",
                                                    "@x",
                                                    "`",
                                                    "${HOME}",
                                                    "$${",
                                                    "$$$${x}",
                                                    "C1'",
                                                    "2a3",
                                                    "\x01\x04\x7f",
                                                    "\xc3\xa9",
                                                    "\xe2\x80\xa8",
                                                    "\xef\xbb\xbf",
                                                    "\r",
                                                    "\t",
                                                    "-1",
                                                    ".5",
                                                    ": a",
                                                    "a:",
                                                    ",",
                                                    "a,b",
                                                    "1:30",
                                                    "-x",
                                                    "+",
                                                    std::string("\0", 1)};
    std::string out = kWords[static_cast<size_t>(below(static_cast<int>(kWords.size())))];
    for (int n = below(3); n > 0; --n) {
      out += kWords[static_cast<size_t>(below(static_cast<int>(kWords.size())))];
    }
    return out;
  }

  std::mt19937 random_;
};

TEST(ToYaml, ReadsBackAsTheSameValue) {
  RandomValues random(20240229);
  for (int i = 0; i < 3000; ++i) {
    const Value value = random.container(5);
    const std::string text = to_yaml(value);
    const Value again = read_yaml(text, "t.yaml");
    ASSERT_TRUE(again == value) << text;
    ASSERT_EQ(to_yaml(again), text);
  }
}

TEST(ToYaml, WritesWhatAPersonWould) {
  const std::string text =
      "name: first run\n"
      "model:\n"
      "  streams: {}\n"
      "  blocks:\n"
      "    - type: sepcnn\n"
      "      kernels: [3, 5, 7]\n"
      "    - repeat: 2\n"
      "      blocks:\n"
      "        - type: mamba\n"
      "atom: \"C1'\"\n"
      "flag: \"true\"\n";
  EXPECT_EQ(to_yaml(read_yaml(text, "t.yaml")), text);
}

TEST(Value, EqualityIgnoresPlacesQuotesAndTheOrderOfAMap) {
  EXPECT_TRUE(read_yaml("{a: 1, b: [x]}", "s") == read_yaml("b: ['x']\na: \"1\"\n", "t"));
  EXPECT_FALSE(read_yaml("[1, 2]", "s") == read_yaml("[2, 1]", "s"));
  EXPECT_FALSE(read_yaml("a: null", "s") == read_yaml("a: 'null'", "s"));
}

TEST(Diagnostics, SortsByPlaceAndTellsEachLineOnce) {
  const auto file = std::make_shared<const std::string>("t.yaml");
  Diagnostics diagnostics;
  diagnostics.error({file, 10, 2}, "b", "late");
  diagnostics.error({file, 9, 5}, "a", "early");
  diagnostics.error({file, 10, 2}, "b", "late");
  EXPECT_EQ(error_of([&] { diagnostics.throw_if_any(); }),
            "t.yaml:9:5: a: early\nt.yaml:10:2: b: late");
}

TEST(DidYouMean, SuggestsSlipsAndNothingElse) {
  const std::vector<std::string> names = {"kernel", "dropout", "d_state"};
  EXPECT_EQ(did_you_mean("kernle", names), "; did you mean \"kernel\"?");
  EXPECT_EQ(did_you_mean("D-State", names), "; did you mean \"d_state\"?");
  EXPECT_EQ(did_you_mean("drop", names), "; did you mean \"dropout\"?");
  EXPECT_EQ(did_you_mean("heads", names), "");
  EXPECT_EQ(did_you_mean("x", {"y"}), "");
}

}  // namespace
}  // namespace ribo
