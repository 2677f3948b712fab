// SPDX-License-Identifier: Apache-2.0
// Promises about the answer to a guest's request, whatever went on before it.
#include "base/limits.h"
#include "tests/sim/promises_fixture.h"
#include "tests/support/code_of.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::sim {
namespace {

/// A write as a guest's: while it waits, the disk is not quiet.
Task<Outcome> guest_write(DiskPtr disk, std::uint64_t lbn, Tag tag) {
  disk->note_request_begin();
  const std::vector<std::byte> bytes = tagged(lbn, 1, tag);
  const auto outcome = co_await disk->write(lbn * kBlockBytes, bytes);
  disk->note_request_end();
  co_return outcome;
}

// Node and nbdkit die at once; in the node's grace the disk is opened without its token. A flush is
// the first request: what the dead process acknowledged is committed before it is answered.
TEST_F(Promises, I1_flush_is_the_first_request_after_both_died) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 2, 1);
  flush(a_, disk);
  write(a_, disk, 0, 2, 2);  // acknowledged, in the batch file only
  node_.process().freeze();
  bury(a_);
  restart_node(Death::kill);
  start_host(a_);
  disk = open(a_, "d");
  ASSERT_FALSE(disk->is_owner()) << "no grace: this test shows nothing";
  flush(a_, disk);
  cut_power();
  disk = open(b_, "d");
  EXPECT_EQ(read(b_, disk, 0, 2), Tags(2, 2));
  close(b_, disk);
}

// A disk that somebody else holds, and no process of this host ever wrote: nothing to flush.
TEST_F(Promises, flush_of_a_disk_that_another_holds_does_not_wait) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 2, 1);
  const DiskPtr other = open(b_, "d");
  const TimePoint before = world_.now();
  flush(b_, other);
  EXPECT_LT(world_.now() - before, std::chrono::seconds(1));
  EXPECT_TRUE(disk->is_owner());
  close(a_, disk);
  must(b_, other->leave());
}

// Several requests wait out the node's grace; one of them gets the token, and none may go on asking
// "the holder", which is its own process.
TEST_F(Promises, every_write_that_waited_for_the_token_is_answered) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  flush(a_, disk);
  node_.process().freeze();
  bury(a_);
  restart_node(Death::kill);
  start_host(a_);
  disk = open(a_, "d");
  disk->set_connected(true);
  std::vector<Pending> pending;
  for (std::uint64_t i = 0; i < 4; ++i) pending.push_back(begin(a_, guest_write(disk, i, i + 2)));
  for (const Pending& one : pending) finish(one);
  EXPECT_EQ(read(a_, disk, 0, 4), (Tags{2, 3, 4, 5}));
  disk->set_connected(false);
  close(a_, disk);
}

// More extents than one look-up gives, in one request.
TEST_F(Promises, I11_read_of_more_extents_than_a_look_up_gives) {
  constexpr std::uint64_t kSpan = 10000;
  create("d", kSpan);
  DiskPtr disk = open(a_, "d");
  for (std::uint64_t lbn = 0; lbn < kSpan; lbn += 2) write(a_, disk, lbn, 1, 7);
  close(a_, disk);
  disk = open(b_, "d");
  const Tags found = read(b_, disk, 0, kSpan);
  ASSERT_EQ(found.size(), kSpan);
  for (std::uint64_t lbn = 0; lbn < kSpan; ++lbn)
    ASSERT_EQ(found[lbn], lbn % 2 == 0 ? 7 : 0) << lbn;
  close(b_, disk);
}

// A guest that zeroes the same place for hours owes no space for it, and goes on writing.
TEST_F(Promises, C10_zeroes_without_end_leave_room_for_writes) {
  create("d", 2048);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  for (int i = 0; i < 100'000; ++i) {
    if (!disk->try_zero(4096 * kBlockBytes / 8, 100 * kBlockBytes)) zero(a_, disk, 512, 100);
  }
  write(a_, disk, 1, 1, 2);
  flush(a_, disk);
  EXPECT_EQ(read(a_, disk, 0, 2), (Tags{1, 2}));
  EXPECT_LT(node_.files().used_bytes(), 64 * limits::kMiB);
  close(a_, disk);
}

