// SPDX-License-Identifier: Apache-2.0
// Garbage collection: what is freed, what never is, what ends a round.
#include "storaged/gc.h"

#include <gtest/gtest.h>

#include "meta/records.h"
#include "meta/schema.h"
#include "tests/support/crash_points.h"
#include "tests/unit/storaged_service/gc_disk.h"
#include "tests/unit/wire/golden.h"

namespace vmstore::storaged::test {
namespace {

using sim::CrashPoints;

class GcTest : public ::testing::Test {
 protected:
  void SetUp() override { machine_.start_well(); }

  TestDisk make_disk(std::uint64_t number) {
    TestDisk disk(machine_, DiskId{1, number}, "d" + std::to_string(number));
    disk.make();
    return disk;
  }
  Result<GcReport> collect(bool dry_run = false) {
    return machine_.run(machine_.node().collect(dry_run));
  }
  GcReport collect_well() {
    const auto report = collect();
    EXPECT_TRUE(report) << to_string(report.error());
    return report ? *report : GcReport();
  }
  std::uint64_t used() { return *machine_.run(machine_.node().store().used_bytes()); }
  bool exists(KeyId key) { return machine_.node().store().info(key).has_value(); }
  std::uint64_t present(KeyId key) {
    const auto runs = machine_.run(machine_.node().store().present_blocks(key));
    std::uint64_t blocks = 0;
    if (runs) {
      for (const BlockRun& run : *runs) blocks += run.blocks;
    }
    return blocks;
  }
  Machine machine_;
};

TEST_F(GcTest, OverwrittenBlocksOfSealedKeysArePunched) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.roll();
  disk.write(0, 4, 200);
  disk.checkpoint();
  const KeyId old_key = disk.keys().front();
  EXPECT_EQ(present(old_key), 8U);
  const GcReport report = collect_well();
  EXPECT_EQ(report.blocks_punched, 4U);
  EXPECT_EQ(report.bytes_freed, 4 * kBlockBytes);
  EXPECT_EQ(present(old_key), 4U);
  EXPECT_EQ(disk.check(), "");
  EXPECT_EQ(collect_well().blocks_punched, 0U);
}

TEST_F(GcTest, BlocksOfTheOpenKeyAreLeftAlone) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.write(0, 8, 200);
  disk.checkpoint();
  EXPECT_EQ(collect_well().blocks_punched, 0U);
  EXPECT_EQ(disk.check(), "");
}

TEST_F(GcTest, KeyWithNothingLeftIsDeleted) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.roll();
  disk.write(0, 8, 200);
  disk.roll();
  disk.write(9, 1, 300);
  disk.checkpoint();
  const GcReport report = collect_well();
  EXPECT_EQ(report.keys_deleted, 1U);
  EXPECT_FALSE(exists(disk.keys()[0]));
  EXPECT_TRUE(exists(disk.keys()[1]));
  EXPECT_EQ(disk.check(), "");
}

TEST_F(GcTest, LogThatAReplayNeedsIsKept) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.roll();
  disk.write(0, 8, 200);
  disk.roll();
  disk.write(0, 8, 300);
  // No checkpoint: a replay begins in the first key, whatever is left of its blocks.
  const GcReport report = collect_well();
  EXPECT_EQ(report.keys_deleted, 0U);
  EXPECT_EQ(report.blocks_punched, 0U);
  EXPECT_EQ(disk.check(), "");
}

TEST_F(GcTest, SnapshotKeepsWhatItShowed) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.checkpoint();
  disk.write(2, 2, 150);
  disk.snapshot("s");
  disk.roll();
  disk.write(0, 8, 200);
  disk.checkpoint();
  collect_well();
  EXPECT_EQ(disk.check(), "");
  EXPECT_EQ(disk.check_snapshot("s"), "");
  disk.remove_snapshot("s");
  EXPECT_GT(collect_well().bytes_freed, 0U);
  EXPECT_EQ(disk.check(), "");
}

