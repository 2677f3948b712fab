// SPDX-License-Identifier: Apache-2.0
#include "storaged/space.h"

#include <gtest/gtest.h>

#include "storaged/metrics.h"

namespace vmstore::storaged {
namespace {

using limits::kGiB;

TimePoint at(int seconds) {
  return TimePoint(std::chrono::seconds(seconds));
}

/// A file system of 1,000 GiB of which `percent` are taken, and so much in key files.
SpaceSample sample(std::uint64_t percent, std::uint64_t used_gib) {
  return {1000 * kGiB, (100 - percent) * 10 * kGiB, used_gib * kGiB};
}

TEST(SpaceWatch, WarnsAtSeventyEightyFiveAndNinetyFivePercent) {
  SpaceWatch space;
  space.sample(sample(69, 1));
  EXPECT_TRUE(space.warnings().empty());
  for (const std::uint64_t percent : {70UL, 85UL, 95UL, 100UL}) {
    space.sample(sample(percent, 1));
    EXPECT_EQ(space.warnings().size(), 1U) << percent;
  }
  space.sample(sample(50, 1));
  EXPECT_TRUE(space.warnings().empty());
}

TEST(SpaceWatch, StrangeFileSystemsAreSurvived) {
  SpaceWatch space;
  for (const std::uint64_t total : {0UL, 1UL, 99UL, ~0UL}) {
    for (const std::uint64_t free : {0UL, 1UL, ~0UL}) {
      space.sample({total, free, ~0UL});
      EXPECT_LE(space.warnings().size(), 2U);
      EXPECT_LE(space.append_delay(), SpaceWatch::kSlowMost);
    }
  }
}

TEST(SpaceWatch, RoundIsDueWhenGrowthMayBeMostlyGarbage) {
  SpaceWatch space;
  space.round_ended(10 * kGiB, at(0));
  space.sample(sample(50, 15));
  EXPECT_FALSE(space.round_is_due(at(1000)));  // half of what is live, not more
  space.sample(sample(50, 16));
  EXPECT_TRUE(space.round_is_due(at(1000)));
  EXPECT_FALSE(space.round_is_due(at(59)));  // not more often than that
  space.round_ended(16 * kGiB, at(1000));
  EXPECT_FALSE(space.round_is_due(at(2000)));
}

TEST(SpaceWatch, SmallStoresAreNotCollectedAllTheTime) {
  SpaceWatch space;
  space.sample(sample(50, 1));
  EXPECT_FALSE(space.round_is_due(at(1000)));
}

TEST(SpaceWatch, FullFileSystemIsCollectedWhateverThereIs) {
  SpaceWatch space;
  space.round_ended(800 * kGiB, at(0));
  space.sample(sample(91, 801));
  EXPECT_TRUE(space.round_is_due(at(1000)));
  space.round_failed(at(1000));
  EXPECT_FALSE(space.round_is_due(at(1001)));
}

TEST(SpaceWatch, WritersAreSlowedOnlyByGarbageOnAFullFileSystem) {
  SpaceWatch space;
  space.round_ended(100 * kGiB, at(0));
  space.sample(sample(79, 500));
  EXPECT_EQ(space.append_delay(), Duration(0));
  space.sample(sample(95, 120));
  EXPECT_EQ(space.append_delay(), Duration(0));
  space.sample(sample(90, 500));
  EXPECT_EQ(space.append_delay(), SpaceWatch::kSlowMost / 2);
  space.sample(sample(100, 500));
  EXPECT_EQ(space.append_delay(), SpaceWatch::kSlowMost);
  EXPECT_EQ(space.warnings().size(), 2U);
}

TEST(MetricsText, WritesPrometheusText) {
  MetricsText out;
  out.family("reads_total", "counter", "Reads.").value(7).value(8, "op=\"x\"");
  out.family("uptime_seconds", "gauge", "Up.").seconds(std::chrono::milliseconds(1500));
  EXPECT_EQ(out.take(),
            "# HELP vmstore_reads_total Reads.\n"
            "# TYPE vmstore_reads_total counter\n"
            "vmstore_reads_total 7\n"
            "vmstore_reads_total{op=\"x\"} 8\n"
            "# HELP vmstore_uptime_seconds Up.\n"
            "# TYPE vmstore_uptime_seconds gauge\n"
            "vmstore_uptime_seconds 1.5\n");
}

TEST(RequestCounters, CountByOpcodeAndError) {
  RequestCounters counters;
  counters.count(wire::Opcode::key_read, Errc::ok, std::chrono::seconds(1));
  counters.count(wire::Opcode::key_read, Errc::punched, std::chrono::seconds(2));
  counters.count(static_cast<wire::Opcode>(65535), Errc::unsupported, Duration(0));
  EXPECT_EQ(counters.total(), 3U);
  MetricsText out;
  counters.write(out);
  const std::string text = out.take();
  EXPECT_NE(text.find("vmstore_requests_total{op=\"key_read\"} 2\n"), std::string::npos);
  EXPECT_NE(text.find("vmstore_requests_total{op=\"unknown\"} 1\n"), std::string::npos);
  EXPECT_NE(text.find("vmstore_request_seconds_total{op=\"key_read\"} 3\n"), std::string::npos);
  EXPECT_NE(text.find("vmstore_request_errors_total{code=\"punched\"} 1\n"), std::string::npos);
  EXPECT_EQ(text.find("code=\"ok\""), std::string::npos);
}

}  // namespace
}  // namespace vmstore::storaged
