// SPDX-License-Identifier: Apache-2.0
#include "disk/garbage.h"

#include <gtest/gtest.h>

namespace vmstore::disk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const KeyId kOld = *KeyId::make(16);
const KeyId kNew = *KeyId::make(17);
const TimePoint kStart = TimePoint(seconds(100));

Garbage::Run run(std::uint64_t first, std::uint64_t blocks) {
  return {BlockIndex{first}, blocks};
}

/// `count` holes of `blocks` blocks, one live block between them.
void add_holes(Garbage& garbage, KeyId key, std::uint64_t count, std::uint64_t blocks) {
  for (std::uint64_t i = 0; i < count; ++i) {
    garbage.add(key, run(i * (blocks + 1), blocks), kStart);
  }
}

TEST(Garbage, CountsEachBlockOnceUntilItIsFreed) {
  Garbage garbage;
  garbage.add(kOld, run(10, 4), kStart);
  garbage.add(kOld, run(12, 4), kStart);
  EXPECT_EQ(garbage.blocks(), 6U);
  const auto part = garbage.take(1, 8);
  EXPECT_TRUE(garbage.empty());
  EXPECT_EQ(garbage.blocks(), 6U) << "not freed yet";
  garbage.freed(part);
  EXPECT_EQ(garbage.blocks(), 0U);
}

TEST(Garbage, AdjacentBlocksAreOneHole) {
  Garbage garbage;
  for (const std::uint64_t block : {3U, 1U, 2U, 5U}) garbage.add(kOld, run(block, 1), kStart);
  const auto part = garbage.take(1, 8);
  ASSERT_EQ(part.runs.size(), 2U);
  EXPECT_EQ(part.runs[0].first, BlockIndex{1});
  EXPECT_EQ(part.runs[0].blocks, 3U);
  EXPECT_EQ(part.blocks, 4U);
}

TEST(Garbage, PutBackIsGarbageAgain) {
  Garbage garbage;
  garbage.add(kOld, run(10, 4), kStart);
  const auto part = garbage.take(1, 8);
  garbage.add(kOld, run(14, 1), kStart);
  garbage.put_back(part);
  EXPECT_EQ(garbage.blocks(), 5U);
  EXPECT_EQ(garbage.take(1, 8).blocks, 5U);
}

TEST(Garbage, TakesFromOneKeyTheOldestThatFillsACall) {
  Garbage garbage;
  add_holes(garbage, kNew, 100, 1);
  add_holes(garbage, kOld, 90, 1);
  EXPECT_EQ(garbage.take(1, 64).key, kOld);
  EXPECT_EQ(garbage.take(1, 64).key, kNew);
  EXPECT_EQ(garbage.take(1, 64).runs.size(), 36U);
}

TEST(Garbage, LongHolesGoFirstAndWaitUntilACallPays) {
  Garbage garbage;
  add_holes(garbage, kOld, 300, 1);
  add_holes(garbage, kNew, 63, 8);
  EXPECT_TRUE(garbage.take(8, 256).runs.empty());
  garbage.add(kNew, run(1000, 8), kStart);
  const auto part = garbage.take(8, 256);
  EXPECT_EQ(part.key, kNew);
  EXPECT_EQ(part.blocks, 64U * 8);
  EXPECT_EQ(garbage.take(1, 256).runs.size(), 256U);
}

TEST(Garbage, ShortHolesAreWorthACallWhenItIsQuietOrTheLimitIsNear) {
  constexpr std::uint64_t kMax = 16384;
  Garbage garbage;
  EXPECT_EQ(garbage.hole_blocks_worth(kMax, kStart), 1U);
  garbage.add(kOld, run(0, 4095), kStart);
  EXPECT_EQ(garbage.hole_blocks_worth(kMax, kStart), 1U) << "a slow writer";
  garbage.add(kOld, run(4095, 1), kStart);
  EXPECT_EQ(garbage.hole_blocks_worth(kMax, kStart), 8U);
  EXPECT_EQ(garbage.hole_blocks_worth(kMax, kStart + seconds(2)), 1U) << "quiet again";
  garbage.add(kOld, run(4096, 4096), kStart + milliseconds(1500));
  EXPECT_EQ(garbage.hole_blocks_worth(kMax, kStart + milliseconds(1500)), 4U);
  garbage.add(kOld, run(8192, 4096), kStart + milliseconds(1600));
  EXPECT_EQ(garbage.hole_blocks_worth(kMax, kStart + milliseconds(1600)), 1U);
}

}  // namespace
}  // namespace vmstore::disk
