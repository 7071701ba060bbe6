// Whole runs of seconds: what they leave, what stops them and what does not.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <regex>

#include "child.h"

namespace ribo::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Runs : public ::testing::Test {
 protected:
  Runs() {
    write_text(temp_ / "tiny.yaml", "extends: " RIBO_SOURCE_DIR "/tests/cli/broken/good.yaml\n");
  }

  Place place() const { return {temp_.path(), temp_.path()}; }
  Outcome run(const std::string& line) { return ribo_run(words(line), place()); }

  // The only run in the folder `runs`, or an empty path.
  fs::path only_run(const std::string& runs = "runs") const {
    std::vector<fs::path> found;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(temp_ / (runs + "/tiny"), none)) {
      found.push_back(entry.path());
    }
    return found.size() == 1 ? found[0] : fs::path();
  }
  size_t updates(const std::string& runs = "runs") const {
    const fs::path directory = only_run(runs);
    return directory.empty() ? 0 : count(read_text(directory / "metrics.jsonl"), "\"update\",");
  }
  bool finished(const std::string& runs = "runs") const {
    return !only_run(runs).empty() && fs::exists(only_run(runs) / "finished");
  }
  static size_t count(const std::string& text, const std::string& part) {
    size_t n = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
    return n;
  }
  // The loss and the scores of the last validation.
  static std::string last_validation(const fs::path& directory) {
    const std::string text = read_text(directory / "metrics.jsonl");
    const size_t line = text.rfind("{\"event\":\"validation\"");
    if (line == std::string::npos) return "";
    const size_t loss = text.find("\"loss\":", line);
    return text.substr(loss, text.find('\n', line) - loss);
  }

  TempFolder temp_;
};

// Long enough to be met in its middle.
constexpr const char* kLong = "tiny.yaml --set train.duration=300u --set train.validate_every=100u";

TEST_F(Runs, LeaveAWholeDirectory) {
  const Outcome outcome =
      run("tiny.yaml --set train.duration=6u --set train.validate_every=3u --set data.train=64");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const fs::path directory = only_run();
  ASSERT_FALSE(directory.empty());
  EXPECT_THAT(outcome.err, HasSubstr(fs::canonical(directory).string()));
  for (const char* name : {"streams.json", "checkpoints/last", "checkpoints/best",
                           "checkpoints/last/manifest.json",
                           "checkpoints/last/model.safetensors"}) {
    EXPECT_TRUE(fs::exists(directory / name)) << name;
  }
  EXPECT_EQ(read_text(directory / "finished"), "finished\n");
  EXPECT_THAT(read_text(directory / "run.log"), HasSubstr("simulated: 64 + 4 sequences"));
  const std::string metrics = read_text(directory / "metrics.jsonl");
  EXPECT_EQ(count(metrics, "{\"event\":\"update\","), 6u);
  EXPECT_EQ(count(metrics, "{\"event\":\"validation\","), 2u);
  EXPECT_EQ(count(metrics, "{\"event\":\"finish\","), 1u);
  bool tensorboard = false;
  for (const auto& entry : fs::directory_iterator(directory)) {
    tensorboard |= entry.path().filename().string().starts_with("events.out.tfevents.");
  }
  EXPECT_TRUE(tensorboard);

  // pipeline.yaml is a pipeline: the same one.
  fs::copy_file(directory / "pipeline.yaml", temp_ / "again.yaml");
  EXPECT_EQ(run("again.yaml --print-config").out, read_text(directory / "pipeline.yaml"));
}

TEST_F(Runs, AreEqualForEqualSeeds) {
  const std::string line = "tiny.yaml --set train.duration=5u --set train.validate_every=5u";
  ASSERT_EQ(run(line + " --runs a").status, 0);
  ASSERT_EQ(run(line + " --runs b").status, 0);
  ASSERT_EQ(run(line + " --runs c --set seed=2").status, 0);
  const std::string weights = read_text(only_run("a") / "checkpoints/last/model.safetensors");
  EXPECT_EQ(read_text(only_run("b") / "checkpoints/last/model.safetensors"), weights);
  EXPECT_NE(read_text(only_run("c") / "checkpoints/last/model.safetensors"), weights);
}