TEST_F(GcTest, CloneKeepsItsParentsBlocksAfterParentAndSnapshotAreGone) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.checkpoint();
  disk.write(4, 2, 150);  // only in the log: the clone has to replay it
  disk.snapshot("s");
  TestDisk clone(machine_, DiskId{1, 2}, "c");
  clone.make_clone_of(disk, "s");
  disk.remove_snapshot("s");
  disk.purge();
  for (int round = 0; round < 3; ++round) collect_well();
  EXPECT_EQ(clone.check(), "");
  clone.write(0, 1, 500);
  clone.checkpoint();
  for (int round = 0; round < 3; ++round) collect_well();
  EXPECT_EQ(clone.check(), "");
}

TEST_F(GcTest, UnsealedKeyOfADiskThatIsGoneIsSealedThenPunched) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.snapshot("s");
  TestDisk clone(machine_, DiskId{1, 2}, "c");
  clone.make_clone_of(disk, "s");
  disk.write(20, 8, 200);  // behind the snapshot: the clone does not need it
  disk.remove_snapshot("s");
  disk.purge();
  const KeyId key = disk.open_key();
  EXPECT_EQ(collect_well().blocks_punched, 0U);
  EXPECT_TRUE(machine_.node().store().info(key)->sealed);
  EXPECT_EQ(collect_well().blocks_punched, 8U);
  EXPECT_EQ(clone.check(), "");
}

TEST_F(GcTest, TrashIsKept) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.checkpoint();
  disk.trash();
  EXPECT_EQ(collect_well().bytes_freed, 0U);
  EXPECT_EQ(disk.check(), "");
  disk.purge();
  EXPECT_EQ(collect_well().keys_deleted, 1U);
}

TEST_F(GcTest, I6_everything_deleted_returns_used_bytes_to_zero) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.snapshot("s");
  disk.roll();
  disk.checkpoint();
  TestDisk clone(machine_, DiskId{1, 2}, "c");
  clone.make_clone_of(disk, "s");
  clone.write(3, 3, 300);
  disk.create_key();  // of a roll that never came to its end
  EXPECT_GT(used(), 0U);
  disk.remove_snapshot("s");
  disk.purge();
  clone.purge();
  collect_well();
  EXPECT_EQ(used(), 0U);
  EXPECT_TRUE(machine_.node().store().list().empty());
}

TEST_F(GcTest, DryRunCountsAndChangesNothing) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.roll();
  disk.write(0, 8, 200);
  disk.roll();
  disk.checkpoint();
  disk.write(0, 4, 300);
  const auto gc_record = machine_.get_meta(std::string(meta::kGcKey));
  const std::uint64_t changes = machine_.files.changes();
  const auto dry = collect(true);
  ASSERT_TRUE(dry);
  EXPECT_EQ(machine_.files.changes(), changes);
  EXPECT_EQ(machine_.get_meta(std::string(meta::kGcKey)), gc_record);
  const GcReport wet = collect_well();
  EXPECT_EQ(dry->keys_deleted, wet.keys_deleted);
  EXPECT_EQ(dry->blocks_punched, wet.blocks_punched);
  EXPECT_EQ(dry->bytes_freed, wet.bytes_freed);
  EXPECT_EQ(dry->blocks_live, wet.blocks_live);
  EXPECT_GT(wet.keys_deleted, 0U);
}

// ---- keys that no record names (C4) ----

TEST_F(GcTest, C4_created_key_of_the_present_epoch_is_kept) {
  TestDisk disk = make_disk(1);
  disk.write(0, 1, 100);
  const KeyId key = disk.create_key();
  collect_well();
  EXPECT_TRUE(exists(key));
  disk.name_key(key);  // the transaction that was under way
  disk.write(1, 1, 200);
  EXPECT_EQ(disk.check(), "");
}

TEST_F(GcTest, C4_created_key_of_a_lost_epoch_is_deleted) {
  TestDisk disk = make_disk(1);
  disk.write(0, 1, 100);
  const KeyId key = disk.create_key();
  disk.take_over();
  EXPECT_EQ(collect_well().keys_deleted, 1U);
  EXPECT_FALSE(exists(key));
  EXPECT_TRUE(exists(disk.open_key()));
  EXPECT_EQ(disk.check(), "");
}

