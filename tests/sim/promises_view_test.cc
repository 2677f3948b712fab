// SPDX-License-Identifier: Apache-2.0
// Promises about views: snapshots, clones, rollback, resize, and who reads them while they change.
#include <algorithm>
#include <utility>

#include "base/units.h"
#include "tests/sim/promises_fixture.h"
#include "wire/vmstore.pb.h"

namespace vmstore::sim {
namespace {

Task<Outcome> open_reader(disk::SnapshotDisk& reader, DiskId disk, std::string snap) {
  co_return co_await reader.open_snapshot(disk, std::move(snap));
}

// ---- resize ----

// A root that is written after a resize and begins before it: the crash comes at any point.
TEST_F(Promises, RootAfterAResizeKeepsTheNewSize) {
  for (const std::string point :
       {"disk.before_root", "disk.root_committed", "disk.root_named", "disk.token_taken"}) {
    SCOPED_TRACE(point);
    const std::string name = "d-" + point;
    create(name);
    DiskPtr disk = open(a_, name);
    write(a_, disk, 0, 1, 1);
    const Pending root = begin(a_, disk->checkpoint());
    run_to("disk.pages_queued");  // frozen at the old size
    must(a_, disk->resize(2 * kBlocks * kBlockBytes));
    const bool at_once = point == "disk.before_root" || point == "disk.token_taken";
    if (at_once) finish(root);
    if (point != "disk.token_taken") die_at(a_, point);
    if (at_once) {
      write(a_, disk, 1, 1, 1);
      static_cast<void>(wait(a_, disk->checkpoint()));
    } else {
      static_cast<void>(root->wait(kStuck));
    }
    bury_and_start(a_);
    disk = open(a_, name);
    EXPECT_EQ(read(a_, disk, 0, 1), Tags{1});
    EXPECT_EQ(disk->size_bytes(), 2 * kBlocks * kBlockBytes);
    close(a_, disk);
    EXPECT_EQ(record_of(b_, name).record.size_bytes(), 2 * kBlocks * kBlockBytes);
  }
}

// The other way round: what is written out contains the resize, which is not committed yet.
TEST_F(Promises, RootThatContainsAResizeNamesTheNewSize) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  hold(a_);
  const Pending resized = begin(a_, disk->resize(2 * kBlocks * kBlockBytes));
  const Pending root = begin(a_, disk->checkpoint());
  world_.run_for(std::chrono::milliseconds(1));
  ASSERT_FALSE(resized->ended());
  let_go(a_);
  finish(resized);
  finish(root);
  bury_and_start(a_);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 1), Tags{1});
  EXPECT_EQ(disk->size_bytes(), 2 * kBlocks * kBlockBytes);
  close(a_, disk);
}

TEST_F(Promises, S1_shrink_then_grow_reads_zeros) {
  create("parent");
  DiskPtr parent = open(a_, "parent");
  write(a_, parent, 0, kBlocks, 1);
  close(a_, parent);
  must(a_, a_.admin().clone("parent", {"child"}));
  for (const std::string name : {"parent", "child"}) {
    SCOPED_TRACE(name);
    const std::uint64_t cut = 2 * kBlockBytes + kSectorBytes;
    must(a_, a_.admin().resize(name, cut, true, false));
    must(a_, a_.admin().resize(name, kBlocks * kBlockBytes, false, false));
    for (int crash = 0; crash < 2; ++crash) {
      DiskPtr disk = open(a_, name);
      Tags expected(kBlocks, 0);
      expected[0] = expected[1] = 1;
      expected[2] = kTorn;  // a sector of it is left
      EXPECT_EQ(read(a_, disk, 0, kBlocks), expected);
      std::vector<std::byte> rest(kBlocks * kBlockBytes - cut, std::byte{1});
      must(a_, disk->read(cut, rest));
      EXPECT_TRUE(
          std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; }));
      bury_and_start(a_);
    }
  }
}

