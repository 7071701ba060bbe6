// ribo-run evaluate and compare, on trainings of seconds.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "child.h"

namespace ribo::testing {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ::testing::HasSubstr;

class Evaluate : public ::testing::Test {
 protected:
  Evaluate() {
    write_text(temp_ / "tiny.yaml", "extends: " RIBO_SOURCE_DIR "/tests/cli/broken/good.yaml\n");
    for (const char* seed : {"1", "2"}) {
      const Outcome trained =
          run(std::string("tiny.yaml --run-dir r") + seed + " --set seed=" + seed);
      EXPECT_EQ(trained.status, 0) << trained.err;
    }
  }
  Outcome run(const std::string& line) {
    return ribo_run(words(line), {temp_.path(), temp_.path()});
  }
  Json answer(const std::string& line) {
    const Outcome outcome = run(line + " --out -");
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return Json::parse(outcome.out);
  }
  void refused(const std::string& line, int status, const std::string& what) {
    const Outcome outcome = run(line);
    EXPECT_EQ(outcome.status, status) << line;
    EXPECT_EQ(outcome.out, "") << line;
    EXPECT_THAT(outcome.err, HasSubstr(what)) << line;
  }
  // The last validation of a run, as its training logged it.
  Json last_validation(const std::string& run) {
    Json last;
    std::istringstream lines(read_text(temp_ / run / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const Json event = Json::parse(line);
      if (event.at("event") == "validation") last = event;
    }
    return last;
  }
  TempFolder temp_;
};

TEST_F(Evaluate, GivesWhatTheTrainingLogged) {
  const Json logged = last_validation("r1").at("scores").at(0);
  const Json metric = answer("evaluate r1/checkpoints/last").at("metrics").at(0);
  EXPECT_NEAR(metric.at("value").get<double>(), logged.at("value").get<double>(), 1e-9);
  for (const char* floor : {"mean", "3-mer median"}) {
    EXPECT_NEAR(metric.at("floors").at(floor).at("value").get<double>(),
                logged.at("floors").at(floor).get<double>(), 1e-9);
  }
  EXPECT_LE(metric.at("interval").at(0), metric.at("value"));
  EXPECT_GE(metric.at("interval").at(1), metric.at("value"));
}

TEST_F(Evaluate, PrintsTablesAndWritesTheSameNumbers) {
  const Outcome outcome = run("evaluate r1 --out x.json");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  for (const char* part :
       {"r1/checkpoints/step-0000000", "valid (simulated): 4 sequences", "mae (lower",
        "95 % interval", "3-mer median", "column 2a3", "length 1..32"}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
  EXPECT_EQ(read_text(temp_ / "x.json"), run("evaluate r1 --out -").out);
  // Of a run that kept no floors, they are fitted again.
  fs::remove(temp_ / "r1/floors.json");
  EXPECT_EQ(run("evaluate r1").out, outcome.out);
}

TEST_F(Evaluate, ComparesRuns) {
  const Outcome same = run("compare r1 r1");
  EXPECT_EQ(same.status, 0) << same.err;
  EXPECT_THAT(same.out, HasSubstr("A and B score the same on mae."));
  const Json two = answer("compare r1 r2 --moved 2");
  EXPECT_EQ(two.at("moved").size(), 2u);
  EXPECT_EQ(two.at("A").at(0).at("training").at("updates"), 2);
  EXPECT_GT(two.at("A").at(0).at("training").at("peak_memory").get<double>(), 1e6);
  const Json& metric = two.at("metrics").at(0);
  EXPECT_EQ(metric.at("B").get<double>(),
            answer("evaluate r2").at("metrics").at(0).at("value").get<double>());
  EXPECT_THAT(metric.at("verdict").get<std::string>(), HasSubstr("one seed"));
  const Outcome seeds = run("compare r1 r2 --with r2 r1");
  EXPECT_EQ(seeds.status, 0) << seeds.err;
  EXPECT_THAT(seeds.out, HasSubstr("seeds, mae\n  A:"));
}

TEST_F(Evaluate, SaysWhatIsWrong) {
  refused("evaluate nowhere", 2, "nowhere: there is no such run or checkpoint");
  refused("evaluate r1 --split exam", 2, "--split exam: expected valid, test or train");
  refused("evaluate r1 --split test", 1, "there are no sequences in the split \"test\"; choose another one with --split");
  refused("evaluate r1 --data x.csv", 2, "the data source of this run (simulated) reads no files");
  refused("evaluate r1 --bootstrap 10", 2, "at least 100 resamples");
  refused("evaluate r1 --out nowhere/x.json", 1, "nowhere/x.json");
}

TEST_F(Evaluate, SaysWhatCannotBeCompared) {
  refused("compare r1", 2, "say two runs");
  refused("compare r1 r2 r1", 2, "got 3 runs");
  fs::remove_all(temp_ / "r2/checkpoints");
  refused("compare r1 r2 --out y.json", 1, "this run has no checkpoint yet");
  EXPECT_FALSE(fs::exists(temp_ / "y.json"));
}

}  // namespace
}  // namespace ribo::testing
