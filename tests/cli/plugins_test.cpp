// Where plugins are found, and what becomes of files that are none.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <random>

#include "child.h"

namespace ribo::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class Plugins : public ::testing::Test {
 protected:
  Outcome run(const std::vector<std::string>& arguments,
              const std::map<std::string, std::string>& environment = {}) {
    return ribo_run(arguments, {temp_.path(), temp_.path(), environment});
  }
  // testlab.so under another name, so that it is another plugin's file.
  fs::path copy(const std::string& name) {
    const fs::path to = temp_ / name;
    fs::create_directories(to.parent_path());
    fs::copy_file(test_plugins("testlab") / "testlab.so", to);
    return to;
  }
  TempFolder temp_;
};

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

TEST_F(Plugins, AreListedWithWhatTheyProvide) {
  const Outcome outcome = run({"plugins", "--plugin-path", test_plugins("testlab").string()});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  for (const char* part :
       {"plugin ABI 1", "LibTorch 2.11", "testlab 1.2.3: Blocks of a lab", "block testlab/scale",
        "loss testlab/failing", "mamba ", " (built in)", "block mamba", "data source simulated"}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
  EXPECT_THAT(outcome.out, Not(HasSubstr("Refused")));
}

TEST_F(Plugins, RefusedOnesInAFolderAreListedWithTheirReasons) {
  const Outcome outcome = run({"plugins", "--plugin-path", test_plugins("refused").string()});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const std::string refused = outcome.out.substr(outcome.out.find("\nRefused:\n"));
  for (const char* part :
       {"foreign_abi.so: the plugin ABI differs", "foreign_build.so: the build differs",
        "foreign_size.so: the size of PluginInfo differs", "foreign_torch.so: LibTorch differs",
        "missing_symbol.so: cannot be loaded", "ribo_test_symbol_that_nobody_has",
        "no_build_tag.so: its descriptor has an empty field", "no_symbol.so: is no Ribo plugin",
        "odd_name.so: its name is \"odd/name\"",
        "setup_throws.so: the setup of descriptor 1.2.3 failed: no licence found",
        "setup_throws_number.so: the setup of descriptor 1.2.3 threw something"}) {
    EXPECT_THAT(refused, HasSubstr(part));
  }
}

TEST_F(Plugins, AreSearchedInOrderAndNeverInTheWorkingDirectory) {
  for (const char* name : {"a", "b", "c", "d"}) fs::create_directories(temp_ / name);
  copy("here.so");
  const Outcome outcome =
      run({"plugins", "--plugin-path", "b:a", "--plugin-path", "c"}, {{"RIBO_PLUGIN_PATH", "d::"}});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  std::string expected = "Searched:\n";
  for (const char* name : {"b", "a", "c", "d"}) {
    expected += "  " + (fs::canonical(temp_.path()) / name).string() + "\n";
  }
  expected += "  " + fs::canonical(built_in_plugins()).string() + "\n";
  EXPECT_THAT(outcome.out, HasSubstr(expected));
  EXPECT_THAT(outcome.out, Not(HasSubstr("testlab")));
}

TEST_F(Plugins, OfAPipelineAreRelativeToItsFile) {
  copy("lab/plugins/testlab.so");
  write_text(temp_ / "lab/p.yaml",
             "extends: " RIBO_SOURCE_DIR "/tests/cli/broken/good.yaml\nplugins: [plugins]\n"
             "model: {blocks: [{type: embedding}, {type: testlab/scale, start: 2}, "
             "{type: reactivity_head}]}\n");
  const Outcome outcome = run({"check", "lab/p.yaml"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("testlab/scale"));
}

TEST_F(Plugins, OneFileOnTwoPathsIsLoadedOnce) {
  const std::string folder = test_plugins("testlab").string();
  const Outcome outcome =
      run({"plugins", "--plugin-path", folder + ":" + folder + "/testlab.so"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(count(outcome.out, "testlab 1.2.3"), 1u);
}

TEST_F(Plugins, TwoProvidersOfANameAreRefusedWithBothFiles) {
  const fs::path one = copy("one.so"), two = copy("two.so");
  const Outcome outcome = run({"plugins", "--plugin-path", one.string() + ":" + two.string()});
  EXPECT_EQ(outcome.status, 3);
  EXPECT_EQ(replace_all(outcome.err, temp_.path().string(), "<temp>"),
            "error: two plugins provide the block \"testlab/failing\": <temp>/one.so and "
            "<temp>/two.so; remove one from the search path\n");
}

TEST_F(Plugins, OddFilesInAFolderAreRefusedOneByOne) {
  fs::create_directories(temp_ / "odd/folder.so");
  write_text(temp_ / "odd/empty.so", "");
  write_text(temp_ / "odd/text.so", "int main() {}\n");
  fs::create_symlink("nowhere.so", temp_ / "odd/dangling.so");
  fs::create_symlink("loop.so", temp_ / "odd/loop.so");
  ASSERT_EQ(::mkfifo((temp_ / "odd/pipe.so").c_str(), 0666), 0);
  fs::copy_file("/proc/self/exe", temp_ / "odd/program.so");
  const Outcome outcome = run({"plugins", "--plugin-path", "odd"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  for (const char* part :
       {"folder.so: is not a regular file", "empty.so: is not a shared library",
        "text.so: is not a shared library", "dangling.so: cannot be read: No such file",
        "loop.so: cannot be read", "pipe.so: is not a regular file", "program.so: "}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
}

// dlopen of a library that was cut can end in SIGBUS, which nothing catches.
TEST_F(Plugins, AFileThatWasCutIsRefusedWhateverItsLength) {
  const std::string whole = read_text(test_plugins("testlab") / "testlab.so");
  ASSERT_GT(whole.size(), 10'000u);
  fs::create_directories(temp_ / "cut");
  std::vector<size_t> lengths = {1,  4,   15,  16,   63,   64,   65,   119,  120, 400,
                                 1000, 4095, 4096, 4097, 8191, 8192, 8193, whole.size() / 2,
                                 whole.size() - 4096, whole.size() - 64, whole.size() - 1};
  std::mt19937_64 random(1);
  while (lengths.size() < 100) lengths.push_back(1 + random() % (whole.size() - 1));
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  for (size_t n : lengths) {
    write_text(temp_ / ("cut/" + std::to_string(n) + ".so"), whole.substr(0, n));
  }
  const Outcome outcome = run({"plugins", "--plugin-path", "cut"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(count(outcome.out, "is truncated or damaged") +
                count(outcome.out, "is not a shared library"),
            lengths.size())
      << outcome.out;
  EXPECT_THAT(outcome.out, Not(HasSubstr("testlab 1.2.3")));
}

TEST_F(Plugins, AFileThatWasCutAndIsNamedEndsTheRun) {
  const std::string whole = read_text(test_plugins("testlab") / "testlab.so");
  write_text(temp_ / "half.so", whole.substr(0, whole.size() / 2));
  const Outcome outcome = run({"plugins", "--plugin-path", "half.so"});
  EXPECT_EQ(outcome.status, 3);
  EXPECT_THAT(outcome.err, HasSubstr("half.so: is truncated or damaged"));
}

}  // namespace
}  // namespace ribo::testing
