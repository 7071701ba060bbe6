// The command line: help, slips of the hand, and what the verbs say.
#include <gmock/gmock.h>

#include <set>
#include <sstream>

#include "child.h"

namespace ribo::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kGood = RIBO_SOURCE_DIR "/tests/cli/broken/good.yaml";

class CommandLine : public ::testing::Test {
 protected:
  Outcome run(const std::string& line) {
    std::vector<std::string> arguments = words(line);
    for (std::string& a : arguments) a = replace_all(a, "{good}", kGood);
    return ribo_run(arguments, {temp_.path(), temp_.path(), environment_});
  }
  TempFolder temp_;
  std::map<std::string, std::string> environment_;
};

TEST_F(CommandLine, EveryVerbHasHelp) {
  for (const char* line : {"--help", "help", "train --help", "check -h", "plugins --help",
                           "inspect --help", "predict --help"}) {
    const Outcome outcome = run(line);
    EXPECT_EQ(outcome.status, 0) << line;
    EXPECT_THAT(outcome.out, StartsWith("Usage: ribo-run")) << line;
    EXPECT_EQ(outcome.err, "") << line;
  }
  EXPECT_THAT(run("train --help").out, HasSubstr("--resume"));
}

TEST_F(CommandLine, NothingIsAnsweredWithTheUsage) {
  const Outcome outcome = run("");
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.err, StartsWith("Usage: ribo-run"));
}

TEST_F(CommandLine, TheVersionIsPrinted) {
  const Outcome outcome = run("--version");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, StartsWith("ribo-run "));
}

TEST_F(CommandLine, SlipsAreToldWithASuggestion) {
  const std::pair<const char*, const char*> slips[] = {
      {"chekc a.yaml", "\"chekc\" is neither a verb nor a pipeline file; did you mean \"check\"?"},
      {"{good} --see 3", "unknown option --see; did you mean \"--set\"?"},
      {"{good} --resum auto", "unknown option --resum; did you mean \"--resume\"?"},
      {"check {good} --ste a=1", "unknown option --ste; did you mean \"--set\"?"},
      {"check", "PIPELINE.yaml is missing\nUsage: ribo-run check PIPELINE.yaml [options]"},
      {"check {good} again", "too many words"},
      {"evaluate --data x.csv run",
       "RUN|CHECKPOINT is missing; all words behind --data belong to it, so write it in front of "
       "--data\nUsage: ribo-run evaluate"},
      {"{good} --runs", "--runs"},
      {"inspect mambo", "nothing is called \"mambo\"; did you mean \"mamba\"?"},
      {"{good} --resume nowhere", "--resume nowhere: there is no checkpoint"},
      {"nowhere.yaml", "cannot read \"nowhere.yaml\": No such file or directory"},
  };
  for (const auto& [line, message] : slips) {
    const Outcome outcome = run(line);
    EXPECT_EQ(outcome.status, 2) << line;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  }
  EXPECT_FALSE(fs::exists(temp_ / "runs")) << "a mistake leaves a run directory";
}

TEST_F(CommandLine, AFileThatMayNotBeReadIsTold) {
  fs::permissions(temp_.path(), fs::perms(0755));
  const Place place = {temp_.path(), temp_.path(), {}, /*unprivileged=*/true};
  if (ribo_run({"--version"}, place).status != 0) {
    GTEST_SKIP() << "skipped: an unreadable pipeline: user nobody cannot run " RIBO_BINARY_DIR
                    "/bin/ribo-run; a folder above it is closed to others";
  }
  fs::copy_file(kGood, temp_ / "secret.yaml");
  fs::permissions(temp_ / "secret.yaml", fs::perms::none);
  write_text(temp_ / "open.yaml", "name: open\nextends: secret.yaml\n");
  const std::string message =
      "cannot read \"secret.yaml\": Permission denied; give yourself the right to read it and to "
      "enter its folders\n";
  const std::pair<const char*, const char*> cases[] = {
      {"check secret.yaml", ""}, {"secret.yaml", ""}, {"check open.yaml", "open.yaml:2:10: extends: "}};
  for (const auto& [line, where] : cases) {
    const Outcome outcome = ribo_run(words(line), place);
    EXPECT_EQ(outcome.status, 2) << line;
    EXPECT_EQ(outcome.err, "error: " + (where + message)) << line;
  }
}