// ---- fail closed (I9, G1) ----

TEST_F(GcTest, G1_failed_list_frees_nothing) {
  // Goal: whatever read of the catalogue fails, nothing is freed. Method: garbage is there; each
  // call of the catalogue in turn answers with an error, until a round needs no more calls.
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.snapshot("s");
  disk.remove_snapshot("s");
  disk.roll();
  disk.write(0, 8, 200);
  disk.checkpoint();
  TestDisk trashed = make_disk(2);
  trashed.write(0, 1, 300);
  trashed.trash();
  const std::uint64_t changes_of_nothing = present(disk.keys()[0]);
  int failed = 0;
  for (;; ++failed) {
    ASSERT_LT(failed, 100);
    for (int i = 0; i < failed; ++i) machine_.node_meta().plan(meta::MemFault::none);
    machine_.node_meta().plan(meta::MemFault::refused);
    const auto report = collect();
    if (report) break;
    EXPECT_EQ(present(disk.keys()[0]), changes_of_nothing);
    EXPECT_TRUE(exists(trashed.open_key()));
    // What was planned and not used up must not hit the next round's first calls.
    while (!collect(true)) {
    }
  }
  EXPECT_GE(failed, 6);
  EXPECT_EQ(disk.check(), "");
  EXPECT_EQ(trashed.check(), "");
}

TEST_F(GcTest, G1_record_that_does_not_decode_frees_nothing) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  TestDisk gone = make_disk(2);
  gone.write(0, 8, 200);
  gone.purge();
  const std::string key = meta::disk_key(DiskId{1, 3});
  machine_.put_meta(key, "not a record");
  EXPECT_FALSE(collect());
  EXPECT_TRUE(exists(gone.open_key()));
  machine_.remove_meta(key);
  EXPECT_TRUE(collect());
  EXPECT_FALSE(exists(gone.open_key()));
}

TEST_F(GcTest, I9_unreadable_page_frees_nothing) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.checkpoint();
  TestDisk gone = make_disk(2);
  gone.write(0, 8, 200);
  gone.purge();
  const std::string hex = disk.top().key().hex();
  // The page's bytes rot on the device; the store must be asked again, not its cache.
  machine_.stop();
  bool flipped = false;
  const auto folders = machine_.files.list("keys");
  ASSERT_TRUE(folders);
  for (const std::string& folder : *folders) {
    const auto names = machine_.files.list("keys/" + folder);
    if (!names) continue;
    for (const std::string& name : *names) {
      if (name.find(hex) == std::string::npos || name.find("data") == std::string::npos) continue;
      flipped |= machine_.files.flip_bit(
          "keys/" + folder + "/" + name, disk.top().block().value * kBlockBytes + 100, 3);
    }
  }
  ASSERT_TRUE(flipped);
  machine_.start_well();
  EXPECT_FALSE(collect());
  EXPECT_TRUE(exists(gone.open_key()));
}

TEST_F(GcTest, WhatEndsARoundIsNamed) {
  const auto problem = [this] { return machine_.node().gc().problem(); };
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.roll();
  disk.write(0, 8, 200);
  disk.checkpoint();
  collect_well();
  EXPECT_EQ(problem(), "");
  disk.snapshot("s");
  const std::vector<BlockRun> top{{disk.top().block(), 1}};
  ASSERT_TRUE(machine_.run(machine_.node().store().free_private(
      disk.top().key(), Epoch(disk.record().epoch()), disk.id(), top)));
  ASSERT_FALSE(collect());
  const std::string page = "page at block " + std::to_string(disk.top().block().value) +
                           " of key " + disk.top().key().hex();
  EXPECT_EQ(problem().find("snapshot s of disk " + disk.id().hex() + ": " + page), 0U);
  Client client(machine_, "client");
  client.greet();
  const auto status =
      client.call<pb::NodeStatusReply>(wire::Opcode::node_status, pb::NodeStatusRequest());
  ASSERT_TRUE(status);
  ASSERT_EQ(status->warnings_size(), 1);
  EXPECT_NE(status->warnings(0).find(page), std::string::npos);
  disk.remove_snapshot("s");
  ASSERT_FALSE(collect());
  EXPECT_EQ(problem().find("disk d1 " + disk.id().hex() + ": " + page), 0U);
  disk.purge();
  TestDisk other = make_disk(2);
  other.write(0, 8, 300);
  other.roll();
  other.write(0, 8, 400);
  ASSERT_TRUE(machine_.run(machine_.node().store().remove(other.keys().front())));
  ASSERT_FALSE(collect());
  EXPECT_EQ(problem().find("disk d2 " + other.id().hex() + ": the log from key " +
                           other.keys().front().hex()),
            0U);
  other.purge();
  collect_well();
  EXPECT_EQ(problem(), "");
}

