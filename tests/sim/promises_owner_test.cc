// SPDX-License-Identifier: Apache-2.0
// Promises about who may write: the token, the writer's record, what commands leave behind.
#include <utility>

#include "base/units.h"
#include "disk/owned_record.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "tests/sim/promises_fixture.h"
#include "wire/vmstore.pb.h"

namespace vmstore::sim {
namespace {

constexpr Duration kGrace = limits::kLeaseTime + std::chrono::seconds(1);

TEST_F(Promises, DiskOpensAfterAReaderDiedThatNeverWrote) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 4, 1);
  close(a_, disk);
  EXPECT_FALSE(record_of(b_, "d").record.writer().has_batch_file());
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 1), Tags{1});
  EXPECT_TRUE(disk->is_owner());
  bury_and_start(a_);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 5), (Tags{1, 1, 1, 1, 0}));
  write(a_, disk, 4, 1, 2);
  close(a_, disk);
}

// The session before left a file that holds nothing any more; this one makes its own and dies
// before the record says so.
TEST_F(Promises, DeathBetweenBatchFileAndWriterRecordLosesNothing) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 2, 1);
  flush(a_, disk);
  bury_and_start(a_);
  disk = open(a_, "d");
  die_at(a_, "disk.batch_file_made");
  EXPECT_FALSE(wait(a_, write_task(disk, 1, 1, 2)));
  EXPECT_EQ(points_.fired_at(), "disk.batch_file_made");
  bury_and_start(a_);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 3), (Tags{1, 1, 0}));
  write(a_, disk, 2, 1, 3);
  close(a_, disk);
}

// The fence that makes the session the writer meets a node that dies; resize begins anew.
TEST_F(Promises, ResizeDuringNodeRestartNeverWritesToAnUnfencedKey) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  close(a_, disk);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 1), Tags{1});  // the token is ours, the key is not fenced yet
  points_.arm(node_.process(), "journal.before_write", 1);
  const Pending grown = begin(a_, disk->resize(2 * kBlocks * kBlockBytes));
  ASSERT_TRUE(world_.run_until([this] { return node_.is_dead(); }, kStuck));
  restart_node();
  finish(grown);
  const auto now = record_of(b_, "d").record;
  EXPECT_EQ(now.size_bytes(), 2 * kBlocks * kBlockBytes);
  EXPECT_EQ(now.writer().epoch(), now.epoch());
  EXPECT_EQ(now.open_key().token(), now.epoch());
  write(a_, disk, kBlocks, 1, 2);
  bury_and_start(a_);
  disk = open(a_, "d");
  EXPECT_EQ(disk->size_bytes(), 2 * kBlocks * kBlockBytes);
  EXPECT_EQ(read(a_, disk, kBlocks, 1), Tags{2});
  close(a_, disk);
}

TEST_F(Promises, RollbackThatDiesAfterSealLeavesTheDiskUsable) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  snapshot(a_, "d", "s");
  write(a_, disk, 0, 1, 2);
  close(a_, disk);
  die_at(a_, "disk.before_rollback");
  EXPECT_FALSE(wait(a_, a_.admin().rollback("d", "s", false)));
  bury_and_start(a_);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 1), Tags{2});
  write(a_, disk, 1, 1, 3);
  close(a_, disk);
  must(a_, a_.admin().rollback("d", "s", false));
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 2), (Tags{1, 0}));
  close(a_, disk);
}

// The key is sealed already when the catalogue refuses: the disk is given back with it.
TEST_F(Promises, RollbackThatIsRefusedAfterSealLeavesTheDiskUsable) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  snapshot(a_, "d", "s");
  write(a_, disk, 0, 1, 2);
  close(a_, disk);
  const Pending rolled = begin(a_, a_.admin().rollback("d", "s", false));
  run_to("disk.before_rollback");
  hold(a_);
  must(b_, b_.admin().remove_snapshot("d", "s"));
  let_go(a_);
  ASSERT_TRUE(rolled->wait(kStuck));
  EXPECT_FALSE(rolled->outcome());
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 1), Tags{2});
  write(a_, disk, 1, 1, 3);
  EXPECT_EQ(read(a_, disk, 0, 2), (Tags{2, 3}));
  close(a_, disk);
}

