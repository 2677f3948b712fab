// SPDX-License-Identifier: Apache-2.0
// A failed sync of one of a key's files, by itself and with a death behind it: what was answered
// stays.
#include <gtest/gtest.h>

#include "tests/support/crash_points.h"
#include "tests/unit/storaged/store_fixture.h"

namespace vmstore::storaged {
namespace {

using std::chrono_literals::operator""h;

sim::FileFault failing_sync(const KeyModel& key, const char* suffix) {
  sim::FileFault fault;
  fault.operation = sim::FileOperation::sync;
  fault.path_part = key.key().hex() + suffix;
  fault.error = Error(Errc::io_error, 5);
  return fault;
}

// The records and sums since the last destage are in the ring.
TEST(Salvage, AFailedSyncOfLogOrSumsLosesNothingThatWasAnswered) {
  for (const char* suffix : {".log", ".sums"}) {
    for (const bool destaged_before : {false, true}) {
      for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        SCOPED_TRACE(suffix + std::to_string(seed) + (destaged_before ? " later" : " at first"));
        Machine machine(seed);
        machine.start_well();
        KeyModel key(key_number(1));
        ASSERT_TRUE(machine.create(key));
        for (std::uint64_t i = 0; i < 4; ++i) machine.append_well(key, i % 2 == 0 ? 3 : 30, i);
        if (destaged_before) {
          machine.stop();
          machine.start_well();
        }
        for (std::uint64_t i = 0; i < 4; ++i) machine.append_well(key, i % 2 == 0 ? 2 : 40, i);
        machine.files.fail(failing_sync(key, suffix));
        machine.stop();
        machine.power_cut();
        machine.start_well();
        const auto fenced = machine.fence(key, Epoch(9));
        ASSERT_TRUE(fenced) << to_string(fenced.error());
        EXPECT_EQ(fenced->state.length, key.length());
        EXPECT_TRUE(fenced->state.sealed);
        EXPECT_EQ(machine.compare(key, key.records().size()), "");
        machine.stop();
      }
    }
  }
}

TEST(Salvage, WhatWasFreedStaysFreedInSumsThatAreWrittenAnew) {
  Machine machine;
  KeyModel key(key_number(1));
  machine.start_well();
  ASSERT_TRUE(machine.create(key));
  machine.append_well(key, 3, 7);
  machine.stop();
  machine.start_well();
  const std::uint64_t young = key.length().blocks.value;
  machine.append_well(key, 3, 40);
  std::vector<BlockRun> runs{{BlockIndex{1}, 1}, {BlockIndex{young + 1}, 1}};
  ASSERT_TRUE(machine.run(machine.store().free_private(key.key(), key.token(), kDisk, runs)));
  machine.files.fail(failing_sync(key, ".sums"));
  machine.stop();
  for (int start = 0; start < 2; ++start) {
    machine.power_cut();
    machine.start_well();
    for (std::uint64_t block = 0; block < young + 3; ++block) {
      const bool freed = block == 1 || block == young + 1;
      EXPECT_EQ(machine.read_error(key.key(), block), freed ? Errc::punched : Errc::ok) << block;
    }
  }
}

// The free is in the ring before the key's files are replaced, and changes them after.
TEST(Salvage, WhatIsFreedMeanwhileIsFreedInTheFilesThatAreWrittenAnew) {
  int freed = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    Machine machine(seed);
    KeyModel key(key_number(1));
    machine.start_well();
    ASSERT_TRUE(machine.create(key));
    machine.append_well(key, 8, 7);
    machine.append_well(key, 30, 9);
    KeyModel other(key_number(2));
    ASSERT_TRUE(machine.create(other));
    machine.files.fail(failing_sync(key, seed % 2 == 0 ? ".sums" : ".log"));
    machine.files.fail(failing_sync(other, ".data"));
    // What fails begins a destage; the free comes while it is under way.
    sim::Running append(machine.process(), machine.store().append(other.next(40, 1)));
    machine.world.run_for(Duration(machine.world.random().below(3'000'000)));
    const std::vector<BlockRun> runs{{BlockIndex{1}, 4}};
    sim::Running free(machine.process(),
                      machine.store().free_private(key.key(), key.token(), kDisk, runs));
    ASSERT_TRUE(free.wait(1h));
    ASSERT_TRUE(append.wait(1h));
    const bool done = free.outcome().has_value();
    machine.stop();
    machine.start_well();
    freed += done ? 1 : 0;
    for (std::uint64_t block = 0; block < 8; ++block) {
      const auto error = machine.read_error(key.key(), block);
      const bool may_be_gone = block >= 1 && block < 5;
      EXPECT_TRUE(error == Errc::ok || (may_be_gone && error == Errc::punched))
          << block << " " << to_string(error);
      EXPECT_TRUE(!done || !may_be_gone || error == Errc::punched) << block;
    }
    machine.stop();
  }
  EXPECT_GT(freed, 0);
}

