// SPDX-License-Identifier: Apache-2.0
// Promises about space that is overwritten faster than it is freed.
#include "tests/sim/promises_fixture.h"

namespace vmstore::sim {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kDiskBlocks = 2048;
constexpr std::uint64_t kLimit = 512;
constexpr Tag kWrites = 8000;
/// What was in the batch file when the limit was reached comes on top of it.
constexpr std::uint64_t kInFlight = limits::kBatchFileBytes / kBlockBytes;

/// Each call to the node frees one hole, and there is one call at a time; a record of the writer
/// makes a hundred holes.
disk::AsyncDiskOptions slow_frees(std::uint64_t garbage_blocks_max) {
  disk::AsyncDiskOptions options;
  options.free_batch_blocks = 1;
  options.free_runs_per_call = 1;
  options.garbage_blocks_max = garbage_blocks_max;
  return options;
}

/// Where a guest writes for the nth time: everywhere, and never twice side by side.
std::uint64_t place_of(Tag n) {
  return n * 797 % kDiskBlocks;
}

Task<Outcome> overwrite(DiskPtr disk, Tag first) {
  for (Tag n = 0; n < kWrites; ++n) {
    const std::vector<std::byte> bytes = tagged(place_of(n), 1, first + n);
    VMS_CO_CHECK(co_await disk->write(place_of(n) * kBlockBytes, bytes));
  }
  co_return co_await disk->flush();
}

class Space : public Promises {
 protected:
  DiskPtr open_full(std::uint64_t garbage_blocks_max) {
    DiskPtr disk = open(a_, "d", slow_frees(garbage_blocks_max));
    for (std::uint64_t lbn = 0; lbn < kDiskBlocks; lbn += kBlocks) write(a_, disk, lbn, kBlocks, 1);
    flush(a_, disk);
    return disk;
  }
  /// The largest backlog while a writer overwrites the disk as fast as it can.
  std::uint64_t peak_of(const DiskPtr& disk, Tag first) {
    std::uint64_t peak = 0;
    const Pending writer = begin(a_, overwrite(disk, first));
    const TimePoint stuck = world_.now() + kStuck;
    while (!writer->ended() && world_.now() < stuck) {
      world_.run_for(microseconds(500));
      peak = std::max(peak, disk->garbage_blocks());
    }
    finish(writer);
    return peak;
  }
};

TEST_F(Space, a_writer_faster_than_frees_is_slowed_and_the_backlog_stays_bounded) {
  create("d", kDiskBlocks);
  DiskPtr disk = open_full(1 << 20);
  EXPECT_GT(peak_of(disk, 10), kLimit + kInFlight) << "frees keep up: this test shows nothing";
  EXPECT_EQ(disk->slowed_time(), Duration(0));
  close(a_, disk);

  disk = open_full(kLimit);
  EXPECT_LE(peak_of(disk, 10 + kWrites), kLimit + kInFlight);
  EXPECT_GT(disk->slowed_time(), Duration(0));
  const Tag last = 10 + 2 * kWrites - 1;
  EXPECT_EQ(read(a_, disk, place_of(kWrites - 1), 1), Tags{last});
  world_.run_for(seconds(60));
  EXPECT_EQ(disk->garbage_blocks(), 0U);
  close(a_, disk);
}

// What is acknowledged is committed whatever there is to free.
TEST_F(Space, a_flush_never_waits_for_frees) {
  create("d", kDiskBlocks);
  DiskPtr disk = open_full(1);
  const Pending writer = begin(a_, overwrite(disk, 10));
  ASSERT_TRUE(world_.run_until([&] { return disk->slowed_time() > milliseconds(10); }, kStuck));
  for (int i = 0; i < 10; ++i) {
    ASSERT_FALSE(writer->ended());
    const TimePoint begun = world_.now();
    flush(a_, disk);
    EXPECT_LT(world_.now() - begun, milliseconds(20));
  }
  finish(writer);
  close(a_, disk);
}

// Of a discard, however much it frees.
TEST_F(Space, a_discard_is_not_slowed_and_stops_no_writer) {
  create("d", kDiskBlocks);
  DiskPtr disk = open_full(1);
  for (std::uint64_t lbn = 1; lbn < kDiskBlocks; lbn += 2) zero(a_, disk, lbn, 1);
  flush(a_, disk);
  const std::uint64_t backlog = disk->garbage_blocks();
  EXPECT_GT(backlog, kDiskBlocks / 4);
  write(a_, disk, 0, 1, 3);
  write(a_, disk, 2, 1, 3);
  EXPECT_GT(disk->garbage_blocks(), backlog / 2) << "the writes waited for all of it";
  world_.run_for(seconds(60));
  EXPECT_EQ(disk->garbage_blocks(), 0U);
  close(a_, disk);
}

// Somebody waits for the disk: a long backlog does not hold it back, and is not forgotten either.
TEST_F(Space, what_is_not_freed_at_release_is_left_to_the_collector) {
  constexpr std::uint64_t kMany = 16 * 1024;
  create("d", kMany);
  DiskPtr disk = open(a_, "d", slow_frees(1 << 20));
  for (std::uint64_t lbn = 0; lbn < kMany; lbn += kBlocks) write(a_, disk, lbn, kBlocks, 1);
  flush(a_, disk);
  for (std::uint64_t lbn = 0; lbn < kMany; lbn += 2) zero(a_, disk, lbn, 1);
  flush(a_, disk);
  const TimePoint begun = world_.now();
  close(a_, disk);
  const Duration took = world_.now() - begun;
  EXPECT_LT(took, seconds(5));
  // Every second block, and some pages.
  const auto report = must(b_, b_.admin().collect_garbage(false));
  EXPECT_GT(report.blocks_punched, kMany / 16) << "all was freed at release: this shows nothing";
  EXPECT_LT(report.blocks_punched, kMany / 2 + 100);
  disk = open(b_, "d");
  write(b_, disk, 0, 1, 2);
  EXPECT_EQ(read(b_, disk, 0, 4), (Tags{2, 1, 0, 1}));
  close(b_, disk);
}

// Pages say what is free: they are written out for what a guest discards, though it sends nothing
// more.
TEST_F(Space, S12_what_is_discarded_is_space_again_within_seconds) {
  create("d", kDiskBlocks);
  disk::AsyncDiskOptions options;
  options.free_batch_blocks = 64;
  DiskPtr disk = open(a_, "d", options);
  for (std::uint64_t lbn = 0; lbn < kDiskBlocks; lbn += kBlocks) write(a_, disk, lbn, kBlocks, 1);
  checkpoint(a_, disk);
  zero(a_, disk, 0, kDiskBlocks);
  flush(a_, disk);
  world_.run_for(seconds(20));
  std::uint64_t there = 0;
  for (const storaged::KeyState& key : node_.node().store().list()) {
    const auto present = run(node_.process(), node_.node().store().present_blocks(key.key));
    ASSERT_TRUE(present);
    for (const storaged::BlockRun& blocks : *present) there += blocks.blocks;
  }
  EXPECT_LT(there, kDiskBlocks / 8);
  close(a_, disk);
}

// The wait for space begins when the store says that it is full, not when the write began: this one
// waited longer than that for its node.
TEST_F(Promises, write_that_waited_for_its_node_still_waits_for_space) {
  create("d", 4096);
  disk::AsyncDiskOptions options;
  options.credit_ahead_blocks = 256;
  DiskPtr disk = open(a_, "d", options);
  write(a_, disk, 0, 1, 1);
  flush(a_, disk);
  node_.files().set_capacity(node_.files().used_bytes());
  hold(a_);
  const Pending written = begin(a_, write_task(disk, 0, 2000, 2));
  world_.run_for(limits::kNoSpaceWait + std::chrono::seconds(5));
  let_go(a_);
  world_.run_for(std::chrono::seconds(10));
  EXPECT_FALSE(written->ended());
  node_.files().set_capacity(MemoryFiles::kUnlimited);
  finish(written);
  close(a_, disk);
}

}  // namespace
}  // namespace vmstore::sim