// The store is full: a write waits, and then is refused before it is acknowledged; what was
// acknowledged has its space. With room again the guest goes on.
TEST_F(Promises, C10_full_store_pauses_guest) {
  constexpr std::uint64_t kSpan = 64 * 1024;
  create("d", kSpan);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  flush(a_, disk);
  node_.files().set_capacity(node_.files().used_bytes() + 32 * limits::kMiB);
  std::uint64_t written = 1;
  Outcome outcome = success();
  while (outcome && written < kSpan) {
    outcome = answer_of(wait(a_, write_task(disk, written, 1, 2)));
    if (outcome) ++written;
  }
  EXPECT_EQ(outcome, Outcome(Errc::no_space));
  EXPECT_GT(written, 1000U);
  flush(a_, disk);
  node_.files().set_capacity(MemoryFiles::kUnlimited);
  write(a_, disk, written, 1, 3);
  bury_and_start(a_);
  disk = open(a_, "d");
  Tags expected(written, 2);
  expected.front() = 1;
  EXPECT_EQ(read(a_, disk, 0, written), expected);
  EXPECT_EQ(read(a_, disk, written, 2), (Tags{3, 0}));
  close(a_, disk);
}

// Another host asks for the disk, and the index cannot be read while it is given back: the guest
// goes on where it was.
TEST_F(Promises, failed_hand_over_leaves_the_guest_its_disk) {
  create("d", 2048);
  DiskPtr disk = open(a_, "d");
  for (std::uint64_t lbn = 0; lbn < 2048; lbn += 512) write(a_, disk, lbn, 1, 1);
  close(a_, disk);
  disk = open(a_, "d");
  write(a_, disk, 1, 1, 2);
  flush(a_, disk);
  for (std::uint64_t lbn = 1024; lbn < 1100; ++lbn) EXPECT_FALSE(read(a_, disk, lbn, 1).empty());
  FileFault fault;
  fault.operation = FileOperation::read;
  fault.path_part = ".data";
  fault.repeat = true;
  node_.files().fail(fault);
  const DiskPtr other = open(b_, "d");
  EXPECT_FALSE(answer_of(wait(b_, write_task(other, 5, 1, 9))));
  node_.files().clear_faults();
  EXPECT_TRUE(disk->is_owner());
  write(a_, disk, 2, 1, 3);
  flush(a_, disk);
  EXPECT_EQ(read(a_, disk, 0, 4), (Tags{1, 2, 3, 0}));
  close(a_, disk);
  must(b_, other->leave());
}

// What another client asks of a holder is checked like a frame: it may be anybody.
TEST_F(Promises, R18_holder_refuses_sizes_that_no_disk_has) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  SecondProcess second(world_, network_, node_, b_);
  const std::uint64_t shrunk = (kBlocks - 1) * kBlockBytes;
  for (const std::uint64_t bytes : {std::uint64_t{0},
                                    std::uint64_t{1},
                                    shrunk,
                                    limits::kDiskBytesMax + 512,
                                    ~std::uint64_t{0}}) {
    pb::DiskCallRequest request;
    wire::put_id(*request.mutable_disk(), disk->id());
    request.mutable_resize()->set_bytes(bytes);
    const auto answer = wait(second.scheduler, second.node.call_holder(request));
    ASSERT_TRUE(answer);
    EXPECT_EQ(code_of(*answer), Errc::invalid_argument) << bytes;
  }
  EXPECT_EQ(disk->size_bytes(), kBlocks * kBlockBytes);
  close(a_, disk);
}

// Every key fails at once, for a minute: the owner tries new ones, but not without end.
TEST_F(Promises, F4_rolls_that_help_nothing_become_rare) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  flush(a_, disk);
  FileFault fault;
  fault.operation = FileOperation::sync;
  fault.path_part = ".data";
  fault.repeat = true;
  node_.files().fail(fault);
  const std::uint64_t before = hits("disk.key_named");
  write(a_, disk, 8, 40, 2);  // more than goes into the journal
  const Pending pending = begin(a_, disk->flush());
  world_.run_for(std::chrono::minutes(1));
  EXPECT_FALSE(pending->ended());
  EXPECT_GT(hits("disk.key_named") - before, 3U);
  EXPECT_LT(hits("disk.key_named") - before, 30U);
  node_.files().clear_faults();
  finish(pending);
  EXPECT_EQ(read(a_, disk, 8, 40), Tags(40, 2));
  close(a_, disk);
}

}  // namespace
}  // namespace vmstore::sim