TEST_F(CommandLine, InspectListsEverything) {
  const Outcome outcome = run("inspect");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  for (const char* part : {"block:\n", "  mamba: ", "data source:\n", "  simulated: ", "loss:\n",
                           "metric:\n", "  pearson: ", "optimizer:\n", "  adamw: ", "schedule:\n",
                           "  cosine: "}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
}

TEST_F(CommandLine, InspectDescribesABlock) {
  const Outcome outcome = run("inspect mamba");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  for (const char* part : {"block mamba (mamba ", "mamba.so)", "arXiv:2312.00752",
                           "  d_state (integer, 1..256, default 16)\n      states of each channel",
                           "dt_rank (integer or auto", "  reads:  ", "single [B, L, 128]",
                           "  writes: single [B, L, 128]"}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
  EXPECT_THAT(run("inspect train").out, HasSubstr("optimizer (map, required)"));
}

TEST_F(CommandLine, InspectTellsALossAndAMetricOfOneName) {
  const Outcome outcome = run("inspect mae");
  EXPECT_THAT(outcome.out, HasSubstr("loss mae ("));
  EXPECT_THAT(outcome.out, HasSubstr("metric mae ("));
}

TEST_F(CommandLine, CheckPrintsTheTableAndTheParameters) {
  const Outcome outcome = run("check {good}");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  // embedding 5 x 8, sepcnn 16 + 8 x 3 + (8 x 16 + 16) + (16 x 8 + 8), head 16 + (8 x 2 + 2)
  for (const char* part : {"blocks[1]", "sepcnn", "single [B, L, 8]", "pred.reactivity [B, L, 2]",
                           "total", " 394 ", "forward and backward: ok"}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
  EXPECT_FALSE(fs::exists(temp_ / "runs"));
}

TEST_F(CommandLine, ThePrintedPipelineLoadsToItself) {
  const std::vector<std::string> pipelines = {kGood,
                                              RIBO_SOURCE_DIR "/pipelines/mamba_sepcnn.yaml",
                                              RIBO_SOURCE_DIR "/pipelines/transformer_cnn.yaml"};
  for (const std::string& pipeline : pipelines) {
    const Outcome first = run(pipeline + " --print-config");
    EXPECT_EQ(first.status, 0) << first.err;
    write_text(temp_ / "again.yaml", first.out);
    EXPECT_EQ(run("again.yaml --print-config").out, first.out);
  }
  EXPECT_FALSE(fs::exists(temp_ / "runs"));
}

TEST_F(CommandLine, SetChangesThePipeline) {
  const Outcome good = run(
      "{good} --print-config --set train.batch=2 --set model.blocks[1].kernels=[5,7] "
      "--set train.optimizer.lr=5e-4 --set name=other --set train.validate_every=null");
  EXPECT_EQ(good.status, 0) << good.err;
  for (const char* part :
       {"name: other\n", "  batch: 2\n", "kernels: [5, 7]\n", "    lr: 5e-4\n"}) {
    EXPECT_THAT(good.out, HasSubstr(part));
  }
  EXPECT_THAT(good.out, Not(HasSubstr("validate_every")));
}

// From the original to everything swapped: the model that each switch of pipelines/ablations/run
// leaves fits together.
TEST_F(CommandLine, EveryMemberOfTheFamilyFitsTogether) {
  const std::string command = "RIBO_CACHE=" + (temp_ / "cache").string() +
                              " RIBO_RUN='" RIBO_BINARY_DIR "/bin/ribo-run check'"
                              " " RIBO_SOURCE_DIR "/pipelines/ablations/run"
                              " " RIBO_SOURCE_DIR "/pipelines/ribonanzanet_tiny.yaml"
                              " --set data.train=8 --set data.valid=2 >" +
                              (temp_ / "out").string() + " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
  const std::string out = read_text(temp_ / "out");
  std::set<std::string> totals;
  size_t members = 0;
  std::istringstream lines(out);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("== ")) ++members;
    if (line.starts_with("total ")) totals.insert(line);
  }
  EXPECT_EQ(members, 16u) << out;
  EXPECT_EQ(totals.size(), 16u) << "no two are one model";
}

TEST_F(CommandLine, AChangedTypeTellsWhatItDropped) {
  const Outcome outcome = run("check {good} --set model.blocks[1].type=conv");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("type changed from sepcnn to conv; dropped keys: kernels"));
}

TEST_F(CommandLine, TheDataRootIsTakenFromTheWorkingDirectory) {
  fs::create_directories(temp_ / "pipelines");
  write_text(temp_ / "pipelines/p.yaml",
             "extends: " + kGood +
                 "\ndata: {type: openvaccine, train: [\"${RIBO_DATA}/a.json\"]}\n");
  environment_["RIBO_DATA"] = "my_data";
  const Outcome outcome = run("check pipelines/p.yaml");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr((fs::canonical(temp_.path()) / "my_data/a.json").string()));
}

}  // namespace
}  // namespace ribo::testing
