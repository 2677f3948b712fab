// SPDX-License-Identifier: Apache-2.0
// Promises about holders that only read: they meet no fence, so what they answer out of memory is
// bounded by their lease, and who takes a newer token asks them first (C3).
#include <chrono>
#include <utility>
#include <vector>

#include "base/units.h"
#include "tests/sim/promises_fixture.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::sim {
namespace {

constexpr Duration kGrace = limits::kLeaseTime + std::chrono::seconds(1);

class LeasePromises : public Promises {
 protected:
  LeasePromises() {
    create("d");             // empty: who reads it asks no node for bytes
    world_.run_for(kGrace);  // nobody is waited for any more
  }
  /// Nothing passes between the host and the node in either direction.
  void cut_off(SimHost& host) {
    hold(host);
    network_.hold(node_.process(), host.process());
  }
  void mend(SimHost& host) {
    let_go(host);
    network_.release(node_.process(), host.process());
  }
  Pending begin_read(SimHost& host, const DiskPtr& disk) {
    bytes_.assign(4 * kBlockBytes, std::byte{0});
    return begin(host, read_task(disk, 0, bytes_));
  }
  static Task<Outcome> ask_to_hand_over(SimHost& host, DiskId id) {
    pb::DiskCallRequest request;
    wire::put_id(*request.mutable_disk(), id);
    request.mutable_hand_over();
    VMS_CO_CHECK(co_await host.session().node().call_holder(request));
    co_return success();
  }
  static Task<Outcome> give_back(DiskPtr disk) {
    auto request = std::make_unique<pb::DiskCallRequest>();
    wire::put_id(*request->mutable_disk(), disk->id());
    request->mutable_hand_over();
    VMS_CO_CHECK(co_await disk->serve(std::move(request)));
    co_return success();
  }
  [[nodiscard]] Tags found() const { return tags_of(0, bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// Two sessions open a disk at once. The second looks for a holder when the first has its token and
// is not registered yet; when the second takes the next token, the first serves already.
TEST_F(LeasePromises, C3_holder_passed_over_in_a_race_of_two_opens_reads_what_is_new) {
  DiskPtr first = open(a_, "d");
  DiskPtr second = open(b_, "d");
  const Pending reading = begin_read(a_, first);
  run_to("disk.token_named");
  hold(a_);
  const Pending writing = begin(b_, write_task(second, 1, 1, 2));
  run_to("disk.unheld");
  hold(b_);
  let_go(a_);
  finish(reading);
  EXPECT_EQ(found(), Tags(4, 0));
  EXPECT_TRUE(first->is_owner());
  let_go(b_);
  finish(writing);
  EXPECT_EQ(read(a_, first, 0, 4), (Tags{0, 2, 0, 0}));
  write(b_, second, 2, 1, 3);
  EXPECT_EQ(read(a_, first, 0, 4), (Tags{0, 2, 3, 0}));
  close(b_, second);
  close(a_, first);
}

// The same race, and the first is out of reach when the second comes: it waits for the end of its
// lease, and the first answers nothing after it.
TEST_F(LeasePromises, C3_holder_out_of_reach_answers_nothing_after_its_lease) {
  DiskPtr reader = open(a_, "d");
  EXPECT_EQ(read(a_, reader, 0, 4), Tags(4, 0));
  EXPECT_TRUE(reader->is_owner());
  cut_off(a_);
  must(b_, b_.admin().break_owner("d"));
  DiskPtr writer = open(b_, "d");
  write(b_, writer, 1, 1, 2);
  const Pending reading = begin_read(a_, reader);
  std::vector<std::byte> block(kBlockBytes);
  EXPECT_FALSE(reader->try_read(0, block));
  Running<Result<std::vector<disk::DiskExtent>>> mapping(a_.process(),
                                                         reader->extents(0, kBlockBytes, 1));
  world_.run_for(std::chrono::seconds(1));
  EXPECT_FALSE(reading->ended());
  EXPECT_FALSE(mapping.ended());
  mend(a_);
  finish(reading);
  EXPECT_EQ(found(), (Tags{0, 2, 0, 0}));
  ASSERT_TRUE(mapping.wait(kStuck));
  close(b_, writer);
  close(a_, reader);
}

// Between the node's word that nobody holds the disk and our own hearing of that, somebody else may
// have written.
TEST_F(LeasePromises, C3_holder_that_gives_the_disk_back_answers_nothing_meanwhile) {
  DiskPtr reader = open(a_, "d");
  EXPECT_EQ(read(a_, reader, 0, 4), Tags(4, 0));
  const Pending handing_over = begin(b_, ask_to_hand_over(b_, reader->id()));
  run_to("disk.released");
  network_.hold(node_.process(), a_.process());
  DiskPtr writer = open(b_, "d");
  write(b_, writer, 1, 1, 2);
  const Pending reading = begin_read(a_, reader);
  world_.run_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(reading->ended());
  network_.release(node_.process(), a_.process());
  finish(reading);
  finish(handing_over);
  EXPECT_EQ(found(), (Tags{0, 2, 0, 0}));
  close(b_, writer);
  close(a_, reader);
}

// The record says that the disk is free, the answer is lost with the node, and the next node waits
// for nobody.
TEST_F(LeasePromises, C3_holder_that_gives_the_disk_back_unheard_answers_nothing) {
  DiskPtr reader = open(a_, "d");
  EXPECT_EQ(read(a_, reader, 0, 4), Tags(4, 0));
  DiskPtr writer = open(b_, "d");
  world_.run_for(std::chrono::milliseconds(700));
  network_.hold(node_.process(), a_.process());
  const Pending giving = begin(a_, give_back(reader));
  world_.run_for(std::chrono::milliseconds(20));
  restart_node();
  write(b_, writer, 1, 1, 2);
  flush(b_, writer);
  EXPECT_FALSE(giving->ended());
  std::vector<std::byte> block(kBlockBytes);
  EXPECT_FALSE(reader->try_read(kBlockBytes, block));
  const Pending reading = begin_read(a_, reader);
  world_.run_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(reading->ended());
  network_.release(node_.process(), a_.process());
  finish(reading);
  EXPECT_EQ(found(), (Tags{0, 2, 0, 0}));
  finish(giving);
  close(b_, writer);
  close(a_, reader);
}

// It sleeps past its lease, and wakes between the look for older holders and the registration of
// the newer one: its next frame must not give it its lease back.
TEST_F(LeasePromises, C3_holder_that_wakes_behind_its_lease_looks_at_the_record) {
  DiskPtr reader = open(a_, "d");
  EXPECT_EQ(read(a_, reader, 0, 4), Tags(4, 0));
  cut_off(a_);
  DiskPtr writer = open(b_, "d");
  must(b_, b_.admin().break_owner("d"));
  const Pending writing = begin(b_, write_task(writer, 1, 1, 2));
  run_to("disk.outlasted");
  hold(b_);
  mend(a_);
  world_.run_for(std::chrono::seconds(2));  // a renewal
  let_go(b_);
  finish(writing);
  EXPECT_EQ(read(a_, reader, 0, 4), (Tags{0, 2, 0, 0}));
  close(b_, writer);
  close(a_, reader);
}

// The process is stopped, not its host: when it goes on, the first thing it is asked is a read.
TEST_F(LeasePromises, C3_holder_whose_connection_broke_is_waited_for) {
  for (const bool same_host : {true, false}) {
    SCOPED_TRACE(same_host ? "same host" : "other host");
    network_.set_same_host(same_host);
    network_.break_connections(a_.process());
    DiskPtr reader = open(a_, "d");
    EXPECT_EQ(read(a_, reader, 0, 1), Tags{0});
    EXPECT_TRUE(reader->is_owner());
    cut_off(a_);
    network_.break_connections(a_.process());
    DiskPtr writer = open(b_, "d");
    const Pending writing = begin(b_, write_task(writer, 1, 1, same_host ? 5 : 6));
    finish(writing);
    const Pending reading = begin_read(a_, reader);
    world_.run_for(std::chrono::seconds(1));
    EXPECT_FALSE(reading->ended());
    mend(a_);
    finish(reading);
    EXPECT_EQ(found()[1], same_host ? 5U : 6U);
    close(b_, writer);
    close(a_, reader);
  }
}

// What it is asked before it hears of the newer token finds the record changed. It never wrote: its
// guest goes on reading.
TEST_F(LeasePromises, HolderThatOnlyReadOutlivesAHandOverThatComesTooLate) {
  DiskPtr reader = open(a_, "d");
  DiskPtr second = open(b_, "d");
  const Pending reading = begin_read(a_, reader);
  run_to("disk.token_named");
  hold(a_);
  const Pending taking = begin_read(b_, second);
  run_to("disk.unheld");
  hold(b_);
  let_go(a_);
  finish(reading);
  let_go(b_);
  run_to("disk.token_named");
  bury_and_start(b_);  // the token is newer than what the node and the reader know
  finish(begin(b_, ask_to_hand_over(b_, reader->id())));
  EXPECT_EQ(read(a_, reader, 0, 4), Tags(4, 0));
  write(a_, reader, 1, 1, 2);
  EXPECT_EQ(read(a_, reader, 0, 4), (Tags{0, 2, 0, 0}));
  close(a_, reader);
}

TEST_F(LeasePromises, HolderReadsWhileTheCatalogueIsAway) {
  DiskPtr disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 4), Tags(4, 0));
  catalogue().set_down(true);
  for (int second = 0; second < 30; ++second) {
    world_.run_for(std::chrono::seconds(1));
    const Pending reading = begin_read(a_, disk);
    world_.run_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(reading->ended()) << "after " << second << " s";
    if (!reading->ended()) break;
    EXPECT_EQ(found(), Tags(4, 0));
  }
  catalogue().set_down(false);
  EXPECT_TRUE(disk->is_owner());
  close(a_, disk);
}

// Asked to prove its lease while the catalogue is away it answers nothing from memory, and goes on
// as soon as the record can be read.
TEST_F(LeasePromises, HolderThatWasAskedProvesItsLeaseOutOfTheRecord) {
  DiskPtr disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 4), Tags(4, 0));
  catalogue().set_down(true);
  disk->lease().drop();
  const Pending reading = begin_read(a_, disk);
  world_.run_for(std::chrono::seconds(3));
  EXPECT_FALSE(reading->ended());
  catalogue().set_down(false);
  finish(reading);
  EXPECT_EQ(found(), Tags(4, 0));
  EXPECT_TRUE(disk->is_owner());
  close(a_, disk);
}

}  // namespace
}  // namespace vmstore::sim
