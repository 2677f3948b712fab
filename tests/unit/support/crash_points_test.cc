// SPDX-License-Identifier: Apache-2.0
#include "tests/support/crash_points.h"

#include <gtest/gtest.h>

#include "base/fault.h"
#include "tests/support/memory_files.h"

namespace vmstore::sim {
namespace {

/// Appends a byte between two points, for ever.
void work(VirtualScheduler& process, File& file, std::uint64_t& offset) {
  VMS_FAULT("work.before");
  ignore(file.write(offset++, as_byte_span("x")), "frozen files answer too");
  VMS_FAULT("work.after");
  process.post([&] { work(process, file, offset); });
}

std::uint64_t bytes_written(const std::string& point, std::uint64_t nth) {
  World world(1);
  MemoryFiles files;
  VirtualScheduler victim(world, "victim");
  VirtualScheduler other(world, "other");
  victim.on_freeze([&] { files.freeze(); });
  MemoryFiles other_files;
  CrashPoints points(world);
  OpenOptions options;
  options.create = true;
  const auto file = std::move(*files.open("a", options));
  const auto other_file = std::move(*other_files.open("a", options));
  std::uint64_t offset = 0;
  std::uint64_t other_offset = 0;
  points.arm(victim, point, nth);
  other.post([&] { work(other, *other_file, other_offset); });
  victim.post([&] { work(victim, *file, offset); });
  world.run_until([&] { return victim.is_frozen() && other_offset > offset + 5; }, 1s);
  EXPECT_FALSE(points.is_armed());
  EXPECT_FALSE(points.fired_at().empty());
  EXPECT_GT(points.hits().at("work.before"), 5U);
  victim.kill();
  return *file->size();
}

TEST(CrashPoints, FreezeAtTheNthHitOfANamedPoint) {
  EXPECT_EQ(bytes_written("work.before", 1), 0U);
  EXPECT_EQ(bytes_written("work.before", 4), 3U);
  EXPECT_EQ(bytes_written("work.after", 1), 1U);
  EXPECT_EQ(bytes_written("work.after", 4), 4U);
}

TEST(CrashPoints, FreezeAtTheNthHitOfAnyPoint) {
  EXPECT_EQ(bytes_written("", 1), 0U);
  EXPECT_EQ(bytes_written("", 2), 1U);
  EXPECT_EQ(bytes_written("", 3), 1U);
}

}  // namespace
}  // namespace vmstore::sim
