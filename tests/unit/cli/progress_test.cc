// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <gtest/gtest.h>

#include <sstream>

namespace vmstore::cli {
namespace {

using std::chrono::milliseconds;
constexpr std::uint64_t kMiB = 1 << 20;

TEST(ProgressLine, ShowsShareRateAndTimeLeft) {
  EXPECT_EQ(progress_line(50 * kMiB, 100 * kMiB, milliseconds(1000)),
            "[##########----------]  50%  50.0 MiB/100 MiB  50.0 MiB/s  ETA 1s");
}

TEST(ProgressLine, KnowsNoEndWithoutATotal) {
  EXPECT_EQ(progress_line(kMiB, 0, milliseconds(1000)), "1.00 MiB  1.00 MiB/s");
}

TEST(ProgressLine, SurvivesNoTimeAndTooMuch) {
  EXPECT_EQ(progress_line(0, 10, milliseconds(0)), "[--------------------]   0%  0 B/10 B  0 B/s");
  EXPECT_EQ(progress_line(20, 10, milliseconds(1000)),
            "[####################] 100%  20 B/10 B  20 B/s");
}

TEST(FormatDuration, GrowsWithTheDuration) {
  using std::chrono::seconds;
  EXPECT_EQ(format_duration(seconds(3)), "3s");
  EXPECT_EQ(format_duration(seconds(250)), "4m10s");
  EXPECT_EQ(format_duration(seconds(7500)), "2h05m");
}

TEST(Progress, IsSilentWithoutATerminal) {
  std::ostringstream err;
  {
    Progress progress(ProgressMode::automatic, false, err, "import");
    progress.begin(100, Progress::Time());
    progress.update(50, "", Progress::Time() + milliseconds(5000));
    progress.finish(Progress::Time() + milliseconds(6000));
  }
  EXPECT_EQ(err.str(), "");
}

TEST(Progress, BarEndsItsLine) {
  std::ostringstream err;
  {
    Progress progress(ProgressMode::automatic, true, err, "import");
    progress.begin(100, Progress::Time());
    progress.update(10, "", Progress::Time() + milliseconds(10));  // too early
    progress.update(50, "zero 3%", Progress::Time() + milliseconds(1000));
    progress.update(51, "", Progress::Time() + milliseconds(1001));  // too often
  }
  EXPECT_EQ(err.str(),
            "\rimport  [##########----------]  50%  50 B/100 B  50 B/s  ETA 1s   zero 3%\n");
}

TEST(Progress, JsonIsOneObjectALine) {
  std::ostringstream err;
  Progress progress(ProgressMode::json, false, err, "export");
  progress.begin(100, Progress::Time());
  progress.update(50, "", Progress::Time() + milliseconds(2000));
  EXPECT_EQ(err.str(),
            "{\"progress\":\"export\",\"done_bytes\":50,\"total_bytes\":100,\"elapsed_ms\":2000,"
            "\"bytes_per_second\":25}\n");
}

}  // namespace
}  // namespace vmstore::cli