// Another host asks for the disk at every moment of a command of this one: whichever comes first,
// the other comes after it or is told so; nothing is half done.
TEST_F(Promises, CommandBesideAHandOverIsDoneOrRefused) {
  const std::uint64_t grown = 2 * kBlocks * kBlockBytes;
  for (int step = 0; step < 60; ++step) {
    for (const std::string command : {"rollback", "grow", "shrink"}) {
      SCOPED_TRACE(command + " " + std::to_string(step));
      const std::string name = command + std::to_string(step);
      create(name);
      DiskPtr disk = open(a_, name);
      disk->set_connected(false);
      write(a_, disk, 0, 2, 1);
      snapshot(a_, name, "s");
      checkpoint(a_, disk);
      write(a_, disk, 0, 40, 2);
      const auto task = [&]() -> Task<Outcome> {
        if (command == "grow") return a_.admin().resize(name, grown, false, false);
        if (command == "shrink") return disk->resize(kBlockBytes);
        auto found = must(b_, b_.session().catalogue().snapshot(disk->id(), "s"));
        return disk->rollback(disk::view_from(found.record.view()),
                              meta::Compare{meta::snap_key(disk->id(), "s"), found.revision});
      };
      const Pending done = begin(a_, task());
      world_.run_for(step * std::chrono::microseconds(150));
      DiskPtr other = open(b_, name);
      const Pending written = begin(b_, write_task(other, 0, 1, 3));
      std::vector<std::byte> bytes(2 * kBlockBytes);
      const Pending reading = begin(a_, read_task(disk, 0, bytes));
      ASSERT_TRUE(done->wait(kStuck));
      finish(written);
      ASSERT_TRUE(reading->wait(kStuck));
      const bool refused = done->outcome() == Outcome(Errc::busy);
      EXPECT_TRUE(done->outcome() || refused) << to_string(done->outcome().error());
      const bool told = done->outcome().has_value();
      const std::uint64_t before = kBlocks * kBlockBytes;
      const std::uint64_t after = command == "grow"     ? grown
                                  : command == "shrink" ? kBlockBytes
                                                        : before;
      close(b_, other);
      bury_and_start(a_);
      other = open(b_, name);
      const Tag kept = command == "rollback" && told ? 1 : 2;
      EXPECT_EQ(record_of(b_, name).record.size_bytes(), told ? after : before);
      EXPECT_EQ(other->size_bytes(), told ? after : before);
      if (command == "shrink" && told) {
        EXPECT_EQ(read(b_, other, 0, 1), Tags{3});
      } else {
        EXPECT_EQ(read(b_, other, 0, 3), (Tags{3, kept, kept == 1 ? Tag{0} : kept}));
      }
      close(b_, other);
    }
  }
}

// The disk is handed over while a shrink zeroes what it cuts off: refused, the disk has its old
// size, and everything in it.
TEST_F(Promises, ShrinkThatIsRefusedTookNothingAway) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 40, 2);
  close(a_, disk);
  disk = open(a_, "d");
  disk->set_connected(false);
  write(a_, disk, 0, 1, 1);
  hold(a_);
  const Pending checkpointing = begin(a_, disk->checkpoint());
  const Pending done = begin(a_, disk->resize(kBlockBytes + 512));  // reads the block it cuts
  world_.run_for(std::chrono::milliseconds(50));
  DiskPtr other = open(b_, "d");
  const Pending written = begin(b_, write_task(other, 0, 1, 3));
  world_.run_for(std::chrono::milliseconds(400));
  let_go(a_);
  ASSERT_TRUE(done->wait(kStuck));
  ASSERT_TRUE(checkpointing->wait(kStuck));
  finish(written);
  close(b_, other);
  bury_and_start(a_);
  other = open(b_, "d");
  const bool told = done->outcome().has_value();
  EXPECT_EQ(other->size_bytes(), told ? kBlockBytes + 512 : kBlocks * kBlockBytes);
  const Tags expected = told ? Tags{3} : Tags{3, 2, 2};
  EXPECT_EQ(read(b_, other, 0, expected.size()), expected);
  close(b_, other);
}

// Renewals go round every one and a half seconds, one disk after the other; the release of the last
// one falls between any two of their frames.
TEST_F(Promises, RenewalBehindAReleaseHoldsNothing) {
  std::map<DiskId, std::string> names;
  for (int i = 0; i < 8; ++i) {
    const std::string name = "d" + std::to_string(i);
    create(name);
    names[disk::disk_id_of(record_of(b_, name).record)] = name;
  }
  const auto [id, last] = *names.rbegin();  // renewed after all others
  std::vector<DiskPtr> others;
  for (const auto& [other, name] : names) {
    if (other == id) continue;
    others.push_back(open(a_, name));
    EXPECT_EQ(read(a_, others.back(), 0, 1), Tags{0});
  }
  for (int step = 0; step < 40; ++step) {
    SCOPED_TRACE(step);
    DiskPtr disk = open(a_, last);
    EXPECT_EQ(read(a_, disk, 0, 1), Tags{0});
    world_.run_for(std::chrono::milliseconds(100));
    const std::uint64_t frames = network_.frames_sent();
    const auto renews = [&] { return network_.frames_sent() != frames; };
    ASSERT_TRUE(world_.run_until(renews, kStuck));
    world_.run_for(step * std::chrono::microseconds(75));
    close(a_, disk);
    world_.run_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(must(b_, b_.session().node().holder(id)).held);
  }
  for (DiskPtr& disk : others) close(a_, disk);
}

