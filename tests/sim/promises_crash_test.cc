// SPDX-License-Identifier: Apache-2.0
// Promises about what is left after a death: the batch file, the log, and what is read twice.
#include <algorithm>
#include <utility>

#include "base/units.h"
#include "tests/sim/promises_fixture.h"

namespace vmstore::sim {
namespace {

using disk::AsyncDisk;

// ---- the batch file (C1) ----

TEST_F(Promises, C1_killed_export_keeps_acked_writes) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 4, 1);
  flush(a_, disk);
  write(a_, disk, 2, 4, 2);
  zero(a_, disk, 3, 1);
  write(a_, disk, 8, 40, 3);
  const Tags before = read(a_, disk, 0, kBlocks);
  for (int death = 0; death < 3; ++death) {
    SCOPED_TRACE(death);
    if (death == 1) die_at(a_, "disk.takeover_begun");
    bury(a_);
    start_host(a_);
    disk = open(a_, "d");
    EXPECT_EQ(read(a_, disk, 0, kBlocks), before);
  }
  EXPECT_EQ(before[2], 2U);
  EXPECT_EQ(before[3], 0U);
  EXPECT_EQ(before[47], 3U);
  close(a_, disk);
}

// The log of the dead session is the only thing that leads to its blocks: in a key that a takeover
// sealed, and in the one that is open.
TEST_F(Promises, C1_gc_round_between_kill_and_reconnect) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  disk = take_over(a_, "d");
  write(a_, disk, 4, 8, 2);
  flush(a_, disk);
  write(a_, disk, 10, 4, 3);  // in the batch file only
  bury(a_);
  collect(b_);
  start_host(a_);
  disk = open(a_, "d");
  const Tags expected{1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 0};
  EXPECT_EQ(read(a_, disk, 0, 15), expected);
  collect(b_);
  EXPECT_EQ(read(a_, disk, 0, 15), expected);
  close(a_, disk);
}

TEST_F(Promises, C1_killed_inside_rewrite) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  for (Tag tag = 2; tag < 12; ++tag) {
    SCOPED_TRACE(tag);
    for (int again = 0; again < 3; ++again) write(a_, disk, 2, 4, tag);
    die_at(a_, "disk.published");
    EXPECT_FALSE(wait(a_, write_task(disk, 1, 3, tag + 100)));
    bury_and_start(a_);
    disk = open(a_, "d");
    // Published, so it is there; but it was never acknowledged: old would be right as well.
    const Tags found = read(a_, disk, 0, 8);
    const Tags acknowledged{1, found[1], found[2], found[3], tag, tag, 1, 1};
    EXPECT_EQ(found, acknowledged);
    EXPECT_TRUE(found[2] == tag || found[2] == tag + 100);
    write(a_, disk, 0, 8, 1);
  }
  close(a_, disk);
}

TEST_F(Promises, C1_batch_file_removed) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 2, 1);
  flush(a_, disk);
  write(a_, disk, 0, 1, 2);
  const DiskId id = disk->id();
  const StoreId store = a_.session().store();
  bury(a_);
  ASSERT_TRUE(a_.batches().open(store, id, false).value()->remove());
  start_host(a_);
  const auto found = record_of(a_, "d");
  const DiskPtr refused = a_.admin().open(found, disk::AsyncDiskOptions());
  std::vector<std::byte> bytes(kBlockBytes, std::byte{7});
  const auto outcome = wait(a_, read_task(refused, 0, bytes));
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(*outcome, Outcome(Errc::unknown));
  EXPECT_EQ(bytes, std::vector<std::byte>(kBlockBytes, std::byte{7}));  // never older bytes
  must(a_, refused->leave());
  must(a_, a_.admin().discard_batch_file("d"));
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 2), (Tags{1, 1}));  // somebody decided that they are lost
  close(a_, disk);
}

