// SPDX-License-Identifier: Apache-2.0
// Promises about what a disk holds: rollback, holes, zeros, damage.
#include <algorithm>
#include <utility>

#include "base/units.h"
#include "disk/catalogue.h"
#include "storaged/key_files.h"
#include "tests/sim/promises_fixture.h"

namespace vmstore::sim {
namespace {

// ---- rollback ----

// The crash comes after the rollback: neither the log from before nor a batch file from before may
// come back above the snapshot.
TEST_F(Promises, C9_rollback_then_crash) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 4, 1);
  snapshot(a_, "d", "s");
  write(a_, disk, 0, 2, 2);
  flush(a_, disk);
  write(a_, disk, 2, 6, 3);  // acknowledged only
  bury_and_start(a_);
  EXPECT_EQ(answer_of(wait(a_, a_.admin().rollback("d", "s", false))), Outcome(Errc::busy));
  must(a_, a_.admin().rollback("d", "s", true));
  bury_and_start(a_);
  const Tags rolled{1, 1, 1, 1, 0, 0, 0, 0};
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 8), rolled);
  bury_and_start(a_);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 8), rolled);
  write(a_, disk, 7, 1, 4);
  bury_and_start(a_);
  Tags written = rolled;
  written[7] = 4;
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 8), written);
  flush(a_, disk);
  cut_power();
  collect(b_);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 8), written);
  close(a_, disk);
  EXPECT_EQ(read_snapshot(b_, "d", "s", 0, 8), rolled);
}