TEST_F(Runs, GoOnAfterAnInterruptAsIfThereHadBeenNone) {
  ASSERT_EQ(run(std::string(kLong) + " --runs whole").status, 0);

  Child child(words(kLong), place());
  ASSERT_TRUE(wait_until([&] { return updates() >= 20; }));
  child.signal(SIGINT);
  child.signal(SIGINT);  // as `timeout` does: to the process, then to its group
  const Outcome interrupted = child.wait();
  EXPECT_EQ(interrupted.status, 130) << interrupted.err;
  EXPECT_THAT(interrupted.err, HasSubstr("stopping after this update"));
  EXPECT_THAT(interrupted.err, HasSubstr("saved; go on with: ribo-run tiny.yaml --resume "));
  ASSERT_FALSE(finished());
  ASSERT_LT(updates(), 300u);
  ASSERT_TRUE(fs::exists(only_run() / "checkpoints/last/manifest.json"));

  const Outcome resumed = run(std::string(kLong) + " --resume auto");
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("resuming from "));
  ASSERT_TRUE(finished()) << "another run directory was made";
  EXPECT_EQ(updates(), 300u);
  EXPECT_NE(last_validation(only_run()), "");
  EXPECT_EQ(last_validation(only_run()), last_validation(only_run("whole")));
  EXPECT_EQ(read_text(only_run() / "checkpoints/last/model.safetensors"),
            read_text(only_run("whole") / "checkpoints/last/model.safetensors"));
}

TEST_F(Runs, FindTheirFilesFromTheirOwnDirectory) {
  fs::create_directories(temp_ / "mine");
  write_text(temp_ / "mine/x.csv",
             "sequence_id,sequence,experiment_type,signal_to_noise,SN_filter,reactivity_0001,"
             "reactivity_0002,reactivity_0003\ns,ACG,2A3_MaP,5,1,0.5,0.5,0.5\n"
             "s,ACG,DMS_MaP,5,1,0.5,0.5,0.5\n");
  write_text(temp_ / "mine/files.yaml",
             "extends: ../tiny.yaml\ndata: {type: ribonanza, train: x.csv, valid: [x.csv]}\n");
  for (const char* line : {"mine/files.yaml --run-dir r", "evaluate r",
                           "r/pipeline.yaml --resume r --set train.duration=3u"}) {
    const Outcome outcome = run(line);
    EXPECT_EQ(outcome.status, 0) << line << outcome.err;
  }
  EXPECT_EQ(count(read_text(temp_ / "r/metrics.jsonl"), "\"update\","), 3u);
}

TEST_F(Runs, AFinishedRunIsNotResumedByAuto) {
  ASSERT_EQ(run("tiny.yaml --resume auto").status, 0);
  ASSERT_TRUE(finished());
  const Outcome again = run("tiny.yaml --resume auto");
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("nothing to resume; starting a new run"));
  EXPECT_TRUE(only_run().empty()) << "there should be two";
}

TEST_F(Runs, OutliveTheirTerminal) {
  Child child(words(kLong), place());
  ASSERT_TRUE(wait_until([&] { return updates() >= 5; }));
  child.signal(SIGHUP);
  const Outcome outcome = child.wait();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(finished());
}

TEST_F(Runs, SaveOnTheSignalOfAQueue) {
  Child child(words(kLong), place());
  ASSERT_TRUE(wait_until([&] { return updates() >= 5; }));
  child.signal(SIGTERM);
  EXPECT_EQ(child.wait().status, 143);
  EXPECT_TRUE(fs::exists(only_run() / "checkpoints/last/manifest.json"));
}