TEST_F(GcTest, I9_missing_key_of_a_log_frees_nothing) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.roll();
  disk.write(0, 8, 200);
  TestDisk gone = make_disk(2);
  gone.write(0, 8, 300);
  gone.purge();
  ASSERT_TRUE(machine_.run(machine_.node().store().remove(disk.keys()[0])));
  EXPECT_EQ(collect().error(), Errc::unknown);
  EXPECT_TRUE(exists(gone.open_key()));
}

TEST_F(GcTest, I9_missing_open_key_frees_nothing) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  TestDisk gone = make_disk(2);
  gone.write(0, 8, 300);
  gone.purge();
  ASSERT_TRUE(machine_.run(machine_.node().store().remove(disk.open_key())));
  EXPECT_EQ(collect().error(), Errc::unknown);
  EXPECT_TRUE(exists(gone.open_key()));
}

TEST_F(GcTest, CompactedRevisionEndsTheRound) {
  TestDisk gone = make_disk(1);
  gone.write(0, 8, 100);
  gone.purge();
  // The reads of the catalogue come behind: get and transaction of the round's record.
  for (int i = 0; i < 2; ++i) machine_.node_meta().plan(meta::MemFault::none);
  machine_.node_meta().plan(meta::MemFault::compacted);
  const auto report = collect();
  EXPECT_TRUE(report || exists(gone.open_key()));
  EXPECT_TRUE(collect());
  EXPECT_FALSE(exists(gone.open_key()));
}

TEST_F(GcTest, CatalogueThatWentBackFreesNothing) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  collect_well();
  collect_well();
  machine_.stop();
  // A catalogue from an earlier day: the same store, lower revisions, and the disk is not in it.
  GcState state;
  state.round = 100;
  state.revision = 1000000;
  ASSERT_TRUE(replace_file(machine_.files, kGcFile, encode_gc_state(state)));
  machine_.start_well();
  disk.purge();
  EXPECT_EQ(collect().error(), Errc::corrupt);
  EXPECT_TRUE(exists(disk.open_key()));
}

TEST_F(GcTest, DamagedStateFileFreesNothing) {
  TestDisk gone = make_disk(1);
  gone.write(0, 8, 100);
  gone.purge();
  ASSERT_TRUE(replace_file(machine_.files, kGcFile, as_byte_span("garbage")));
  EXPECT_EQ(collect().error(), Errc::corrupt);
  EXPECT_TRUE(exists(gone.open_key()));
}

TEST_F(GcTest, OneRoundAtATime) {
  make_disk(1).write(0, 8, 100);
  sim::Running<Result<GcReport>> first(machine_.process(), machine_.node().collect(false));
  EXPECT_EQ(collect().error(), Errc::busy);
  ASSERT_TRUE(first.wait(std::chrono::seconds(10)));
  EXPECT_TRUE(first.outcome());
}

TEST_F(GcTest, StopEndsARoundAtItsNextStep) {
  for (std::uint64_t i = 1; i < 20; ++i) {
    TestDisk disk = make_disk(i);
    disk.write(0, 8, i * 100);
    disk.checkpoint();
  }
  sim::Running<Result<GcReport>> round(machine_.process(), machine_.node().collect(false));
  machine_.world.run_for(std::chrono::milliseconds(1));
  ASSERT_FALSE(round.ended());
  machine_.node().gc().stop();
  ASSERT_TRUE(round.wait(std::chrono::seconds(10)));
  EXPECT_EQ(round.outcome().error(), Errc::interrupted);
}