/// One guest that writes, flushes and checkpoints; what it was told stands in `lbns`.
struct Script {
  std::vector<std::uint64_t> lbns;  // of write n: blocks [lbn, lbn+kScriptBlocks) get tag n+1
  std::size_t acknowledged = 0;
  std::size_t flushed = 0;
};
constexpr std::uint64_t kScriptBlocks = 20;  // more than goes into the journal
constexpr std::uint64_t kScriptRange = 48;

/// The event in which a process dies runs on to its end: what it is told there it never hears.
Task<Outcome> play(DiskPtr disk, Random& random, Script& script, const VirtualScheduler& process) {
  for (std::size_t n = 0; n < 24; ++n) {
    const std::uint64_t lbn = random.below(kScriptRange - kScriptBlocks);
    script.lbns.push_back(lbn);
    const std::vector<std::byte> bytes = tagged(lbn, n % 3 == 0 ? kScriptBlocks : 2, n + 1);
    VMS_CO_CHECK(co_await disk->write(lbn * kBlockBytes, bytes));
    if (process.is_frozen()) co_return Errc::interrupted;
    script.acknowledged = n + 1;
    if (n % 4 == 3) {
      const std::size_t before = script.acknowledged;
      VMS_CO_CHECK(co_await disk->flush());
      if (process.is_frozen()) co_return Errc::interrupted;
      script.flushed = before;
    }
    if (n % 9 == 8) VMS_CO_CHECK(co_await disk->checkpoint());
  }
  co_return success();
}

/// The disk after the first `writes` of them.
Tags after(const Script& script, std::size_t writes) {
  Tags tags(kScriptRange, 0);
  for (std::size_t n = 0; n < writes; ++n) {
    const std::uint64_t blocks = n % 3 == 0 ? kScriptBlocks : 2;
    for (std::uint64_t i = 0; i < blocks; ++i) tags[script.lbns[n] + i] = n + 1;
  }
  return tags;
}

bool is_prefix(const Script& script, const Tags& found, std::size_t least) {
  for (std::size_t n = least; n <= script.lbns.size(); ++n) {
    if (after(script, n) == found) return true;
  }
  return false;
}

// The host lives: whatever point its process was killed at, every acknowledged write is there.
TEST_F(Promises, I13_a_kill_at_any_point_keeps_every_acknowledged_write) {
  Random random(13);
  bool fired = true;
  for (std::uint64_t nth = 1; fired && nth < 400; nth += 1 + nth / 16) {
    SCOPED_TRACE(nth);
    const std::string name = "d" + std::to_string(nth);
    create(name, kScriptRange);
    DiskPtr disk = open(a_, name);
    Script script;
    die_at(a_, "", nth);
    const auto played = wait(a_, play(disk, random, script, a_.process()));
    fired = !points_.fired_at().empty();
    EXPECT_EQ(played.has_value(), !fired);
    bury_and_start(a_);
    for (int again = 0; again < 2; ++again) {
      disk = open(a_, name);
      const Tags found = read(a_, disk, 0, kScriptRange);
      EXPECT_TRUE(is_prefix(script, found, script.acknowledged)) << points_.fired_at();
      bury_and_start(a_);
    }
    disk = open(a_, name);
    close(a_, disk);
  }
  EXPECT_FALSE(fired);
}

// The power goes: what is left is the disk after some write, and after the last flush at least; the
// same when it is read again.
TEST_F(Promises, I2_after_a_power_cut_at_any_point_a_disk_is_a_prefix_of_its_log) {
  Random random(2);
  bool fired = true;
  for (std::uint64_t nth = 1; fired && nth < 400; nth += 1 + nth / 8) {
    SCOPED_TRACE(nth);
    const std::string name = "d" + std::to_string(nth);
    create(name, kScriptRange);
    DiskPtr disk = open(a_, name);
    Script script;
    points_.arm(node_.process(), "", nth);
    const Pending played = begin(a_, play(disk, random, script, a_.process()));
    EXPECT_TRUE(world_.run_until([&] { return played->ended() || node_.is_dead(); }, kStuck));
    fired = node_.is_dead();
    cut_power();
    Tags first;
    for (int again = 0; again < 2; ++again) {
      disk = open(a_, name);
      const Tags found = read(a_, disk, 0, kScriptRange);
      EXPECT_TRUE(is_prefix(script, found, script.flushed)) << points_.fired_at();
      if (again == 0) first = found;
      EXPECT_EQ(found, first);
      bury_and_start(a_);
    }
  }
  EXPECT_FALSE(fired);
}