TEST_F(Runs, GoIntoTheBackground) {
  const Outcome outcome = run(std::string(kLong) + " --detach");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  std::smatch found;
  const std::regex words_of_it(R"(started process (\d+)\n  run: +(\S+)\n)");
  ASSERT_TRUE(std::regex_search(outcome.out, found, words_of_it))
      << outcome.out;
  const pid_t pid = std::stoi(found[1]);
  const fs::path directory = found[2].str();
  EXPECT_FALSE(fs::exists(directory / "finished")) << "it was waited for";
  EXPECT_EQ(::getsid(pid), pid) << "it shares this terminal";
  const bool done = wait_until([&] { return fs::exists(directory / "finished"); });
  if (!done) ::kill(pid, SIGKILL);
  ASSERT_TRUE(done) << read_text(directory / "output.txt");
  EXPECT_EQ(directory, fs::canonical(only_run()));
  EXPECT_TRUE(fs::exists(directory / "run.log"));
  EXPECT_THAT(read_text(directory / "output.txt"), HasSubstr("tiny -> "));
}

TEST_F(Runs, GoIntoTheBackgroundInAGivenDirectory) {
  const Outcome outcome = run("tiny.yaml --detach --run-dir mine");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(wait_until([&] { return fs::exists(temp_ / "mine/finished"); }))
      << read_text(temp_ / "mine/output.txt");
}

TEST_F(Runs, TellAMistakeBeforeTheyGoIntoTheBackground) {
  const Outcome typo = run("tiny.yaml --detach --set train.bacth=4");
  EXPECT_EQ(typo.status, 2);
  EXPECT_THAT(typo.err, HasSubstr("did you mean \"batch\"?"));
  const Outcome shapes = run("tiny.yaml --detach --set model.streams.singel=4");
  EXPECT_EQ(shapes.status, 2);
  write_text(temp_ / "data.yaml",
             "extends: tiny.yaml\nname: tiny\ndata: {type: openvaccine, train: [nowhere.json]}\n");
  const Outcome data = run("data.yaml --detach");
  EXPECT_EQ(data.status, 1);
  EXPECT_THAT(data.err, HasSubstr("nowhere.json"));
  write_text(temp_ / "plugin.yaml", "extends: tiny.yaml\nplugins: [nowhere.so]\n");
  EXPECT_EQ(run("plugin.yaml --detach").status, 3);
  EXPECT_FALSE(fs::exists(temp_ / "runs")) << "a run directory for a run that never was";
}

TEST_F(Runs, TellAFolderThatCannotBeWritten) {
  write_text(temp_ / "file", "");
  const Outcome file = run("tiny.yaml --runs file");
  EXPECT_EQ(file.status, 1);
  EXPECT_EQ(file.err, "error: cannot create file/tiny: Not a directory; choose a writable folder "
                      "with --runs\n");
  const Outcome given = run("tiny.yaml --run-dir file/run");
  EXPECT_EQ(given.status, 1);
  EXPECT_EQ(given.err, "error: cannot create file/run: Not a directory; choose a writable folder "
                       "with --run-dir\n");
  if (::geteuid() == 0) return;  // root writes where others may not
  fs::create_directory(temp_ / "read_only");
  ::chmod((temp_ / "read_only").c_str(), 0555);
  const Outcome read_only = run("tiny.yaml --runs read_only");
  EXPECT_EQ(read_only.status, 1);
  EXPECT_EQ(read_only.err, "error: cannot create read_only/tiny: Permission denied; choose a "
                           "writable folder with --runs\n");
}

TEST_F(Runs, DoNotMixInOneDirectory) {
  ASSERT_EQ(run("tiny.yaml --run-dir mine").status, 0);
  const Outcome outcome = run("tiny.yaml --run-dir mine");
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "error: --run-dir mine: holds a run already; --resume mine goes on with "
                         "it\n");
}

}  // namespace
}  // namespace ribo::testing