// A death while a key whose sync failed is written anew: what was answered is there, whichever of
// its files has the name.
TEST(Salvage, ADeathWhileAFailedKeyIsWrittenAnewLosesNothing) {
  for (const char* point : {"salvage.before_copy",
                            "salvage.before_sync",
                            "salvage.after_sync",
                            "salvage.before_head",
                            "salvage.after_head",
                            "destage.before_tail",
                            "destage.after_tail"}) {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      SCOPED_TRACE(point + std::to_string(seed));
      Machine machine(seed);
      machine.start_well();
      KeyModel key(key_number(1));
      ASSERT_TRUE(machine.create(key));
      for (std::uint64_t i = 0; i < 6; ++i) machine.append_well(key, i % 2 == 0 ? 3 : 30, i);
      machine.files.fail(failing_sync(key, ".data"));
      sim::CrashPoints points(machine.world);
      points.arm(machine.process(), point, 1);
      KeyModel grown = key;
      sim::Running failed(machine.process(), machine.store().append(grown.next(40, 9)));
      sim::Running fenced(machine.process(), machine.store().fence(key.key(), Epoch(7)));
      static_cast<void>(failed.wait(1h));
      static_cast<void>(fenced.wait(1h));
      machine.world.run_for(1h);
      EXPECT_EQ(points.fired_at(), point);
      machine.power_cut();
      machine.start_well();
      const auto again = machine.fence(key, Epoch(8));
      ASSERT_TRUE(again);
      EXPECT_EQ(again->state.length, key.length());
      EXPECT_EQ(machine.compare(key, key.records().size()), "");
      machine.stop();
    }
  }
}

Task<Result<void>> close_task(BlockStore& store) {
  co_await store.close();
  co_return success();
}

/// The same when log or sums failed, in the destage of a close.
TEST(Salvage, ADeathWhileLogAndSumsAreWrittenAnewLosesNothing) {
  for (const char* point : {"salvage.before_copy",
                            "salvage.before_sync",
                            "salvage.before_head",
                            "salvage.after_head",
                            "destage.before_tail",
                            "destage.after_tail"}) {
    for (const char* suffix : {".log", ".sums"}) {
      for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        SCOPED_TRACE(std::string(point) + suffix + std::to_string(seed));
        Machine machine(seed);
        machine.start_well();
        KeyModel key(key_number(1));
        ASSERT_TRUE(machine.create(key));
        for (std::uint64_t i = 0; i < 6; ++i) machine.append_well(key, i % 2 == 0 ? 3 : 30, i);
        machine.files.fail(failing_sync(key, suffix));
        sim::CrashPoints points(machine.world);
        points.arm(machine.process(), point, 1);
        sim::Running closing(machine.process(), close_task(machine.store()));
        static_cast<void>(closing.wait(1h));
        machine.power_cut();
        machine.start_well();
        const auto again = machine.fence(key, Epoch(8));
        ASSERT_TRUE(again);
        EXPECT_EQ(again->state.length, key.length());
        EXPECT_EQ(machine.compare(key, key.records().size()), "");
        machine.stop();
      }
    }
  }
}

}  // namespace
}  // namespace vmstore::storaged
