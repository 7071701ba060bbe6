// ribo-run predict: files in, files out, and nothing half-written.
#include <gmock/gmock.h>

#include <csignal>

#include "child.h"

namespace ribo::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Predict : public ::testing::Test {
 protected:
  Predict() {
    write_text(temp_ / "tiny.yaml", "extends: " RIBO_SOURCE_DIR "/tests/cli/broken/good.yaml\n");
    write_text(temp_ / "x.fa", ">a\nGGGAAACCC\n>b\nacgtn\n");
    const Outcome trained = run("tiny.yaml --run-dir trained");
    EXPECT_EQ(trained.status, 0) << trained.err;
  }
  Outcome run(const std::string& line) {
    return ribo_run(words(line), {temp_.path(), temp_.path()});
  }
  // The same in a shell, where `ribo-run` is the program.
  int shell(const std::string& line) {
    const std::string command =
        "cd '" + temp_.path().string() + "'; set -o pipefail; ribo-run() { OMP_NUM_THREADS=1 " +
        RIBO_BINARY_DIR + "/bin/ribo-run \"$@\"; }; " + line;
    write_text(temp_ / "script", command);
    const int status = std::system(("bash '" + (temp_ / "script").string() + "'").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  // Also the hidden ones that a writer would leave.
  bool any_file_like(const std::string& part) {
    for (const auto& entry : fs::directory_iterator(temp_.path())) {
      if (entry.path().filename().string().find(part) != std::string::npos) return true;
    }
    return false;
  }
  TempFolder temp_;
};

TEST_F(Predict, WritesWhatItPrints) {
  const Outcome printed = run("predict trained --input x.fa");
  EXPECT_EQ(printed.status, 0) << printed.err;
  EXPECT_THAT(printed.out, StartsWith("id,position,base,2a3,dms\na,1,G,"));
  EXPECT_THAT(printed.out, HasSubstr("\nb,5,N,"));
  EXPECT_THAT(printed.err, HasSubstr("2 sequences, 14 nt in 0:"));
  const Outcome written = run("predict trained/checkpoints/best --input x.fa --out y.csv --batch 1");
  EXPECT_EQ(written.status, 0) << written.err;
  EXPECT_EQ(written.out, "");
  // Equal to rounding, as batches differ.
  EXPECT_EQ(read_text(temp_ / "y.csv").size() / 100, printed.out.size() / 100);
  EXPECT_EQ(run("predict trained trained -q --input x.fa --out y.safetensors").err, "");
  EXPECT_THAT(read_text(temp_ / "y.safetensors"), HasSubstr("\"targets\":\"2a3,dms\""));
}

TEST_F(Predict, WorksInAPipe) {
  EXPECT_EQ(shell("cat x.fa | ribo-run predict trained -q --input - --format-out ribonanza >y.csv"), 0);
  EXPECT_THAT(read_text(temp_ / "y.csv"), StartsWith("id,reactivity_DMS_MaP,reactivity_2A3_MaP\n0,"));
  // Far more than a pipe holds; the reader leaves after a line.
  EXPECT_EQ(shell("for i in {1..3000}; do echo \">$i\"; echo GGGGGGGGGGGGGGGGGGGGGG; done >long.fa; "
                  "ribo-run predict trained --input long.fa 2>err | head -n 1 >first"),
            128 + SIGPIPE);
  EXPECT_EQ(read_text(temp_ / "first"), "id,position,base,2a3,dms\n");
  EXPECT_EQ(read_text(temp_ / "err"), "");
}

TEST_F(Predict, LeavesNothingHalfWritten) {
  write_text(temp_ / "bad.fa", ">a\nACGU\n>b\nACXU\n");
  const Outcome bad = run("predict trained --input bad.fa --out y.csv");
  EXPECT_EQ(bad.status, 1);
  EXPECT_THAT(bad.err, StartsWith("error: bad.fa:4:3: `b`: `X` at position 3"));
  const Outcome full = run("predict trained --input x.fa --out /dev/full");
  EXPECT_EQ(full.status, 1);
  EXPECT_THAT(full.err, HasSubstr("error: cannot write /dev/full: No space left on device"));
  EXPECT_EQ(shell("ribo-run predict trained --input x.fa >/dev/full 2>err"), 1);
  EXPECT_THAT(read_text(temp_ / "err"),
              HasSubstr("cannot write standard output: No space left on device"));
  // A file may have at most 1 KiB: what a full disk does to a regular file, but for the message.
  EXPECT_EQ(shell("{ for i in {1..200}; do echo \">$i\"; echo GGGG; done; } >many.fa; trap '' XFSZ; "
                  "ulimit -f 1; ribo-run predict trained --input many.fa --out y.csv 2>/dev/null"),
            1);
  EXPECT_FALSE(any_file_like("y.csv"));
}

TEST_F(Predict, StopsOnCtrlCWithoutAFile) {
  std::string many;
  for (int i = 0; i < 20'000; ++i) {
    many += ">" + std::to_string(i) + "\n" + std::string(500, 'G') + "\n";
  }
  write_text(temp_ / "many.fa", many);
  Child child(words("predict trained --input many.fa --out y.csv"), {temp_.path(), temp_.path()});
  ASSERT_TRUE(wait_until([&] { return any_file_like("y.csv"); }));
  child.signal(SIGINT);
  const Outcome outcome = child.wait();
  EXPECT_EQ(outcome.status, 130) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("stopped; y.csv was not written"));
  EXPECT_FALSE(any_file_like("y.csv"));
}

TEST_F(Predict, SlipsAreTold) {
  const std::tuple<const char*, int, const char*> slips[] = {
      {"predict trained", 2, "say which --input"},
      {"predict --input x.fa", 2, "RUN|CHECKPOINT... is missing\nUsage: ribo-run predict"},
      {"predict nowhere --input x.fa", 2, "nowhere: there is no such run or checkpoint"},
      {"predict tiny.yaml --input x.fa", 2, "tiny.yaml: neither a run"},
      {"predict trained --input none.fa", 1, "cannot read none.fa: No such file or directory"},
      {"predict trained --input x.fa --format-out openvaccine", 2, "this model predicts 2a3, dms"},
      {"predict trained --input x.fa --format-out kaggle", 2, "say auto, plain"},
      {"predict trained --input x.fa --batch 0", 2, "batch must be at least 1"},
      {"predict trained --input x.fa --device gpu", 2, "\"gpu\" is no device"},
      {"predict trained --input x.fa --out no/y.csv", 1, "no/y.csv: No such file or directory"},
  };
  for (const auto& [line, status, message] : slips) {
    const Outcome outcome = run(line);
    EXPECT_EQ(outcome.status, status) << line;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(outcome.out, "") << line;
  }
}

}  // namespace
}  // namespace ribo::testing
