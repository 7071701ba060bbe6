// Every file NN_name.yaml of broken/ is wrong in one way (or several); NN_name.txt holds the exit
// status and the words that ribo-run must answer with. RIBO_UPDATE_GOLDEN=1 writes the .txt anew:
// read the difference as a user would before it is committed.
//
// A first line `# run: ARGUMENTS` replaces the command line `check FILE`; there {file} is the
// pipeline, {plugins} the folder of the test plugins, {temp} one that is removed afterwards.
#include <algorithm>
#include <cstdlib>
#include <ostream>

#include "child.h"

namespace ribo::testing {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(RIBO_SOURCE_DIR) / "tests/cli/broken";

struct Case {
  std::string name;                   // NN_name
  std::string contents = {};          // of a file that is better made than kept
  bool made = false;
  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }
};

std::string nested(int depth) {
  return "model: " + std::string(static_cast<size_t>(depth), '[') +
         std::string(static_cast<size_t>(depth), ']') + "\n";
}

std::vector<Case> all_cases() {
  std::vector<Case> cases = {
      {"90_too_large", "name: " + std::string(1'100'000, 'x') + "\n", true},
      {"91_too_deep", nested(100'000), true},
      {"92_binary", std::string("\x7f" "ELF\2\1\1\0\0\0\x90\xff\xfe\n\0data: {}", 24), true},
      {"93_nul_byte", std::string("data: {type: simulated}\n\0model: {}\n", 35), true},
      {"94_empty", "", true},
      {"95_tab", "data:\n\ttype: simulated\n", true},
      {"96_latin1", "# profils mesur\xe9s\ndata: {type: simulated}\n", true},
  };
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    const std::string stem = entry.path().stem().string();
    const bool numbered = stem.size() > 3 && std::isdigit(static_cast<unsigned char>(stem[0]));
    if (numbered && entry.path().extension() == ".yaml") cases.push_back({stem});
  }
  std::sort(cases.begin(), cases.end(),
            [](const Case& a, const Case& b) { return a.name < b.name; });
  return cases;
}

std::vector<std::string> command_of(const fs::path& file, const fs::path& temp) {
  std::string line = "check {file}";
  constexpr std::string_view kStart = "# run: ";
  const std::string text = fs::is_directory(file) ? "" : read_text(file);
  if (text.starts_with(kStart)) {
    line = text.substr(kStart.size(), text.find('\n') - kStart.size());
  }
  line = replace_all(line, "{file}", file.filename().string());
  line = replace_all(line, "{temp}", temp.string());
  return words(replace_all(line, "{plugins}", test_plugins("").string()));
}

class BrokenPipeline : public ::testing::TestWithParam<Case> {};

TEST_P(BrokenPipeline, IsToldAsItsGoldenTextSays) {
  const Case& c = GetParam();
  TempFolder temp;
  const fs::path folder = c.made ? temp.path() : kFolder;
  const fs::path file = folder / (c.name + ".yaml"), golden = kFolder / (c.name + ".txt");
  if (c.made) write_text(file, c.contents);
  const Outcome outcome =
      ribo_run(command_of(file, temp.path()),
               {folder, temp.path(), {{"RIBO_TEST_PLUGINS", test_plugins("").string()}}});
  EXPECT_GE(outcome.status, 1) << "a crash, or no failure at all";
  EXPECT_LE(outcome.status, 3);
  const std::string err = c.made ? outcome.err
                                 : replace_all(outcome.err, temp.path().string(), "<temp>");
  const std::string got =
      "exit status " + std::to_string(outcome.status) + "\n" + normalize(err, folder);
  if (std::getenv("RIBO_UPDATE_GOLDEN")) write_text(golden, got);
  EXPECT_EQ(got, read_text(golden)) << "RIBO_UPDATE_GOLDEN=1 writes " << golden;
}

INSTANTIATE_TEST_SUITE_P(All, BrokenPipeline, ::testing::ValuesIn(all_cases()),
                         [](const auto& info) { return "Case" + info.param.name; });

TEST(BrokenPipelines, EveryGoldenTextHasItsPipeline) {
  const std::vector<Case> cases = all_cases();
  EXPECT_GE(cases.size(), 40u);
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    if (entry.path().extension() != ".txt") continue;
    const std::string stem = entry.path().stem().string();
    EXPECT_TRUE(std::any_of(cases.begin(), cases.end(),
                            [&](const Case& c) { return c.name == stem; }))
        << entry.path();
  }
}

TEST(BrokenPipelines, TheirBaseIsSound) {
  TempFolder temp;
  const Outcome outcome = ribo_run({"check", "good.yaml"}, {kFolder, temp.path()});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
}

}  // namespace
}  // namespace ribo::testing
