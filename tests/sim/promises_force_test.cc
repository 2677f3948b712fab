// SPDX-License-Identifier: Apache-2.0
// Promises about a holder that lives while somebody else wants the disk: commands that are forced,
// guests that come after one that was fenced.
#include <utility>

#include "base/units.h"
#include "tests/sim/promises_fixture.h"

namespace vmstore::sim {
namespace {

constexpr Duration kBound = std::chrono::seconds(30);
constexpr Duration kGrace = limits::kLeaseTime + std::chrono::seconds(1);

disk::AsyncDiskOptions guest(std::uint64_t pid) {
  disk::AsyncDiskOptions options;
  options.guest = disk::GuestProcess{pid, 1};
  return options;
}

class Force : public Promises {
 protected:
  /// A guest on host a in the midst of its life: tag 1 in the snapshot, 2 written and not flushed.
  [[nodiscard]] DiskPtr busy_guest(const std::string& name) {
    create(name);
    DiskPtr disk = open(a_, name, guest(7));
    write(a_, disk, 0, 4, 1);
    snapshot(a_, name, "s");
    flush(a_, disk);
    write(a_, disk, 1, 1, 2);
    disk->note_request_begin();
    return disk;
  }
  void expect_only_errors(const DiskPtr& disk) {
    std::vector<std::byte> bytes(kBlockBytes);
    EXPECT_FALSE(answer_of(wait(a_, read_task(disk, 0, bytes))));
    EXPECT_FALSE(answer_of(wait(a_, write_task(disk, 0, 1, 9))));
    EXPECT_FALSE(answer_of(wait(a_, disk->flush())));
    EXPECT_FALSE(disk->try_read(0, bytes));
    EXPECT_FALSE(disk->try_write(0, bytes));
    EXPECT_FALSE(disk->try_flush());
  }
  /// Runs it on another process of host a, or on host b.
  Outcome command(bool same_host, const std::function<Task<Outcome>(disk::Admin&)>& make) {
    const TimePoint begun = world_.now();
    Outcome outcome = success();
    if (same_host) {
      SecondProcess second(world_, network_, node_, a_);
      Running<Outcome> running(second.scheduler, make(second.admin));
      EXPECT_TRUE(running.wait(kBound)) << "never returns";
      outcome = running.ended() ? running.outcome() : Outcome(Errc::timed_out);
      second.scheduler.kill();
    } else {
      Running<Outcome> running(b_.process(), make(b_.admin()));
      EXPECT_TRUE(running.wait(kBound)) << "never returns";
      outcome = running.ended() ? running.outcome() : Outcome(Errc::timed_out);
    }
    EXPECT_LT(world_.now() - begun, kBound);
    return outcome;
  }
};

TEST_F(Force, ForcedRollbackUnderALivingGuestIsDoneAndItsGuestGetsErrors) {
  for (const bool same_host : {true, false}) {
    SCOPED_TRACE(same_host ? "same host" : "other host");
    const std::string name = same_host ? "d" : "e";
    DiskPtr old = busy_guest(name);
    const auto roll = [&](bool force) {
      return command(same_host,
                     [&](disk::Admin& admin) { return admin.rollback(name, "s", force); });
    };
    EXPECT_EQ(roll(false), Outcome(Errc::busy));
    EXPECT_EQ(read(a_, old, 0, 4), (Tags{1, 2, 1, 1}));  // no harm done
    EXPECT_EQ(roll(true), success());
    expect_only_errors(old);
    EXPECT_EQ(roll(true), success());  // again, while the fenced one still lives
    close(a_, old);
    DiskPtr next = open(a_, name, guest(8));
    EXPECT_EQ(read(a_, next, 0, 4), Tags(4, 1));
    write(a_, next, 0, 1, 3);
    flush(a_, next);
    close(a_, next);
  }
}

TEST_F(Force, ForcedShrinkUnderALivingGuestKeepsWhatItWasAnswered) {
  for (const bool same_host : {true, false}) {
    SCOPED_TRACE(same_host ? "same host" : "other host");
    const std::string name = same_host ? "d" : "e";
    DiskPtr old = busy_guest(name);
    const auto shrink = [&](bool force) {
      return command(same_host, [&](disk::Admin& admin) {
        return admin.resize(name, 8 * kBlockBytes, true, force);
      });
    };
    EXPECT_EQ(shrink(false), Outcome(Errc::busy));
    EXPECT_EQ(shrink(true), success());
    expect_only_errors(old);
    DiskPtr next = open(b_, name, guest(8));
    EXPECT_EQ(next->size_bytes(), 8 * kBlockBytes);
    EXPECT_EQ(read(b_, next, 0, 4), (Tags{1, 2, 1, 1}));
    close(b_, next);
    close(a_, old);
  }
}

TEST_F(Force, ForcedRemovalUnderALivingGuestLeavesNothing) {
  for (const bool same_host : {true, false}) {
    SCOPED_TRACE(same_host ? "same host" : "other host");
    const std::string name = same_host ? "d" : "e";
    DiskPtr old = busy_guest(name);
    const auto remove = [&](bool force) {
      return command(same_host,
                     [&](disk::Admin& admin) { return admin.remove(name, true, force); });
    };
    EXPECT_EQ(remove(false), Outcome(Errc::busy));
    EXPECT_EQ(remove(true), success());
    expect_only_errors(old);
    close(a_, old);
    create(name);
    DiskPtr next = open(a_, name, guest(8));
    EXPECT_EQ(read(a_, next, 0, 2), (Tags{0, 0}));
    close(a_, next);
  }
}

// A holder that is stopped cannot be told: from another host it is fenced.
TEST_F(Force, ForcedCommandFencesAStoppedHolder) {
  DiskPtr old = busy_guest("d");
  hold(a_);
  network_.hold(node_.process(), a_.process());
  const auto roll = [](disk::Admin& admin) { return admin.rollback("d", "s", true); };
  EXPECT_EQ(command(false, roll), success());
  let_go(a_);
  network_.release(node_.process(), a_.process());
  world_.run_for(std::chrono::seconds(3));
  EXPECT_FALSE(answer_of(wait(a_, old->flush())));
  expect_only_errors(old);
  EXPECT_EQ(command(false, roll), success());
  DiskPtr next = open(b_, "d", guest(8));
  EXPECT_EQ(read(b_, next, 0, 4), Tags(4, 1));
  close(b_, next);
  close(a_, old);
}

// On its own host its batch file is in the way: an error within a bounded time, and nothing lost.
TEST_F(Force, CommandEndsWhileAStoppedProcessKeepsTheBatchFile) {
  DiskPtr old = busy_guest("d");
  SecondProcess second(world_, network_, node_, a_);
  hold(a_);
  network_.hold(node_.process(), a_.process());
  network_.break_connections(a_.process());
  world_.run_for(kGrace);
  for (const bool force : {false, true}) {
    Running<Outcome> rolled(second.scheduler, second.admin.rollback("d", "s", force));
    ASSERT_TRUE(rolled.wait(kBound)) << "never returns";
    EXPECT_EQ(rolled.outcome(), Outcome(Errc::busy));
  }
  second.scheduler.kill();
  let_go(a_);
  network_.release(node_.process(), a_.process());
  world_.run_for(kGrace);
  EXPECT_FALSE(answer_of(wait(a_, old->flush())));  // it was fenced (I3)
  close(a_, old);
  // Nobody wrote since: what its guest was answered is there.
  DiskPtr next = open(a_, "d", guest(7));
  EXPECT_EQ(read(a_, next, 0, 4), (Tags{1, 2, 1, 1}));
  close(a_, next);
}

TEST_F(Force, HolderWithoutAClientIsNotBusy) {
  DiskPtr old = busy_guest("d");
  old->note_request_end();
  const auto roll = [](disk::Admin& admin) { return admin.rollback("d", "s", false); };
  EXPECT_EQ(command(true, roll), Outcome(Errc::busy));
  old->set_connected(false);
  EXPECT_EQ(command(true, roll), success());
  EXPECT_TRUE(must(a_, old->is_outdated()));
  DiskPtr next = open(b_, "d", guest(8));
  EXPECT_EQ(read(b_, next, 0, 4), Tags(4, 1));
  close(b_, next);
  close(a_, old);
}

// One that only reads meets no fence. It hears of the newer owner when it renews its lease.
TEST_F(Force, HolderThatOnlyReadsFollowsTheNewOwner) {
  create("d");
  DiskPtr disk = open(a_, "d", guest(7));
  write(a_, disk, 0, 4, 1);
  close(a_, disk);
  DiskPtr reader = open(a_, "d", guest(7));
  EXPECT_EQ(read(a_, reader, 0, 4), Tags(4, 1));
  EXPECT_TRUE(reader->is_owner());
  hold(a_);
  network_.hold(node_.process(), a_.process());
  must(b_, b_.admin().break_owner("d"));
  DiskPtr writer = open(b_, "d", guest(8));
  write(b_, writer, 1, 1, 2);
  let_go(a_);
  network_.release(node_.process(), a_.process());
  world_.run_for(std::chrono::seconds(3));
  EXPECT_FALSE(reader->is_owner());
  EXPECT_EQ(read(a_, reader, 0, 4), (Tags{1, 2, 1, 1}));
  write(b_, writer, 2, 1, 3);
  EXPECT_EQ(read(a_, reader, 0, 4), (Tags{1, 2, 3, 1}));
  close(b_, writer);
  close(a_, reader);
}

// ---- the guest after one that was fenced ----

// The first process stays there, fenced, with writes that nobody can replay. Its guest never
// reads older bytes; another guest is served what is there now.
TEST_F(Force, NextGuestReadsWhatIsThereWhileTheFencedOneStillLives) {
  DiskPtr old = busy_guest("d");
  hold(a_);
  network_.hold(node_.process(), a_.process());
  must(b_, b_.admin().break_owner("d"));
  world_.run_for(kGrace);
  DiskPtr other = open(b_, "d", guest(9));
  write(b_, other, 0, 1, 5);
  close(b_, other);
  let_go(a_);
  network_.release(node_.process(), a_.process());
  EXPECT_FALSE(answer_of(wait(a_, old->flush())));
  expect_only_errors(old);
  world_.run_for(std::chrono::seconds(1));
  SecondProcess second(world_, network_, node_, a_);
  const auto found = run(second.scheduler, second.session.catalogue().disk_by_name("d"));
  ASSERT_TRUE(found);
  std::vector<std::byte> bytes(4 * kBlockBytes);
  for (const std::uint64_t pid : {std::uint64_t{7}, std::uint64_t{8}}) {
    SCOPED_TRACE(pid);
    const DiskPtr next = second.admin.open(*found, guest(pid));
    Running<Outcome> reading(second.scheduler, read_task(next, 0, bytes));
    ASSERT_TRUE(reading.wait(kBound)) << "never returns";
    EXPECT_EQ(reading.outcome().has_value(), pid == 8);
    EXPECT_TRUE(run(second.scheduler, next->leave()));
  }
  EXPECT_EQ(tags_of(0, bytes), (Tags{5, 1, 1, 1}));
  second.scheduler.kill();
  expect_only_errors(old);
  close(a_, old);
}

// A guest moves from a to b and back, while the object on a stays open, as an attached disk does.
TEST_F(Force, DiskThatComesBackServesTheNextGuestOfTheHost) {
  create("d");
  DiskPtr first = open(a_, "d", guest(7));
  write(a_, first, 0, 4, 1);
  first->set_connected(false);
  EXPECT_FALSE(must(a_, first->is_outdated()));
  DiskPtr away = open(b_, "d", guest(8));
  write(b_, away, 1, 1, 2);
  away->set_connected(false);
  EXPECT_TRUE(must(a_, first->is_outdated()));
  // The guest that believes in what it wrote there before gets errors...
  std::vector<std::byte> bytes(kBlockBytes);
  EXPECT_FALSE(answer_of(wait(a_, write_task(first, 0, 1, 9))));
  EXPECT_TRUE(must(a_, first->is_outdated()));
  // ... the next one what is there.
  close(a_, first);
  DiskPtr back = open(a_, "d", guest(10));
  EXPECT_EQ(read(a_, back, 0, 4), (Tags{1, 2, 1, 1}));
  write(a_, back, 2, 1, 3);
  EXPECT_EQ(read(a_, back, 0, 4), (Tags{1, 2, 3, 1}));
  close(a_, back);
  close(b_, away);
}

}  // namespace
}  // namespace vmstore::sim
