// SPDX-License-Identifier: Apache-2.0
// What is kept back on the file system for changes of the catalogue.
#include "storaged/ballast.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/memory_files.h"

namespace vmstore::storaged {
namespace {

using limits::kGiB;
using limits::kMiB;

constexpr std::uint64_t kReserve = 16 * kMiB;

/// Somebody else's file takes all but so many bytes.
void fill(sim::MemoryFiles& files, std::uint64_t free_bytes = 0) {
  OpenOptions options;
  options.create = true;
  ignore(files.remove("foreign"), "of an earlier time");
  const auto file = files.open("foreign", options);
  ASSERT_TRUE(file);
  const auto space = files.space();
  ASSERT_TRUE(space);
  ASSERT_TRUE((*file)->allocate(0, space->free_bytes - free_bytes));
}

TEST(Ballast, IsGivenUpWhenAChangeFindsTheFileSystemFull) {
  sim::MemoryFiles files(kGiB);
  Ballast ballast(files);
  ballast.make_room(true);  // there is none yet
  ballast.take(kReserve);
  EXPECT_EQ(ballast.held_bytes(), Ballast::kBytesMax);
  EXPECT_EQ(files.used_bytes(), Ballast::kBytesMax);
  ballast.make_room(false);
  EXPECT_EQ(ballast.held_bytes(), Ballast::kBytesMax) << "there was room";
  fill(files, kMiB);
  ballast.make_room(false);
  EXPECT_EQ(ballast.held_bytes(), 0U);
  EXPECT_EQ(files.space()->free_bytes, Ballast::kBytesMax + kMiB);
}

TEST(Ballast, IsGivenUpAfterAFailureWhateverTheFileSystemSays) {
  sim::MemoryFiles files(kGiB);
  Ballast ballast(files);
  ballast.take(kReserve);
  ballast.make_room(true);  // a quota, say
  EXPECT_EQ(files.used_bytes(), 0U);
}

TEST(Ballast, IsTakenAgainOnceThereIsRoomForMoreThanIt) {
  sim::MemoryFiles files(kGiB);
  Ballast ballast(files);
  ballast.take(kReserve);
  fill(files);
  ballast.make_room(false);
  ballast.take(kReserve);
  EXPECT_EQ(ballast.held_bytes(), 0U) << "the file system is as good as full";
  fill(files, kReserve + 2 * Ballast::kBytesMax - kMiB);
  ballast.take(kReserve);
  EXPECT_EQ(ballast.held_bytes(), 0U);
  fill(files, kReserve + 2 * Ballast::kBytesMax);
  ballast.take(kReserve);
  EXPECT_EQ(ballast.held_bytes(), Ballast::kBytesMax);
}

TEST(Ballast, IsAPartOfASmallFileSystem) {
  sim::MemoryFiles files(64 * kMiB);
  Ballast ballast(files);
  ballast.take(2 * kMiB);
  EXPECT_EQ(ballast.held_bytes(), kMiB);
}

TEST(Ballast, OfAnEarlierStartIsFound) {
  sim::MemoryFiles files(kGiB);
  Ballast(files).take(kReserve);
  files.restart();
  fill(files);
  Ballast ballast(files);
  EXPECT_EQ(ballast.held_bytes(), Ballast::kBytesMax);
  ballast.make_room(false);
  EXPECT_EQ(files.space()->free_bytes, Ballast::kBytesMax);
}

TEST(Ballast, IsDoneWithoutWhereNothingCanBeAllocated) {
  sim::MemoryFiles files(kGiB);
  files.fail({sim::FileOperation::allocate, "", 1, Error(Errc::unsupported, EOPNOTSUPP), true});
  Ballast ballast(files);
  ballast.take(kReserve);
  ballast.make_room(true);
  EXPECT_EQ(ballast.held_bytes(), 0U);
  EXPECT_EQ(files.used_bytes(), 0U);
  files.clear_faults();
  ballast.take(kReserve);
  EXPECT_EQ(ballast.held_bytes(), 0U) << "asked once";
}

// Whatever instant it dies at while it takes or gives up, the next start gives all of it up and
// takes it again.
TEST(Ballast, DeathAtAnyChangeLosesNoSpace) {
  for (std::uint64_t nth = 1;; ++nth) {
    sim::MemoryFiles files(kGiB);
    bool died = false;
    files.freeze_at_change(nth, [&] { died = true; });
    {
      Ballast ballast(files);
      ballast.take(kReserve);
      ballast.make_room(true);
      ballast.take(kReserve);
    }
    files.cancel_freeze();
    files.restart();
    Ballast ballast(files);
    ballast.make_room(true);
    EXPECT_EQ(files.used_bytes(), 0U) << nth;
    ballast.take(kReserve);
    EXPECT_EQ(files.used_bytes(), Ballast::kBytesMax) << nth;
    if (!died) return;
    ASSERT_LT(nth, 100U);
  }
}

}  // namespace
}  // namespace vmstore::storaged