// A crash at each step of a rollback, of the client and of the node: the disk holds what it held or
// what the snapshot holds, and the rollback can be made again.
TEST_F(Promises, S9_rollback_crash_at_each_step) {
  for (const bool of_node : {false, true}) {
    bool fired = true;
    for (std::uint64_t nth = 1; fired && nth < 200; ++nth) {
      SCOPED_TRACE((of_node ? "node " : "client ") + std::to_string(nth));
      const std::string name = (of_node ? "n" : "c") + std::to_string(nth);
      create(name);
      DiskPtr disk = open(a_, name);
      write(a_, disk, 0, 8, 1);
      snapshot(a_, name, "s");
      write(a_, disk, 4, 8, 2);
      close(a_, disk);
      points_.arm(of_node ? node_.process() : a_.process(), "", nth);
      const Pending rolled = begin(a_, a_.admin().rollback(name, "s", false));
      const auto done = [&] {
        return rolled->ended() || node_.is_dead() || a_.process().is_frozen();
      };
      EXPECT_TRUE(world_.run_until(done, kStuck));
      points_.disarm();
      fired = !points_.fired_at().empty();
      const std::string point = points_.fired_at();
      const Death death = nth % 2 == 0 ? Death::power : Death::kill;
      if (of_node && fired) {
        restart_node(death);
        EXPECT_TRUE(rolled->wait(kStuck)) << point;
      }
      if (!of_node && fired) bury_and_start(a_, death);
      world_.run_for(2 * limits::kLeaseTime);
      disk = open(a_, name);
      const Tags found = read(a_, disk, 0, 12);
      const Tags rolled_back{1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
      const Tags before{1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2};
      EXPECT_TRUE(found == rolled_back || found == before) << point;
      const bool told = of_node && rolled->ended() && rolled->outcome();
      EXPECT_TRUE(!told || found == rolled_back) << point;
      write(a_, disk, 8, 1, 3);
      close(a_, disk);
      must(a_, a_.admin().rollback(name, "s", false));
      disk = open(a_, name);
      EXPECT_EQ(read(a_, disk, 0, 12), rolled_back) << point;
      close(a_, disk);
      must(b_, b_.admin().remove(name, true, false));
    }
    EXPECT_FALSE(fired);
  }
  collect(b_);
  const auto status = must(b_, b_.admin().node_status());
  EXPECT_EQ(status.used_bytes, 0U);
}

// ---- holes ----

Task<Outcome> copy_by_extents(DiskPtr from, DiskPtr to, std::uint64_t bytes) {
  for (std::uint64_t at = 0; at < bytes;) {
    VMS_CO_TRY(const auto found, co_await from->extents(at, bytes - at, 3));
    if (found.empty()) co_return Errc::corrupt;
    for (const disk::DiskExtent& extent : found) {
      at = extent.offset + extent.bytes;
      std::vector<std::byte> part(extent.bytes);
      if (extent.zero) {
        VMS_CO_CHECK(co_await to->zero(extent.offset, extent.bytes));
      } else {
        VMS_CO_CHECK(co_await from->read(extent.offset, part));
        VMS_CO_CHECK(co_await to->write(extent.offset, part));
      }
    }
  }
  co_return success();
}

// Made by block status onto a disk that is full of something else.
TEST_F(Promises, S4_holes_survive_copy) {
  create("from");
  create("to");
  DiskPtr from = open(a_, "from");
  DiskPtr to = open(a_, "to");
  write(a_, to, 0, kBlocks, 9);
  write(a_, from, 0, 40, 1);
  checkpoint(a_, from);
  zero(a_, from, 4, 9);
  write(a_, from, 6, 1, 2);
  flush(a_, from);
  zero(a_, from, 30, 20);
  write(a_, from, 33, 2, 3);  // in the open batch
  must(a_, copy_by_extents(from, to, kBlocks * kBlockBytes));
  const Tags expected = read(a_, from, 0, kBlocks);
  EXPECT_EQ(read(a_, to, 0, kBlocks), expected);
  std::uint64_t holes = 0;
  for (const auto& extent : must(a_, to->extents(0, kBlocks * kBlockBytes, 100))) {
    holes += extent.zero ? extent.bytes / kBlockBytes : 0;
  }
  EXPECT_EQ(holes, static_cast<std::uint64_t>(std::count(expected.begin(), expected.end(), 0U)));
  close(a_, from);
  close(a_, to);
}

TEST_F(Promises, S5_block_status_during_writes_never_calls_dirty_data_a_hole) {
  create("d", 2048);
  DiskPtr disk = open(a_, "d");
  std::vector<Pending> under_way;
  std::vector<bool> written(2048, false);
  for (std::uint64_t step = 0; step < 120; ++step) {
    SCOPED_TRACE(step);
    const std::uint64_t lbn = (step * 577) % 2040;
    write(a_, disk, lbn, 1 + step % 8, step + 1);
    for (std::uint64_t i = 0; i < 1 + step % 8; ++i) written[lbn + i] = true;
    if (step % 10 == 3) under_way.push_back(begin(a_, disk->flush()));
    if (step % 10 == 6) under_way.push_back(begin(a_, disk->checkpoint()));
    if (step % 40 == 20) {
      under_way.push_back(begin(a_, [](disk::AsyncDisk& d, std::string name) -> Task<Outcome> {
        const auto timing = co_await d.snapshot(std::move(name));
        if (!timing) co_return timing.error();
        co_return success();
      }(*disk, "s" + std::to_string(step))));
    }
    world_.run_for(std::chrono::microseconds(97));
    const std::vector<bool> acknowledged = written;
    const auto found = must(a_, disk->extents(0, 2048 * kBlockBytes, 4096));
    std::uint64_t covered = 0;
    for (const auto& extent : found) {
      EXPECT_EQ(extent.offset, covered);
      covered += extent.bytes;
      for (std::uint64_t at = extent.offset; extent.zero && at < covered; at += kBlockBytes) {
        EXPECT_FALSE(acknowledged[at / kBlockBytes]) << at / kBlockBytes;
      }
    }
    EXPECT_EQ(covered, 2048 * kBlockBytes);
  }
  for (const Pending& one : under_way) finish(one);
  close(a_, disk);
}

// Zeros that a guest writes over what its base holds are not "nothing written here".
TEST_F(Promises, S11_zeros_over_a_snapshot_stay_zeros) {
  create("base");
  DiskPtr disk = open(a_, "base");
  write(a_, disk, 0, 16, 1);
  close(a_, disk);
  must(a_, a_.admin().clone("base", {"d"}));
  disk = open(a_, "d");
  write(a_, disk, 2, 2, 0);  // as bytes
  zero(a_, disk, 6, 2);      // as a request
  const Tags expected{1, 1, 0, 0, 1, 1, 0, 0, 1};
  EXPECT_EQ(read(a_, disk, 0, 9), expected);
  for (int death = 0; death < 2; ++death) {
    bury_and_start(a_);
    disk = open(a_, "d");
    EXPECT_EQ(read(a_, disk, 0, 9), expected);
  }
  flush(a_, disk);
  cut_power();
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 9), expected);
  checkpoint(a_, disk);
  close(a_, disk);
  cut_power();
  collect(b_);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 9), expected);
  std::uint64_t holes = 0;  // recorded, and never stored
  for (const auto& extent : must(a_, disk->extents(0, 9 * kBlockBytes, 100))) {
    holes += extent.zero ? extent.bytes : 0;
  }
  EXPECT_EQ(holes, 4 * kBlockBytes);
  close(a_, disk);
}