// A flush that nobody waits long for takes its own small record; the large ones before it are on
// their way still (there is no dedup to end yet: what must not be overtaken is their sync).
TEST_F(Promises, C2_urgent_batch_overtakes_dedup) {
  for (std::uint64_t nth = 1; nth <= 12; ++nth) {
    for (const std::string point :
         {"data.before_sync", "data.after_sync", "journal.before_write"}) {
      SCOPED_TRACE(point + " " + std::to_string(nth));
      const std::string name = "d" + std::to_string(nth) + point;
      create(name, 1024);
      DiskPtr disk = open(a_, name);
      write(a_, disk, 1000, 1, 1);
      flush(a_, disk);
      points_.arm(node_.process(), point, nth);
      // Sent one after the other, or all closed by one request before the first is sent.
      const std::uint64_t at_once = nth % 2 == 0 ? 640 : 128;
      for (std::uint64_t lbn = 0; lbn < 640; lbn += at_once) write(a_, disk, lbn, at_once, 2);
      write(a_, disk, 1000, 1, 3);
      const Pending urgent = begin(a_, disk->flush());
      EXPECT_TRUE(world_.run_until([&] { return urgent->ended() || node_.is_dead(); }, kStuck));
      const bool answered = urgent->ended();
      cut_power();
      disk = open(a_, name);
      const Tags small = read(a_, disk, 1000, 1);
      Tags large = read(a_, disk, 0, 640);
      EXPECT_TRUE(!answered || small == Tags{3});
      EXPECT_TRUE(small != Tags{3} || large == Tags(640, 2));
      const auto end = std::find(large.begin(), large.end(), 0U);  // a prefix of them
      EXPECT_EQ(std::count(large.begin(), large.end(), 2U), end - large.begin());
      close(a_, disk);
    }
  }
}

// The replica fails under a record: the same sequences and bytes go to a new key.
TEST_F(Promises, R3_roll_with_record_in_flight) {
  create("d", 1024);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 512, 1);
  flush(a_, disk);
  const std::uint64_t key = record_of(b_, "d").record.open_key().key();
  FileFault fault;
  fault.operation = FileOperation::sync;
  fault.path_part = ".data";
  fault.nth = 2;
  node_.files().fail(fault);
  for (std::uint64_t lbn = 0; lbn < 1024; lbn += 128) write(a_, disk, lbn, 128, 2 + lbn / 128);
  write(a_, disk, 5, 1, 99);
  const Pending flushed = begin(a_, disk->flush());
  Tags expected;
  for (std::uint64_t lbn = 0; lbn < 1024; ++lbn) expected.push_back(2 + lbn / 128);
  expected[5] = 99;
  EXPECT_EQ(read(a_, disk, 0, 1024), expected);  // from the slots, wherever they go
  finish(flushed);
  EXPECT_NE(record_of(b_, "d").record.open_key().key(), key);
  EXPECT_EQ(read(a_, disk, 0, 1024), expected);
  cut_power();
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 1024), expected);
  close(a_, disk);
}

