#include "report/run_record.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/train/temp_folder.h"
#include "train/observers.h"

namespace ribo {
namespace {

using testing::TempFolder;

TEST(RunRecords, SayWhatARunWrote) {
  const TempFolder temp;
  {
    const auto observer = make_metrics_jsonl(temp / "metrics.jsonl");
    observer->on(RunStarted{"tiny", "", "cpu", 100, 4, 0, 8, 4});
    // The third update waited for a validation.
    const double seconds[] = {1, 2, 10, 11};
    for (int64_t u = 0; u < 4; ++u) {
      observer->on(UpdateDone{u + 1, 0, 0.5, 1, 1e-3, 16, seconds[u]});
    }
    observer->on(RunFinished{"finished", 4, 12.5, 0.2, 4, "mae", 5'000'000});
  }
  const RunRecord record = read_run_record(temp.path());
  EXPECT_TRUE(record.found);
  EXPECT_EQ(record.device, "cpu");
  EXPECT_EQ(record.reason, "finished");
  EXPECT_EQ(record.updates, 4);
  EXPECT_EQ(record.seconds, 12.5);
  EXPECT_EQ(record.sequences_per_second, 16);
  EXPECT_EQ(record.peak_memory, 5'000'000);
}

TEST(RunRecords, BearTornAndForeignLines) {
  const TempFolder temp;
  EXPECT_FALSE(read_run_record(temp.path()).found);
  testing::write_text(
      temp / "metrics.jsonl",
      "[1]\n{\"event\":\"update\",\"update\":3,\"seconds\":null}\nnonsense\n{\"event\":\"up");
  const RunRecord record = read_run_record(temp.path());
  EXPECT_TRUE(record.found);
  EXPECT_EQ(record.updates, 3);
  EXPECT_EQ(record.reason, "");
  EXPECT_TRUE(std::isnan(record.sequences_per_second));
}

}  // namespace
}  // namespace ribo