// ---- damage ----

TEST_F(Promises, S13_index_unavailable_is_an_error_not_zeros) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  close(a_, disk);
  // The catalogue is away: nobody says that the disk is empty or not there.
  catalogue().set_down(true);
  const auto unreachable = wait(a_, a_.session().catalogue().disk_by_name("d"));
  ASSERT_TRUE(unreachable.has_value());
  EXPECT_NE(unreachable->error(), Error(Errc::not_found));
  catalogue().set_down(false);
  // A page is damaged.
  const auto record = record_of(a_, "d").record;
  const Address top = Address::from_raw(record.base().top_page());
  ASSERT_FALSE(top.is_unmapped());
  a_.session().blocks().evict();
  const std::string path = storaged::key_path(top.key(), storaged::KeyFileKind::data);
  ASSERT_TRUE(node_.files().flip_bit(path, top.block().value * kBlockBytes + 9, 3));
  disk = open(a_, "d");
  std::vector<std::byte> bytes(kBlockBytes, std::byte{7});
  const auto outcome = wait(a_, read_task(disk, 0, bytes));
  ASSERT_TRUE(outcome.has_value());
  EXPECT_FALSE(*outcome);
  const auto holes = wait(a_, disk->extents(0, kBlocks * kBlockBytes, 100));
  ASSERT_TRUE(holes.has_value());
  EXPECT_FALSE(*holes);
  // Half a block is not merged with what cannot be read either.
  std::vector<std::byte> half(kSectorBytes, std::byte{1});
  const auto merged = wait(a_, disk->write(0, half));
  ASSERT_TRUE(merged.has_value());
  EXPECT_FALSE(*merged);
}

// The record says where the log begins, and the one after it is not there: damage, and never a log
// that begins later.
TEST_F(Promises, I9_a_log_that_misses_a_record_is_unknown_not_shorter) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  checkpoint(a_, disk);
  write(a_, disk, 0, 4, 2);
  flush(a_, disk);
  bury(a_);
  disk::VersionedDisk found = record_of(b_, "d");
  auto wanted = found.record;
  ASSERT_GT(wanted.log_from().sequence(), 1U);
  wanted.mutable_log_from()->set_sequence(wanted.log_from().sequence() - 1);
  must(b_, b_.session().catalogue().update(found, std::move(wanted)));
  start_host(a_);
  disk = a_.admin().open(record_of(a_, "d"), disk::AsyncDiskOptions());
  std::vector<std::byte> bytes(kBlockBytes);
  EXPECT_EQ(wait(a_, read_task(disk, 0, bytes)), Outcome(Errc::unknown));
  must(a_, disk->leave());
}

// What a dead process left may have been written to by anybody: an error, or the flushed blocks
// with what is left above them; never a crash, and it can be given up.
TEST_F(Promises, I11_a_damaged_batch_file_never_crashes_its_next_process) {
  Random random(11);
  std::uint64_t refused = 0;
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    const std::string name = "d" + std::to_string(round);
    create(name);
    DiskPtr disk = open(a_, name);
    write(a_, disk, 0, 8, 1);
    flush(a_, disk);
    write(a_, disk, 8, 20, 2);
    zero(a_, disk, 30, 2);
    const DiskId id = disk->id();
    const StoreId store = a_.session().store();
    bury(a_);
    {
      const auto handle = std::move(a_.batches().open(store, id, false).value());
      const MutableBytes memory = handle->memory();
      const std::size_t range = round % 3 == 0 ? 512 : round % 3 == 1 ? 16384 : memory.size();
      for (std::uint64_t flips = 1 + random.below(20); flips > 0; --flips) {
        memory[random.below(range)] ^= static_cast<std::byte>(1 + random.below(255));
      }
    }
    start_host(a_);
    disk = a_.admin().open(record_of(a_, name), disk::AsyncDiskOptions());
    std::vector<std::byte> bytes(8 * kBlockBytes);
    const auto outcome = wait(a_, read_task(disk, 0, bytes));
    ASSERT_TRUE(outcome.has_value());
    if (!*outcome) {
      ++refused;
      must(a_, disk->leave());
      must(a_, a_.admin().discard_batch_file(name));
      disk = open(a_, name);
      EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, 1));
    }
    close(a_, disk);
  }
  EXPECT_GT(refused, 0U);
}

