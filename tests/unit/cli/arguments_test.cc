// SPDX-License-Identifier: Apache-2.0
#include "cli/arguments.h"

#include <gtest/gtest.h>

#include "base/limits.h"

namespace vmstore::cli {
namespace {

using std::chrono::milliseconds;

TEST(SizeArgument, NeedsAUnit) {
  const auto bare = size_argument("20");
  ASSERT_FALSE(bare);
  EXPECT_EQ(bare.error().exit_code, ExitCode::usage);
  EXPECT_NE(bare.error().hint.find("20G"), std::string::npos);
  EXPECT_EQ(*size_argument("20G"), 20 * limits::kGiB);
  EXPECT_EQ(*size_argument("512B"), 512U);
}

TEST(SizeArgument, RefusesWhatNoDiskCanHave) {
  for (const char* text : {"0B", "100B", "513B", "257T", "", "G", "20X", "-5G", "1e9"}) {
    EXPECT_FALSE(size_argument(text)) << text;
  }
}

TEST(NewSizeArgument, AddsAndSubtracts) {
  EXPECT_EQ(*new_size_argument("+1G", limits::kGiB), 2 * limits::kGiB);
  EXPECT_EQ(*new_size_argument("-1G", 3 * limits::kGiB), 2 * limits::kGiB);
  EXPECT_EQ(*new_size_argument("5G", limits::kGiB), 5 * limits::kGiB);
}

TEST(NewSizeArgument, NeverLeavesTheRange) {
  EXPECT_FALSE(new_size_argument("-1G", limits::kGiB));
  EXPECT_FALSE(new_size_argument("-2G", limits::kGiB));
  EXPECT_FALSE(new_size_argument("+256T", limits::kGiB));
  EXPECT_TRUE(new_size_argument("+255T", limits::kTiB));
}

TEST(DurationArgument, TakesSecondsMillisecondsAndMinutes) {
  EXPECT_EQ(*duration_argument("500ms"), milliseconds(500));
  EXPECT_EQ(*duration_argument("10"), milliseconds(10000));
  EXPECT_EQ(*duration_argument("10s"), milliseconds(10000));
  EXPECT_EQ(*duration_argument("2m"), milliseconds(120000));
  for (const char* text : {"", "0", "-1s", "1h", "s", "99999999999999999999"}) {
    EXPECT_FALSE(duration_argument(text)) << text;
  }
}

TEST(CloneNames, PadToOneWidth) {
  const auto names = clone_names("web", 10, "");
  ASSERT_TRUE(names);
  EXPECT_EQ(names->front(), "web-01");
  EXPECT_EQ(names->back(), "web-10");
}

TEST(CloneNames, FollowThePattern) {
  const auto names = clone_names("web", 3, "vm-%04d.lab");
  ASSERT_TRUE(names);
  EXPECT_EQ(names->at(2), "vm-0003.lab");
  EXPECT_EQ(clone_names("web", 12, "g/%d")->back(), "g/12");
}

TEST(CloneNames, RefusePatternsThatAreNoneOrMakeNoNames) {
  for (const char* pattern : {"vm", "vm-%s", "vm-%d-%d", "vm-%", "vm-%0d", "vm-%099d", "VM-%d"}) {
    EXPECT_FALSE(clone_names("web", 3, pattern)) << pattern;
  }
  EXPECT_FALSE(clone_names("web", 0, ""));
  EXPECT_FALSE(clone_names("web", 1'000'000, ""));
}

TEST(References, TellWhatIsMissingOrTooMuch) {
  EXPECT_EQ(reference_argument("g/web@s")->snapshot, "s");
  EXPECT_FALSE(reference_argument("../web"));
  EXPECT_FALSE(reference_argument("WEB"));
  EXPECT_FALSE(reference_argument(""));
  EXPECT_FALSE(disk_argument("web@s"));
  EXPECT_FALSE(snapshot_argument("web"));
  EXPECT_EQ(snapshot_argument("web").error().hint, "write web@SNAP");
}

TEST(Globs, CrossGroups) {
  EXPECT_TRUE(matches_glob("web-*", "web-12"));
  EXPECT_TRUE(matches_glob("*", "g/web"));
  EXPECT_FALSE(matches_glob("web-?", "web-12"));
}

}  // namespace
}  // namespace vmstore::cli