TEST_F(Promises, I10_zeroed_ranges_read_as_zeros_and_are_holes) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 16, 1);
  checkpoint(a_, disk);
  write(a_, disk, 8, 4, 2);  // some in pages, some in the overlay, some in the open batch
  flush(a_, disk);
  write(a_, disk, 12, 2, 3);
  must(a_, disk->zero(4 * kBlockBytes + kSectorBytes, 9 * kBlockBytes));
  const auto check = [&] {
    const Tags tags = read(a_, disk, 0, 16);
    EXPECT_EQ(tags, (Tags{1, 1, 1, 1, kTorn, 0, 0, 0, 0, 0, 0, 0, 0, kTorn, 1, 1}));
    const auto found = must(a_, disk->extents(0, 16 * kBlockBytes, 100));
    std::uint64_t holes = 0;
    for (const auto& extent : found) holes += extent.zero ? extent.bytes : 0;
    EXPECT_EQ(holes, 8 * kBlockBytes);
  };
  check();
  bury_and_start(a_);  // what it was told stands in the batch file only
  disk = open(a_, "d");
  check();
  checkpoint(a_, disk);
  check();
  bury_and_start(a_);
  disk = open(a_, "d");
  check();
  close(a_, disk);
}

// ---- snapshots ----

TEST_F(Promises, SnapshotReaderSurvivesWriteOutAndCollection) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  checkpoint(a_, disk);
  write(a_, disk, 4, 2, 2);
  const Pending cut = begin(a_, [](disk::AsyncDisk& d) -> Task<Outcome> {
    const auto timing = co_await d.snapshot("s");
    if (!timing) co_return timing.error();
    co_return success();
  }(*disk));
  run_to("disk.after_cut");
  hold(a_);
  disk::SnapshotDisk reader(b_.session());
  must(b_, open_reader(reader, disk->id(), "s"));
  let_go(a_);
  finish(cut);
  checkpoint(a_, disk);
  ASSERT_TRUE(is_written_out("d", "s"));
  for (Tag tag = 3; tag < 6; ++tag) {  // the roots of the old view are not kept any more
    write(a_, disk, 0, 8, tag);
    checkpoint(a_, disk);
  }
  disk = take_over(a_, "d");
  write(a_, disk, 0, 1, 6);
  checkpoint(a_, disk);
  close(a_, disk);
  const std::uint64_t punched = hits("gc.punched");
  collect(b_);
  EXPECT_GT(hits("gc.punched"), punched);
  b_.session().blocks().evict();
  std::vector<std::byte> bytes(8 * kBlockBytes);
  must(b_, reader.read(0, bytes));
  EXPECT_EQ(tags_of(0, bytes), (Tags{1, 1, 1, 1, 2, 2, 1, 1}));
  b_.session().blocks().evict();
  const auto found = must(b_, reader.extents(0, 16 * kBlockBytes, 10));
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].bytes, 8 * kBlockBytes);
  EXPECT_TRUE(found[1].zero);
}

TEST_F(Promises, CloneWhileTheViewIsWrittenOut) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 4, 1);
  const Pending cut = begin(a_, [](disk::AsyncDisk& d) -> Task<Outcome> {
    const auto timing = co_await d.snapshot("s");
    if (!timing) co_return timing.error();
    co_return success();
  }(*disk));
  run_to("disk.root_committed");
  hold(a_);
  const Pending cloned = begin(b_, b_.admin().clone("d@s", {"c"}));
  run_to("disk.before_clones");
  hold(b_);  // it compares with the view that is not written out
  let_go(a_);
  finish(cut);
  checkpoint(a_, disk);
  let_go(b_);
  finish(cloned);
  ASSERT_TRUE(is_written_out("d", "s"));
  write(a_, disk, 0, 4, 2);
  close(a_, disk);
  disk = open(b_, "c");
  EXPECT_EQ(read(b_, disk, 0, 5), (Tags{1, 1, 1, 1, 0}));
  close(b_, disk);
}