// Requests that overlap and are open at once: whichever came last, it stays the last.
TEST_F(Promises, F15_overlapping_writes_crash_read_twice) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, kBlocks, 1);
  checkpoint(a_, disk);
  for (Tag round = 0; round < 8; ++round) {
    SCOPED_TRACE(round);
    std::vector<Pending> writes;
    for (Tag i = 0; i < 12; ++i) {
      const std::uint64_t lbn = (i * 5 + round) % 24;
      writes.push_back(begin(a_, write_task(disk, lbn, 8 + i * 2, 100 * round + i + 2)));
      if (i % 4 == 3) writes.push_back(begin(a_, disk->flush()));
      if (i == 6) writes.push_back(begin(a_, disk->checkpoint()));
    }
    for (const Pending& one : writes) finish(one);
    const Tags live = read(a_, disk, 0, kBlocks);
    if (round % 2 == 1) {
      flush(a_, disk);
      cut_power();
    } else {
      bury_and_start(a_);
    }
    for (int again = 0; again < 2; ++again) {
      disk = open(a_, "d");
      EXPECT_EQ(read(a_, disk, 0, kBlocks), live);
      if (again == 0) close(a_, disk);
    }
  }
  close(a_, disk);
}

// A batch that is committed late does not come back above what was written since.
TEST_F(Promises, F15_a_late_commit_stays_below_newer_writes) {
  create("d");
  DiskPtr disk = open(a_, "d");
  for (Tag round = 1; round < 20; ++round) {
    SCOPED_TRACE(round);
    write(a_, disk, 0, 8, 2 * round);
    const Pending flushed = begin(a_, disk->flush());
    world_.run_for(std::chrono::microseconds(20));
    write(a_, disk, 0, 8, 2 * round + 1);
    while (!flushed->ended()) {
      EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, 2 * round + 1));
      world_.run_for(std::chrono::microseconds(30));
    }
    finish(flushed);
    EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, 2 * round + 1));
    if (round % 4 == 0) disk = take_over(a_, "d");
    EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, 2 * round + 1));
  }
  close(a_, disk);
}

// ---- what is in the way of a guest ----

TEST_F(Promises, N2_parallel_partial_writes_to_one_block) {
  create("d");
  for (Tag round = 1; round <= 6; ++round) {
    SCOPED_TRACE(round);
    DiskPtr disk = open(a_, "d");
    std::vector<Pending> writes;
    std::vector<std::vector<std::byte>> sectors;
    const std::uint64_t per_block = kBlockBytes / kSectorBytes;
    for (std::uint64_t i = 0; i < per_block; ++i) {
      sectors.emplace_back(kSectorBytes, static_cast<std::byte>(16 * round + i));
    }
    const std::uint64_t at = 3 * kBlockBytes;
    for (std::uint64_t i = 0; i < per_block; ++i) {
      writes.push_back(begin(a_, disk->write(at + i * kSectorBytes, sectors[i])));
    }
    if (round % 2 == 0) writes.push_back(begin(a_, disk->checkpoint()));
    for (const Pending& one : writes) finish(one);
    std::vector<std::byte> bytes(kBlockBytes);
    must(a_, disk->read(at, bytes));
    for (std::uint64_t i = 0; i < per_block; ++i) {
      const auto begin_at = bytes.begin() + static_cast<std::ptrdiff_t>(i * kSectorBytes);
      EXPECT_TRUE(std::equal(sectors[i].begin(), sectors[i].end(), begin_at)) << i;
    }
    close(a_, disk);
    a_.session().blocks().evict();  // the next round merges with what it must fetch first
  }
}

// The old content is on its way when the whole block is written and committed: what is merged is
// never from before that.
TEST_F(Promises, N2_partial_write_merges_with_the_newest_block) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  checkpoint(a_, disk);
  const std::vector<std::byte> sector(kSectorBytes, std::byte{9});
  for (std::uint64_t lbn = 0; lbn < 8; ++lbn) {
    SCOPED_TRACE(lbn);
    a_.session().blocks().evict();
    const Pending partial = begin(a_, disk->write(lbn * kBlockBytes + kSectorBytes, sector));
    write(a_, disk, lbn, 1, 2);
    flush(a_, disk);
    finish(partial);
    std::vector<std::byte> bytes(kBlockBytes);
    must(a_, disk->read(lbn * kBlockBytes, bytes));
    std::vector<std::byte> expected = tagged(lbn, 1, 2);
    std::copy(sector.begin(), sector.end(), expected.begin() + kSectorBytes);
    EXPECT_TRUE(bytes == expected || bytes == tagged(lbn, 1, 2));
  }
  close(a_, disk);
}

