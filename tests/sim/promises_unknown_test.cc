// SPDX-License-Identifier: Apache-2.0
// Promises about answers that never come: a catalogue that did what it was asked, or did not, and
// is then away for longer than anybody asks again. Whoever does not know acts as if either.
#include <utility>

#include "base/units.h"
#include "tests/sim/promises_fixture.h"

namespace vmstore::sim {
namespace {

constexpr Duration kAway = std::chrono::seconds(90);  // longer than a transaction is asked for

class Unknown : public Promises {
 protected:
  /// The next transaction gets `fault`, and the catalogue is away behind it.
  void lose_next(meta::MemFault fault) {
    catalogue().plan(fault);
    const std::uint64_t before = node_.catalogue().revision();
    const auto is_done = [&] { return node_.catalogue().revision() != before; };
    const bool applied = fault == meta::MemFault::lost_answer;
    EXPECT_EQ(world_.run_until(is_done, std::chrono::microseconds(900)), applied);
    catalogue().set_down(true);
    world_.run_for(kAway);
    catalogue().set_down(false);
  }
};

constexpr meta::MemFault kBoth[] = {meta::MemFault::lost_request, meta::MemFault::lost_answer};

// The command does not hear whether the disk went back. What gives the disk back after it must not
// write what was there before over it.
TEST_F(Unknown, RollbackOfUnknownOutcomeIsDoneOrNotAndNeverUndone) {
  for (const meta::MemFault fault : kBoth) {
    const bool applied = fault == meta::MemFault::lost_answer;
    const std::string name = applied ? "done" : "not";
    SCOPED_TRACE(name);
    create(name);
    DiskPtr disk = open(a_, name);
    write(a_, disk, 0, 4, 1);
    snapshot(a_, name, "s");
    write(a_, disk, 2, 4, 2);
    bury_and_start(a_);  // so that the command has an overlay to write out
    const Pending rolled = begin(a_, a_.admin().rollback(name, "s", true));
    run_to("disk.before_rollback");
    lose_next(fault);
    ASSERT_TRUE(rolled->wait(kStuck));
    EXPECT_EQ(rolled->outcome(), Outcome(Errc::unknown));
    const Tags expected = applied ? Tags{1, 1, 1, 1, 0, 0} : Tags{1, 1, 2, 2, 2, 2};
    disk = open(a_, name);
    EXPECT_EQ(read(a_, disk, 0, 6), expected);
    write(a_, disk, 6, 1, 3);
    disk = take_over(a_, name);
    EXPECT_EQ(read(a_, disk, 6, 1), Tags{3});
    close(a_, disk);
    must(a_, a_.admin().rollback(name, "s", false));
    disk = open(b_, name);
    EXPECT_EQ(read(b_, disk, 0, 7), (Tags{1, 1, 1, 1, 0, 0, 0}));
    close(b_, disk);
  }
}

// A disk's first key, and one after it: the record may name the key that was tried, or not. The
// guest waits; the log begins where its first record is, whoever looks for it.
TEST_F(Unknown, KeyOfUnknownNameLosesNoLog) {
  for (const meta::MemFault fault : kBoth) {
    for (const std::string key : {"first", "second"}) {
      for (const std::string end : {"take over", "close", "close at once"}) {
        const bool applied = fault == meta::MemFault::lost_answer;
        const std::string name =
            key + "-" + end.back() + std::to_string(end.size()) + (applied ? "-named" : "-not");
        SCOPED_TRACE(name);
        create(name);
        DiskPtr disk = open(a_, name);
        if (key == "second") {
          write(a_, disk, 1, 1, 1);
          flush(a_, disk);
          disk = take_over(a_, name);
        }
        const Pending written = begin(a_, write_task(disk, 0, 1, 2));
        run_to("disk.key_created");
        const Pending closed = end == "close at once" ? begin(a_, disk->leave()) : nullptr;
        lose_next(fault);
        ASSERT_TRUE(written->wait(kStuck));
        if (closed != nullptr) {
          ASSERT_TRUE(closed->wait(kStuck));
        } else {
          finish(written);
          flush(a_, disk);
        }
        const bool told = written->outcome().has_value();
        if (end == "take over") disk = take_over(a_, name);
        if (end != "close at once") close(a_, disk);
        disk = open(b_, name);
        EXPECT_EQ(read(b_, disk, 0, 2), (Tags{told ? Tag{2} : Tag{0}, key == "second" ? 1U : 0U}));
        write(b_, disk, 2, 1, 3);
        disk = take_over(b_, name);
        EXPECT_EQ(read(b_, disk, 1, 2), (Tags{key == "second" ? 1U : 0U, 3}));
        close(b_, disk);
      }
    }
  }
}

// The node is away when the process is stopped: that takes a bounded time, and what was
// acknowledged is there for the next one.
TEST_F(Unknown, StopWhileTheNodeIsAwayIsBoundedAndLosesNothing) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 1, 1);
  flush(a_, disk);
  node_.bury(Death::kill);
  write(a_, disk, 1, 1, 2);  // acknowledged, in the batch file only
  const Pending closed = begin(a_, disk->leave());
  world_.run_for(std::chrono::minutes(1));
  ASSERT_TRUE(closed->ended());
  EXPECT_EQ(closed->outcome(), Outcome(Errc::timed_out));
  start_node();
  bury_and_start(a_);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 3), (Tags{1, 2, 0}));
  close(a_, disk);
}

}  // namespace
}  // namespace vmstore::sim