TEST_F(Promises, CommandsOnAnOpenDiskLeaveItOpen) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  snapshot(a_, "d", "s");
  must(a_, a_.admin().resize("d", 2 * kBlocks * kBlockBytes, false, false));
  must(a_, a_.admin().clone("d", {"c"}));
  EXPECT_FALSE(disk->is_closed());
  EXPECT_TRUE(disk->is_owner());
  write(a_, disk, kBlocks, 1, 2);
  flush(a_, disk);
  EXPECT_EQ(read(a_, disk, kBlocks, 1), Tags{2});
  close(a_, disk);
}

// Two sessions write the record of one epoch; what one of them sent is lost, and it looks what
// became of it.
TEST_F(Promises, RaceForOneEpochHasOneWinnerAfterALostAnswer) {
  create("d");
  const auto before = record_of(b_, "d");
  for (const meta::MemFault fault : {meta::MemFault::lost_request, meta::MemFault::lost_answer}) {
    SCOPED_TRACE(fault == meta::MemFault::lost_request ? "request" : "answer");
    const auto data = std::make_shared<meta::MemCatalogue>();
    VirtualScheduler process(world_, "racers");
    meta::MemStore lossy(process, data);
    meta::MemStore steady(process, data);
    disk::Catalogue first(process, lossy);
    disk::Catalogue second(process, steady);
    auto disk = before;
    disk.record.set_epoch(7);
    meta::Txn put;
    put.then_ops.push_back(
        {meta::disk_key(disk::disk_id_of(disk.record)), meta::encode(disk.record)});
    disk.revision = run(process, steady.txn(std::move(put)))->revision;
    disk::OwnedRecord one(process, first);
    disk::OwnedRecord other(process, second);
    one.adopt(disk);
    other.adopt(disk);
    lossy.plan(fault);
    const auto held = meta::pb::DiskRecord::held;
    Running<Outcome> loser(process, one.take_token(held, disk::TokenNonce{1, 1}));
    Running<Outcome> winner(process, other.take_token(held, disk::TokenNonce{2, 2}));
    ASSERT_TRUE(loser.wait(kStuck) && winner.wait(kStuck));
    EXPECT_NE(loser.outcome().has_value(), winner.outcome().has_value());
    EXPECT_EQ(winner.outcome().has_value(), fault == meta::MemFault::lost_request);
  }
}

TEST_F(Promises, CatalogueAnswerLostForTenSecondsIsFoundAgain) {
  for (const meta::MemFault fault : {meta::MemFault::lost_request, meta::MemFault::lost_answer}) {
    const bool applied = fault == meta::MemFault::lost_answer;
    const std::string name = applied ? "answer" : "request";
    SCOPED_TRACE(name);
    catalogue().plan(fault);
    Running<Result<disk::DiskSummary>> made(a_.process(),
                                            a_.admin().create(name, kBlocks * kBlockBytes, 1));
    // The catalogue goes away behind this one transaction.
    const std::uint64_t before = node_.catalogue().revision();
    const auto is_done = [&] { return node_.catalogue().revision() != before; };
    EXPECT_EQ(world_.run_until(is_done, std::chrono::microseconds(350)), applied);
    catalogue().set_down(true);
    world_.run_for(std::chrono::seconds(10));
    EXPECT_FALSE(made.ended());
    catalogue().set_down(false);
    ASSERT_TRUE(made.wait(kStuck));
    EXPECT_TRUE(made.outcome()) << to_string(made.outcome().error());
    DiskPtr disk = open(b_, name);
    write(b_, disk, 0, 1, 1);
    close(b_, disk);
  }
}

// ---- two processes ----