// The owner dies between the cut and the pages: the clone replays the source's log.
TEST_F(Promises, R5_clone_before_overlay_written) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  checkpoint(a_, disk);
  write(a_, disk, 2, 2, 2);
  die_at(a_, "disk.after_cut");
  EXPECT_FALSE(wait(a_, disk->snapshot("s")));
  bury_and_start(a_);
  ASSERT_FALSE(is_written_out("d", "s"));
  must(b_, b_.admin().clone("d@s", {"c"}));
  must(b_, b_.admin().clone("d@s", {"unopened"}));
  disk = open(a_, "d");
  for (Tag tag = 3; tag < 6; ++tag) {
    write(a_, disk, 0, 8, tag);
    checkpoint(a_, disk);
  }
  close(a_, disk);
  collect(b_);
  const Tags cloned{1, 1, 2, 2, 1, 1, 1, 1};
  DiskPtr clone = open(b_, "c");
  EXPECT_EQ(read(b_, clone, 0, 8), cloned);
  write(b_, clone, 8, 1, 9);
  bury_and_start(b_);
  clone = open(b_, "c");
  EXPECT_EQ(read(b_, clone, 0, 8), cloned);
  EXPECT_EQ(read(b_, clone, 8, 1), Tags{9});
  checkpoint(b_, clone);
  close(b_, clone);
  must(b_, b_.admin().remove_snapshot("d", "s"));
  must(b_, b_.admin().remove("d", true, false));
  collect(b_);
  clone = open(b_, "c");
  EXPECT_EQ(read(b_, clone, 0, 8), cloned);
  close(b_, clone);
  // Now nobody but this one needs the log of a disk that is gone.
  must(b_, b_.admin().remove("c", true, false));
  collect(b_);
  clone = open(b_, "unopened");
  EXPECT_EQ(read(b_, clone, 0, 8), cloned);
  close(b_, clone);
}

TEST_F(Promises, N4_snapshot_right_after_unflushed_write) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 2, 1);
  flush(a_, disk);
  write(a_, disk, 1, 2, 2);  // in the open batch when the cut comes
  snapshot(b_, "d", "s");    // asked by another host, made by the holder
  write(a_, disk, 0, 4, 3);
  EXPECT_EQ(read_snapshot(b_, "d", "s", 0, 4), (Tags{1, 2, 2, 0}));
  close(a_, disk);
  EXPECT_EQ(read_snapshot(b_, "d", "s", 0, 4), (Tags{1, 2, 2, 0}));
}

// The transaction that makes the snapshot is applied, its answer is lost for so long that nobody
// knows: from the moment it was sent its blocks are not the owner's to free.
TEST_F(Promises, R8_free_between_snapshot_cas_and_answer) {
  create("d");
  disk::AsyncDiskOptions eager;
  eager.free_batch_blocks = 1;
  DiskPtr disk = open(a_, "d", eager);
  write(a_, disk, 0, 8, 1);
  checkpoint(a_, disk);
  Running<Result<disk::SnapshotTiming>> cut(a_.process(), disk->snapshot("s"));
  run_to("disk.before_cut");
  catalogue().plan(meta::MemFault::lost_answer);
  const std::uint64_t before = node_.catalogue().revision();
  ASSERT_TRUE(world_.run_until([&] { return node_.catalogue().revision() > before; }, kStuck));
  catalogue().set_down(true);
  world_.run_for(std::chrono::seconds(70));
  ASSERT_TRUE(cut.ended());
  EXPECT_FALSE(cut.outcome());
  catalogue().set_down(false);
  const std::uint64_t frees = hits("punch.after_files");
  for (Tag tag = 2; tag < 6; ++tag) {
    write(a_, disk, 0, 8, tag);
    checkpoint(a_, disk);
    world_.run_for(std::chrono::seconds(2));
  }
  EXPECT_GT(hits("punch.after_files"), frees);  // what came later it may free
  EXPECT_EQ(read_snapshot(b_, "d", "s", 0, 8), Tags(8, 1));
  close(a_, disk);
  collect(b_);
  EXPECT_EQ(read_snapshot(b_, "d", "s", 0, 8), Tags(8, 1));
}

// The request that makes a second snapshot is lost; the disk's own record would not change by it,
// so the record as it was proves nothing.
TEST_F(Promises, R8_snapshot_whose_request_was_lost_is_made) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  snapshot(a_, "d", "one");
  checkpoint(a_, disk);
  Running<Result<disk::SnapshotTiming>> cut(a_.process(), disk->snapshot("two"));
  run_to("disk.before_cut");
  catalogue().plan(meta::MemFault::lost_request);
  ASSERT_TRUE(cut.wait(kStuck));
  EXPECT_TRUE(cut.outcome());
  EXPECT_EQ(read_snapshot(b_, "d", "two", 0, 8), Tags(8, 1));
  close(a_, disk);
}