// ---- interleavings: what clients do between the mark and the freeing ----

TEST_F(GcTest, I6_older_root_in_the_log_is_marked_for_a_snapshot_yet_to_come) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.checkpoint();
  disk.roll();
  disk.write(0, 4, 200);
  disk.checkpoint(false);
  disk.snapshot("s");  // names the unnamed root
  disk.write(4, 4, 300);
  disk.checkpoint(false);
  disk.roll();
  collect_well();
  EXPECT_EQ(disk.check_snapshot("s"), "");
  EXPECT_EQ(disk.check(), "");
}

TEST_F(GcTest, OwnerFreesAnOlderRootsPagesAndTheRoundGoesOn) {
  // The record still names the old root; its pages were freed by the owner because a newer root is
  // in the log.
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.checkpoint();
  disk.write(0, 4, 200);
  disk.checkpoint(false);
  disk.free_replaced();
  disk.roll();
  TestDisk gone = make_disk(2);
  gone.write(0, 8, 300);
  gone.purge();
  collect_well();
  EXPECT_FALSE(exists(gone.open_key()));
  EXPECT_EQ(disk.check(), "");
}

TEST_F(GcTest, FreedPageBelowTheNewestRootEndsTheRound) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.checkpoint();
  TestDisk gone = make_disk(2);
  gone.write(0, 8, 300);
  gone.purge();
  std::vector<BlockRun> runs{{disk.top().block(), 1}};
  ASSERT_TRUE(machine_.run(machine_.node().store().free_private(
      disk.top().key(), Epoch(1), disk.id(), std::move(runs))));
  EXPECT_EQ(collect().error(), Errc::punched);
  EXPECT_TRUE(exists(gone.open_key()));
}

TEST_F(GcTest, FreedPageBelowASnapshotEndsTheRound) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  disk.checkpoint();
  disk.snapshot("s");
  const Address snapshot_top = disk.top();
  disk.write(0, 8, 200);
  disk.checkpoint();
  TestDisk gone = make_disk(2);
  gone.write(0, 8, 300);
  gone.purge();
  std::vector<BlockRun> runs{{snapshot_top.block(), 1}};
  ASSERT_TRUE(machine_.run(machine_.node().store().free_private(
      snapshot_top.key(), Epoch(1), disk.id(), std::move(runs))));
  EXPECT_FALSE(collect());
  EXPECT_TRUE(exists(gone.open_key()));
}

TEST_F(GcTest, KeyThatCannotBeFreedDoesNotStopTheOthers) {
  TestDisk bad = make_disk(1);
  TestDisk good = make_disk(2);
  for (TestDisk* const disk : {&bad, &good}) {
    disk->write(0, 8, 100);
    disk->roll();
    disk->write(0, 4, 200);
    disk->checkpoint();
  }
  sim::FileFault fault;
  fault.operation = sim::FileOperation::write;
  fault.path_part = bad.keys().front().hex() + ".sums";
  fault.repeat = true;
  machine_.files.fail(fault);
  const GcReport report = collect_well();
  machine_.files.clear_faults();
  EXPECT_EQ(report.keys_failed, 1U);
  EXPECT_EQ(report.blocks_punched, 4U);
  EXPECT_EQ(present(good.keys().front()), 4U);
  EXPECT_EQ(good.check(), "");
  const std::string metrics = machine_.run(machine_.node().metrics_text());
  EXPECT_NE(metrics.find("vmstore_gc_failed_keys_total 1\n"), std::string::npos);
}