// The first process is stopped, or out of reach: it holds the batch file, and nobody takes the
// disk from under it, whatever its lease says.
TEST_F(Promises, C1_second_process_while_first_is_stopped) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  flush(a_, disk);
  write(a_, disk, 0, 1, 2);  // acknowledged, in the batch file only
  hold(a_);
  network_.hold(node_.process(), a_.process());
  network_.break_connections(a_.process());
  world_.run_for(kGrace);
  SecondProcess second(world_, network_, node_, a_);
  const auto found = run(second.scheduler, second.session.catalogue().disk_by_name("d"));
  ASSERT_TRUE(found);
  const DiskPtr other = second.admin.open(*found, disk::AsyncDiskOptions());
  std::vector<std::byte> bytes(kBlockBytes);
  Running<Outcome> reading(second.scheduler, read_task(other, 0, bytes));
  world_.run_for(3 * kGrace);
  EXPECT_FALSE(reading.ended());
  EXPECT_FALSE(other->is_owner());
  let_go(a_);
  network_.release(node_.process(), a_.process());
  ASSERT_TRUE(reading.wait(kStuck));
  EXPECT_TRUE(reading.outcome()) << to_string(reading.outcome().error());
  EXPECT_EQ(tags_of(0, bytes), Tags{2});
  write(a_, disk, 1, 1, 3);
  flush(a_, disk);
  close(a_, disk);
  second.scheduler.kill();
}

// Whoever reads a disk that another holds asks only once in a while who that is, and still reads
// what the newest holder acknowledged: the first one gives the disk back and another writes, all
// before the reader would ask.
TEST_F(Promises, R7_reader_through_holder_asks_seldom_and_reads_the_newest) {
  create("d");
  DiskPtr first = open(a_, "d");
  write(a_, first, 0, 2, 1);
  SecondProcess second(world_, network_, node_, b_);
  const auto found = run(second.scheduler, second.session.catalogue().disk_by_name("d"));
  ASSERT_TRUE(found);
  const DiskPtr reader = second.admin.open(*found, disk::AsyncDiskOptions());
  const auto read_one = [&] {
    std::vector<std::byte> bytes(kBlockBytes);
    const auto outcome = wait(second.scheduler, read_task(reader, 0, bytes));
    EXPECT_EQ(answer_of(outcome), success());
    return tags_of(0, bytes).front();
  };
  EXPECT_EQ(read_one(), 1U);
  constexpr std::uint64_t kReads = 50;
  const std::uint64_t before = node_.node().requests().total();
  for (std::uint64_t i = 0; i < kReads; ++i) EXPECT_EQ(read_one(), 1U);
  EXPECT_LE(node_.node().requests().total() - before, kReads + kReads / 10);
  write(a_, first, 0, 1, 2);  // acknowledged, not committed
  EXPECT_EQ(read_one(), 2U);

  // The next holder writes within the time for which the reader knows the first one.
  EXPECT_EQ(read_one(), 2U);
  const TimePoint handed_over = world_.now();
  close(a_, first);
  DiskPtr next = open(b_, "d");
  write(b_, next, 0, 1, 3);
  ASSERT_LT(world_.now() - handed_over, std::chrono::milliseconds(500));
  EXPECT_EQ(read_one(), 3U);
  EXPECT_FALSE(reader->is_owner());
  close(b_, next);
  EXPECT_EQ(read_one(), 3U);
  EXPECT_TRUE(reader->is_owner());
  second.scheduler.kill();
}

// A guest moves to another host: what it wrote there before is read through the holder, and the
// disk follows when the source is quiet (R7, C3).
TEST_F(Promises, R7_destination_reads_through_holder) {
  create("d");
  DiskPtr source = open(a_, "d");
  source->set_connected(true);
  source->note_request_begin();
  write(a_, source, 0, 2, 1);
  flush(a_, source);
  write(a_, source, 1, 1, 2);  // not committed
  DiskPtr destination = open(b_, "d");
  EXPECT_EQ(read(b_, destination, 0, 3), (Tags{1, 2, 0}));
  EXPECT_FALSE(destination->is_owner());
  const Pending early = begin(b_, write_task(destination, 2, 1, 3));
  world_.run_for(std::chrono::seconds(2));
  EXPECT_FALSE(early->ended());
  source->note_request_end();
  finish(early);
  EXPECT_TRUE(destination->is_owner());
  EXPECT_FALSE(source->is_owner());
  EXPECT_EQ(read(b_, destination, 0, 3), (Tags{1, 2, 3}));
  EXPECT_EQ(read(a_, source, 0, 3), (Tags{1, 2, 3}));
  close(b_, destination);
  close(a_, source);
}

}  // namespace
}  // namespace vmstore::sim