// Clones, snapshots and deletes with a death at each step of each: nothing dangles, and when all is
// deleted nothing is left.
TEST_F(Promises, I12_a_death_at_any_step_of_a_clone_or_removal_leaves_no_orphan) {
  const std::vector<std::string> points{"disk.before_cut",
                                        "disk.after_cut",
                                        "disk.before_clones",
                                        "disk.before_trash",
                                        "disk.after_trash",
                                        "disk.snapshots_purged"};
  for (const std::string& point : points) {
    SCOPED_TRACE(point);
    create("d");
    DiskPtr disk = open(a_, "d");
    write(a_, disk, 0, 8, 1);
    snapshot(a_, "d", "s");
    write(a_, disk, 0, 8, 2);
    close(a_, disk);
    die_at(a_, point);
    const bool clones = point.ends_with("cut") || point.ends_with("clones");
    EXPECT_FALSE(clones ? wait(a_, a_.admin().clone("d", {"c", "e"}))
                        : wait(a_, a_.admin().remove("d", true, false)));
    EXPECT_EQ(points_.fired_at(), point);
    bury_and_start(a_);
    world_.run_for(2 * limits::kLeaseTime);
    collect(b_);
    for (const auto& left : must(a_, a_.admin().list())) {
      disk = open(a_, left.name);
      EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, 2)) << left.name;
      close(a_, disk);
      const bool is_source = left.name == "d";
      EXPECT_TRUE(!is_source || read_snapshot(a_, "d", "s", 0, 8) == Tags(8, 1));
      must(a_, a_.admin().remove(left.name, true, false));
    }
    must(a_, a_.admin().purge(""));
    collect(b_);
    EXPECT_EQ(must(b_, b_.admin().node_status()).used_bytes, 0U);
  }
}

// The snapshot that a clone was made of, unless it has a name, would keep its blocks for ever.
TEST_F(Promises, I12_a_clone_leaves_no_snapshot_of_its_own) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  must(a_, a_.admin().clone("d", {"c"}));
  must(a_, a_.admin().clone("d", {"e", "f"}));
  EXPECT_FALSE(answer_of(wait(a_, a_.admin().clone("d", {"c"}))));
  EXPECT_TRUE(must(a_, a_.admin().snapshots("d")).empty());
  close(a_, disk);
}

// Between the look at the snapshot and the transaction that makes the clone the snapshot is removed
// and collected: there is no clone, rather than one of blocks that are gone.
TEST_F(Promises, I12_a_clone_never_names_a_snapshot_that_went_meanwhile) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  snapshot(a_, "d", "s");
  checkpoint(a_, disk);
  ASSERT_TRUE(is_written_out("d", "s"));
  const Pending cloned = begin(b_, b_.admin().clone("d@s", {"c"}));
  run_to("disk.before_clones");
  hold(b_);
  must(a_, a_.admin().remove_snapshot("d", "s"));
  for (Tag tag = 2; tag < 5; ++tag) {
    write(a_, disk, 0, 8, tag);
    checkpoint(a_, disk);
  }
  close(a_, disk);
  collect(a_);
  let_go(b_);
  ASSERT_TRUE(cloned->wait(kStuck));
  EXPECT_EQ(cloned->outcome(), Outcome(Errc::not_found));
  EXPECT_EQ(must(a_, a_.admin().list()).size(), 1U);
}

}  // namespace
}  // namespace vmstore::sim