/// The node's only thread serves guests meanwhile: with every page in the page cache, a round must
/// not hold it from its beginning to its end.
TEST_F(GcTest, MarkLetsOthersRunBetweenPages) {
  TestDisk disk = make_disk(1);
  constexpr std::uint64_t kLeaves = 120;
  for (std::uint64_t i = 0; i < kLeaves; ++i) disk.write(i * 512, 1, 100 + i);
  disk.checkpoint();
  auto& store = machine_.node().store();
  sim::Running<Result<GcReport>> round(machine_.process(), machine_.node().collect(true));
  std::uint64_t reads = store.counters().reads;
  std::uint64_t most = 0;
  while (!round.ended() && machine_.world.step()) {
    most = std::max(most, store.counters().reads - reads);
    reads = store.counters().reads;
  }
  ASSERT_TRUE(round.ended() && round.outcome());
  EXPECT_GT(round.outcome()->pages_visited, kLeaves);
  EXPECT_LE(most, 40U);
}

TEST_F(GcTest, KeySealedAfterTheListIsLeftToTheNextRound) {
  TestDisk disk = make_disk(1);
  disk.write(0, 8, 100);
  const KeyId key = disk.open_key();
  sim::Running<Result<GcReport>> round(machine_.process(), machine_.node().collect(false));
  // The list was taken synchronously; from here on the key is sealed and emptied.
  disk.roll();
  disk.write(0, 8, 200);
  disk.checkpoint();
  ASSERT_TRUE(round.wait(std::chrono::seconds(10)));
  ASSERT_TRUE(round.outcome());
  EXPECT_TRUE(exists(key));
  EXPECT_EQ(present(key), 8U);
  EXPECT_EQ(disk.check(), "");
  collect_well();
  EXPECT_LT(present(key), 8U);
}

// ---- crashes ----

TEST_F(GcTest, I12_crash_anywhere_in_a_round_loses_nothing) {
  for (const char* point :
       {"gc.marked", "gc.before_punch", "gc.punched", "gc.before_remove", "gc.removed"}) {
    SCOPED_TRACE(point);
    Machine machine;
    machine.start_well();
    TestDisk disk(machine, DiskId{1, 1}, "d");
    disk.make();
    disk.write(0, 8, 100);
    disk.roll();
    disk.write(0, 4, 200);
    disk.checkpoint();  // half of the first key is garbage now
    disk.snapshot("s");
    disk.write(0, 2, 250);
    disk.roll();
    disk.checkpoint();
    TestDisk gone(machine, DiskId{1, 2}, "g");
    gone.make();
    gone.write(0, 8, 300);
    gone.purge();
    {
      CrashPoints crash(machine.world);
      crash.arm(machine.process(), point, 1);
      sim::Running<Result<GcReport>> round(machine.process(), machine.node().collect(false));
      EXPECT_FALSE(round.wait(std::chrono::minutes(1)));
      EXPECT_EQ(crash.fired_at(), point);
      machine.kill();
    }
    machine.start_well();
    EXPECT_EQ(disk.check(), "");
    EXPECT_EQ(disk.check_snapshot("s"), "");
    const auto report = machine.run(machine.node().collect(false));
    ASSERT_TRUE(report) << to_string(report.error());
    EXPECT_EQ(disk.check(), "");
    EXPECT_EQ(disk.check_snapshot("s"), "");
    EXPECT_FALSE(machine.node().store().info(gone.open_key()));
  }
}

// ---- the state file ----

GcState golden_state() {
  GcState state;
  state.round = 0x0102030405060708;
  state.revision = 0x1112131415161718;
  state.live_bytes = 0x2122232425262728;
  return state;
}

TEST(GcState, GoldenFileIsReadAndWritten) {
  const auto bytes = wire::test::golden("gc-v1.hex");
  EXPECT_EQ(encode_gc_state(golden_state()), bytes);
  const auto decoded = decode_gc_state(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, golden_state());
}

TEST(GcState, EveryTruncationAndFlipIsRefused) {
  const auto bytes = encode_gc_state(golden_state());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_gc_state(ByteSpan(bytes).first(size))) << size;
  }
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto flipped = bytes;
    flipped[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(decode_gc_state(flipped)) << bit;
  }
  auto newer = bytes;
  newer[8] = std::byte{2};
  EXPECT_EQ(decode_gc_state(newer).error(), Errc::newer_format);
}

}  // namespace
}  // namespace vmstore::storaged::test