// An owner is stopped between its root and the snapshot that is to name it; the next owner goes on,
// and the root's pages are collected. When it wakes, the snapshot stays what it was.
TEST_F(Promises, I4_owner_that_was_stopped_names_no_collected_pages) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  Running<Result<disk::SnapshotTiming>> cut(a_.process(), disk->snapshot("s"));
  run_to("disk.root_named");
  hold(a_);
  world_.run_for(std::chrono::seconds(10));
  DiskPtr next = open(b_, "d");
  for (Tag tag = 2; tag < 5; ++tag) {
    write(b_, next, 0, 8, tag);
    checkpoint(b_, next);
  }
  collect(b_);
  let_go(a_);
  world_.run_for(std::chrono::seconds(10));
  EXPECT_TRUE(cut.ended());
  EXPECT_EQ(read_snapshot(b_, "d", "s", 0, 8), Tags(8, 1));
  close(b_, next);
}

// Whatever happens to its disk, and to the clone that was made of it.
TEST_F(Promises, I4_a_snapshots_bytes_never_change) {
  create("d");
  disk::AsyncDiskOptions eager;
  eager.free_batch_blocks = 1;
  DiskPtr disk = open(a_, "d", eager);
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  write(a_, disk, 2, 2, 2);
  snapshot(a_, "d", "s");
  const Tags frozen{1, 1, 2, 2, 1, 1, 1, 1, 0};
  must(b_, b_.admin().clone("d@s", {"c"}));
  const auto unchanged = [&](const char* when) {
    EXPECT_EQ(read_snapshot(b_, "d", "s", 0, 9), frozen) << when;
  };
  unchanged("at once");
  for (Tag tag = 3; tag < 6; ++tag) {
    write(a_, disk, 0, 9, tag);
    checkpoint(a_, disk);
    write(a_, disk, 0, 1, tag);  // wakes who frees
    world_.run_for(std::chrono::seconds(2));
    unchanged("overwritten");
  }
  zero(a_, disk, 0, 9);
  disk = take_over(a_, "d");
  unchanged("taken over");
  close(a_, disk);
  collect(b_);
  unchanged("collected");
  DiskPtr clone = open(b_, "c");
  EXPECT_EQ(read(b_, clone, 0, 9), frozen);
  write(b_, clone, 0, 9, 7);
  close(b_, clone);
  must(a_, a_.admin().resize("d", kBlockBytes, true, false));
  must(a_, a_.admin().rollback("d", "s", false));
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 9), frozen);
  write(a_, disk, 0, 9, 8);
  close(a_, disk);
  cut_power();
  collect(b_);
  unchanged("after a power cut");
}

Task<Outcome> write_at_random(DiskPtr disk, Random& random, Tags& acknowledged, const bool& stop) {
  for (Tag tag = 1; !stop; ++tag) {
    const std::uint64_t lbn = random.below(8);
    const std::vector<std::byte> bytes = tagged(lbn, 1, tag);
    acknowledged.push_back(lbn);  // the tag is its place
    VMS_CO_CHECK(co_await disk->write(lbn * kBlockBytes, bytes));
    if (random.one_in(16)) VMS_CO_CHECK(co_await disk->flush());
  }
  co_return success();
}

// A snapshot is the disk after some write that came neither before it was asked for nor after it
// was answered.
TEST_F(Promises, S3_snapshot_under_random_writes) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 0);
  Random random(5);
  Tags lbns;
  bool stop = false;
  const Pending writer = begin(a_, write_at_random(disk, random, lbns, stop));
  for (int i = 0; i < 12; ++i) {
    SCOPED_TRACE(i);
    const std::string snap = "s" + std::to_string(i);
    world_.run_for(std::chrono::microseconds(500));
    const std::size_t least = lbns.empty() ? 0 : lbns.size() - 1;  // the last may be under way
    snapshot(i % 2 == 0 ? a_ : b_, "d", snap);
    const std::size_t most = lbns.size();
    const Tags found = read_snapshot(b_, "d", snap, 0, 8);
    Tags then(8, 0);
    bool matches = false;
    for (std::size_t n = 0; n <= most && !matches; ++n) {
      if (n > 0) then[lbns[n - 1]] = n;
      matches = n >= least && then == found;
    }
    EXPECT_TRUE(matches);
    EXPECT_EQ(read_snapshot(a_, "d", snap, 0, 8), found);
  }
  stop = true;
  finish(writer);
  EXPECT_GT(lbns.size(), 50U);
  close(a_, disk);
}

}  // namespace
}  // namespace vmstore::sim