// The first block was read to be merged; while the last one is read it is written and committed
// anew.
TEST_F(Promises, N2_what_was_read_for_one_end_is_not_older_when_the_other_is_there) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 16, 1);
  checkpoint(a_, disk);
  const std::vector<std::byte> bytes(kBlockBytes, std::byte{9});
  for (std::uint64_t lbn = 0; lbn < 16; lbn += 2) {
    SCOPED_TRACE(lbn);
    write(a_, disk, lbn, 1, 2);
    flush(a_, disk);
    a_.session().blocks().evict();
    const Pending across = begin(a_, disk->write(lbn * kBlockBytes + kSectorBytes, bytes));
    write(a_, disk, lbn, 1, 3);
    flush(a_, disk);
    EXPECT_FALSE(across->ended()) << "nothing came in between: this test shows nothing";
    finish(across);
    std::vector<std::byte> found(kBlockBytes);
    must(a_, disk->read(lbn * kBlockBytes, found));
    std::vector<std::byte> expected = tagged(lbn, 1, 3);
    std::fill(expected.begin() + kSectorBytes, expected.end(), std::byte{9});
    EXPECT_TRUE(found == expected);
  }
  close(a_, disk);
}

// 512 KiB that begin inside one block end inside another one, in a chunk of less than a block: each
// keeps its own other bytes.
TEST_F(Promises, N2_long_write_keeps_what_surrounds_both_of_its_ends) {
  constexpr std::uint64_t kLast = 1 + limits::kBatchBlocks;
  create("d", 1024);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, kLast + 1, 1);
  checkpoint(a_, disk);
  a_.session().blocks().evict();
  const std::vector<std::byte> bytes(limits::kBatchBlocks * kBlockBytes, std::byte{9});
  const std::uint64_t offset = kBlockBytes + kSectorBytes;
  must(a_, disk->write(offset, bytes));
  std::vector<std::byte> expected = tagged(0, kLast + 1, 1);
  std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
  std::vector<std::byte> found(expected.size());
  must(a_, disk->read(0, found));
  EXPECT_TRUE(found == expected);
  close(a_, disk);
}

// A long read has looked up its addresses; the owner overwrites, writes out and frees them before
// it comes to read the blocks.
TEST_F(Promises, N5_reader_parked_across_gc) {
  const std::uint64_t leaves = 40;
  const std::uint64_t blocks = leaves * 512;
  create("d", blocks);
  disk::AsyncDiskOptions eager;
  eager.free_batch_blocks = 1;
  DiskPtr disk = open(a_, "d", eager);
  for (std::uint64_t leaf = 0; leaf < leaves; ++leaf) write(a_, disk, leaf * 512, 1, 1);
  checkpoint(a_, disk);
  a_.session().blocks().evict();
  std::vector<std::byte> bytes(blocks * kBlockBytes);
  const Pending reading = begin(a_, read_task(disk, 0, bytes));
  world_.run_for(std::chrono::microseconds(200));
  const std::uint64_t punched = hits("punch.after_files");
  write(a_, disk, 0, 1, 2);
  checkpoint(a_, disk);
  write(a_, disk, 511, 1, 2);  // wakes who frees
  world_.run_until([&] { return reading->ended() || hits("punch.after_files") > punched; }, kStuck);
  EXPECT_FALSE(reading->ended());
  finish(reading);
  const Tags tags = tags_of(0, bytes);
  EXPECT_EQ(tags[0], 2U);
  for (std::uint64_t leaf = 1; leaf < leaves; ++leaf) EXPECT_EQ(tags[leaf * 512], 1U);
  close(a_, disk);
}

}  // namespace
}  // namespace vmstore::sim
