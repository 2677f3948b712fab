// SPDX-License-Identifier: Apache-2.0
// Promises about what an owner does by itself: when a write that nobody flushes is committed, what
// a checkpoint holds, what a roll disturbs.
#include <set>
#include <vector>

#include "base/limits.h"
#include "tests/sim/promises_fixture.h"

namespace vmstore::sim {
namespace {

using std::chrono::milliseconds;

// The owner's background task looks once in a while, and a write wakes it only when it would look
// too late: so writes come at every moment of its pause, and when it has ended.
TEST_F(Promises, a_write_nobody_flushes_is_committed_within_its_age_whenever_it_comes) {
  create("d");
  DiskPtr disk = open(a_, "d");
  for (const int pause_ms : {0, 1, 250, 500, 750, 990, 999, 1000, 1001, 1010, 1500, 2000, 5000}) {
    SCOPED_TRACE(pause_ms);
    write(a_, disk, 0, 1, 1);
    flush(a_, disk);
    world_.run_for(milliseconds(pause_ms));
    write(a_, disk, 1, 1, 2);
    EXPECT_FALSE(disk->try_flush()) << "committed at once: this test shows nothing";
    world_.run_for(limits::kBatchAgeMax + milliseconds(100));
    EXPECT_TRUE(disk->try_flush());
  }
  close(a_, disk);
}

// Again and again right behind a flush, as a database writes its log.
TEST_F(Promises, a_write_behind_many_flushes_is_committed_within_its_age) {
  create("d");
  DiskPtr disk = open(a_, "d");
  for (int round = 0; round < 300; ++round) {
    write(a_, disk, 0, 1, 1);
    flush(a_, disk);
    world_.run_for(milliseconds(7));
  }
  write(a_, disk, 1, 1, 2);
  world_.run_for(limits::kBatchAgeMax + milliseconds(100));
  EXPECT_TRUE(disk->try_flush());
  close(a_, disk);
}

// Pages go to the log while the rest of the checkpoint is built: 1,500 of them wait for a node that
// answers nothing, and only what the log sends at once exists.
TEST_F(Promises, checkpoint_holds_few_pages_whatever_it_writes) {
  constexpr std::uint64_t kLeaves = 1500;
  constexpr std::uint64_t kLeafBlocks = 512;
  create("d", kLeaves * kLeafBlocks);
  DiskPtr disk = open(a_, "d");
  for (std::uint64_t i = 0; i < kLeaves; ++i) write(a_, disk, i * kLeafBlocks + i % 7, 1, i + 1);
  flush(a_, disk);
  const std::uint64_t before = hits("disk.pages_queued");
  hold(a_);
  const Pending pending = begin(a_, disk->checkpoint());
  world_.run_for(milliseconds(500));
  EXPECT_EQ(hits("disk.pages_queued") - before, 8U);
  EXPECT_FALSE(pending->ended());
  let_go(a_);
  finish(pending);
  EXPECT_EQ(hits("disk.pages_queued") - before, 12U);  // 1,500 leaves, 3 parents, 2 above them
  close(a_, disk);
  disk = open(b_, "d");
  for (std::uint64_t i = 0; i < kLeaves; i += 7) {
    EXPECT_EQ(read(b_, disk, i * kLeafBlocks + i % 7, 1), Tags(1, i + 1));
  }
  close(b_, disk);
}

// Pages are appended before their parents, and a roll appends again what is not committed, in
// order: so parents name the places of now, whatever was where before, and nothing is written twice
// over.
TEST_F(Promises, checkpoint_whose_pages_are_appended_again_reads_back_and_begins_once) {
  constexpr std::uint64_t kLeaves = 600;
  constexpr std::uint64_t kLeafBlocks = 512;
  for (const std::uint64_t every : {1U, 2U, 3U, 5U}) {
    SCOPED_TRACE(every);
    const std::string name = "d" + std::to_string(every);
    create(name, kLeaves * kLeafBlocks);
    disk::AsyncDiskOptions options;
    options.key_roll_bytes = limits::kMiB;  // and a roll now and then that nothing failed for
    DiskPtr disk = open(a_, name, options);
    for (Tag round = 0; round < 3; ++round) {
      for (std::uint64_t i = 0; i < kLeaves; ++i) {
        write(a_, disk, i * kLeafBlocks + i % 7 + round, 1, 1000 * round + i + 1);
      }
      flush(a_, disk);
      const std::uint64_t pages = hits("disk.pages_queued");
      const std::uint64_t keys = hits("disk.key_named");
      FileFault fault;
      fault.operation = FileOperation::sync;
      fault.path_part = ".data";
      for (fault.nth = 1; fault.nth < 5 * every; fault.nth += every) node_.files().fail(fault);
      checkpoint(a_, disk);
      EXPECT_GE(hits("disk.key_named") - keys, 2U) << "too few rolls: this test shows nothing";
      EXPECT_EQ(hits("disk.pages_queued") - pages, 5U);  // 600 leaves, 2 parents, 2 above them
      node_.files().clear_faults();
      if (round == 1) disk = take_over(a_, name);
    }
    close(a_, disk);
    disk = open(b_, name);
    for (std::uint64_t i = 0; i < kLeaves; ++i) {
      Tags expected{i + 1, 1000 + i + 1, 2000 + i + 1};
      expected.resize(kLeafBlocks - i % 7);
      expected.insert(expected.begin(), i % 7, 0);
      EXPECT_EQ(read(b_, disk, i * kLeafBlocks, kLeafBlocks), expected) << i;
    }
    close(b_, disk);
  }
}

// The index cannot be read for two minutes: the owner tries again, but not at every step, and what
// it froze for the first attempt serves for the last.
TEST_F(Promises, checkpoints_that_fail_are_few_and_pile_nothing_up) {
  create("d", 4096);
  DiskPtr disk = open(a_, "d");
  for (std::uint64_t lbn = 0; lbn < 4096; lbn += 512) write(a_, disk, lbn, 1, 1);
  close(a_, disk);
  disk::AsyncDiskOptions eager;
  eager.checkpoint_runs = 4;
  disk = open(a_, "d", eager);
  FileFault fault;
  fault.operation = FileOperation::read;
  fault.path_part = ".data";
  fault.repeat = true;
  node_.files().fail(fault);
  const std::uint64_t before = hits("disk.frozen");
  for (Tag tag = 2; tag < 122; ++tag) {
    for (std::uint64_t lbn = 0; lbn < 4096; lbn += 512) write(a_, disk, lbn, 1, tag);
    world_.run_for(std::chrono::seconds(1));
  }
  EXPECT_GE(hits("disk.frozen") - before, 1U);
  EXPECT_LE(hits("disk.frozen") - before, 3U);
  node_.files().clear_faults();
  flush(a_, disk);
  world_.run_for(std::chrono::seconds(10));
  EXPECT_GT(hits("disk.root_named"), 1U);
  EXPECT_EQ(read(a_, disk, 512, 1), Tags{121});
  close(a_, disk);
}

// Keys of 256 KiB: rolls all the time, while writers ask for space in the key that is being sealed.
TEST_F(Promises, write_that_meets_a_roll_gets_no_error) {
  constexpr std::uint64_t kWriters = 8;
  constexpr std::uint64_t kOwnBlocks = 64;
  create("d", kWriters * kOwnBlocks);
  disk::AsyncDiskOptions options;
  options.key_roll_bytes = 256 * limits::kKiB;
  options.credit_ahead_blocks = 64;
  DiskPtr disk = open(a_, "d", options);
  for (Tag round = 1; round <= 100; ++round) {
    std::vector<Pending> pending;
    for (std::uint64_t writer = 0; writer < kWriters; ++writer) {
      const std::uint64_t lbn = writer * kOwnBlocks + round % 32;
      pending.push_back(begin(a_, write_task(disk, lbn, 1 + round % 32, round)));
    }
    for (const Pending& one : pending) finish(one);
  }
  flush(a_, disk);
  EXPECT_GT(hits("disk.key_named"), 50U) << "too few rolls: this test shows nothing";
  EXPECT_EQ(read(a_, disk, 100 % 32, 1), Tags(1, 100));
  close(a_, disk);
}

// A boot storm: every clone draws its first key number in the same moment. One change of the
// catalogue serves them all, or the last of hundreds waits for as many syncs.
TEST_F(Promises, hundreds_that_draw_key_numbers_at_once_all_get_theirs) {
  constexpr std::size_t kDisks = 200;
  std::set<std::uint64_t> drawn;
  const auto draw = [](net::NodeClient& node, std::set<std::uint64_t>& into) -> Task<Outcome> {
    VMS_CO_TRY(const std::uint64_t first, co_await node.draw_keys(4));
    into.insert(first);
    co_return success();
  };
  const std::uint64_t before = catalogue().catalogue().revision();
  std::vector<Pending> all;
  for (std::size_t i = 0; i < kDisks; ++i) {
    all.push_back(begin(a_, draw(a_.session().node(), drawn)));
  }
  for (const Pending& one : all) finish(one);
  EXPECT_EQ(drawn.size(), kDisks);
  EXPECT_LE(catalogue().catalogue().revision() - before, 2U);
}

}  // namespace
}  // namespace vmstore::sim
