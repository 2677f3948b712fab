// SPDX-License-Identifier: Apache-2.0
// The trash: how long a removed disk can be had back, and what goes with it.
#include <gtest/gtest.h>

#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "tests/unit/storaged_service/gc_disk.h"

namespace vmstore::storaged::test {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

class TrashTest : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_.options.collect_by_itself = true;
    machine_.start_well();
  }

  TestDisk removed_disk(std::uint64_t number, Duration ago = Duration(0)) {
    TestDisk disk(machine_, DiskId{1, number}, "d" + std::to_string(number));
    disk.make();
    const auto when = machine_.process().wall_now().time_since_epoch() - ago;
    disk.record().set_trashed_ns(static_cast<std::uint64_t>(when.count()));
    disk.trash();
    return disk;
  }
  bool is_there(std::uint64_t number) {
    return machine_.get_meta(meta::trash_key(DiskId{1, number})).has_value();
  }

  Machine machine_;
};

TEST_F(TrashTest, DiskIsKeptForADayAndThenRemoved) {
  const TestDisk disk = removed_disk(1);
  machine_.world.run_for(hours(24));
  EXPECT_TRUE(is_there(1));
  machine_.world.run_for(hours(2));
  EXPECT_FALSE(is_there(1));
}

// At its first look everything seems old: the clock may be wrong, and is given an hour.
TEST_F(TrashTest, ClockThatIsAheadForAWhileRemovesNothing) {
  const TestDisk disk = removed_disk(1, hours(1000));
  machine_.world.run_for(minutes(50));
  EXPECT_TRUE(is_there(1));
  machine_.stop();
  machine_.start_well();
  machine_.world.run_for(minutes(50));
  EXPECT_TRUE(is_there(1)) << "another process begins to doubt anew";
  machine_.world.run_for(minutes(30));
  EXPECT_FALSE(is_there(1));
}

TEST_F(TrashTest, SnapshotsGoWithTheirDiskAndNoOthers) {
  const TestDisk disk = removed_disk(1, hours(25));
  const TestDisk young = removed_disk(2);
  for (int i = 0; i < 250; ++i) {
    for (const std::uint64_t number : {1U, 2U}) {
      meta::pb::SnapshotRecord record;
      *record.mutable_id() = meta::to_pb(SnapshotId{number, static_cast<std::uint64_t>(i) + 1});
      *record.mutable_disk() = meta::to_pb(DiskId{1, number});
      record.set_name("s" + std::to_string(i));
      record.mutable_view()->set_size_bytes(limits::kMiB);
      const std::string key = meta::snap_key(DiskId{1, number}, "s" + std::to_string(i));
      machine_.put_meta(key, meta::encode(record));
    }
  }
  machine_.world.run_for(hours(2));
  EXPECT_FALSE(is_there(1));
  EXPECT_TRUE(is_there(2));
  for (const int i : {0, 99, 100, 249}) {
    const std::string name = "s" + std::to_string(i);
    EXPECT_FALSE(machine_.get_meta(meta::snap_key(DiskId{1, 1}, name))) << name;
    EXPECT_TRUE(machine_.get_meta(meta::snap_key(DiskId{1, 2}, name))) << name;
  }
}

// Whoever restores it in between wins: the entry is not as it was when it was found old.
TEST_F(TrashTest, RestoredDiskStays) {
  TestDisk disk = removed_disk(1, hours(25));
  machine_.world.run_for(minutes(50));
  machine_.remove_meta(meta::trash_key(DiskId{1, 1}));
  disk.put_record();
  machine_.world.run_for(hours(3));
  EXPECT_TRUE(machine_.get_meta(meta::disk_key(DiskId{1, 1})));
}

}  // namespace
}  // namespace vmstore::storaged::test
