// Every file NN_name.yaml of broken/ is wrong in one way (or several); NN_name.txt holds the exit
// status and the words that ribo-run must answer with. RIBO_UPDATE_GOLDEN=1 writes the .txt anew:
// read the difference as a user would before it is committed.
//
// A first line `# run: ARGUMENTS` replaces the command line `check FILE`; there {file} is the
// pipeline, {plugins} the folder of the test plugins, {temp} one that is removed afterwards.
#include <algorithm>
#include <cstdlib>
#include <deque>
#include <memory>

#include "child.h"

namespace ribo::testing {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(RIBO_SOURCE_DIR) / "tests/cli/broken";

struct Case {
  std::string name;           // NN_name
  std::string contents = {};  // of a file that is better made than kept
  bool made = false;
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

// One pipeline on its way: started, then compared.
class Trial {
 public:
  explicit Trial(const Case& c) : case_(c), folder_(c.made ? temp_.path() : kFolder) {
    const fs::path file = folder_ / (c.name + ".yaml");
    if (c.made) write_text(file, c.contents);
    const Place place = {
        folder_, temp_.path(), {{"RIBO_TEST_PLUGINS", test_plugins("").string()}}};
    child_ = std::make_unique<Child>(command_of(file, temp_.path()), place);
  }

  void finish() {
    const fs::path golden = kFolder / (case_.name + ".txt");
    const Outcome outcome = child_->wait();
    EXPECT_GE(outcome.status, 1) << case_.name << ": a crash, or no failure at all";
    EXPECT_LE(outcome.status, 3) << case_.name;
    const std::string err = case_.made ? outcome.err
                                       : replace_all(outcome.err, temp_.path().string(), "<temp>");
    const std::string got =
        "exit status " + std::to_string(outcome.status) + "\n" + normalize(err, folder_);
    if (std::getenv("RIBO_UPDATE_GOLDEN")) write_text(golden, got);
    EXPECT_EQ(got, read_text(golden))
        << case_.name << ": if that is better, RIBO_UPDATE_GOLDEN=1 writes " << golden;
  }

 private:
  const Case case_;
  TempFolder temp_;
  const fs::path folder_;
  std::unique_ptr<Child> child_;
};

// The cases whose numbers start with one digit; two at a time, because a start of ribo-run loads
// all of LibTorch.
class BrokenPipelines : public ::testing::TestWithParam<char> {};

TEST_P(BrokenPipelines, AreToldAsTheirGoldenTextsSay) {
  std::deque<Trial> running;
  for (const Case& c : all_cases()) {
    if (c.name[0] != GetParam()) continue;
    running.emplace_back(c);
    if (running.size() < 2) continue;
    running.front().finish();
    running.pop_front();
  }
  ASSERT_FALSE(running.empty());
  running.front().finish();
}

INSTANTIATE_TEST_SUITE_P(Cases, BrokenPipelines, ::testing::Range('0', static_cast<char>('9' + 1)),
                         [](const auto& info) { return std::string(1, info.param) + "x"; });

TEST(BrokenPipelinesFolder, HoldsNoGoldenTextWithoutItsPipeline) {
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

TEST(BrokenPipelinesFolder, TheirBaseIsSound) {
  TempFolder temp;
  const Outcome outcome = ribo_run({"check", "good.yaml"}, {kFolder, temp.path()});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
}

}  // namespace
}  // namespace ribo::testing
