// SPDX-License-Identifier: Apache-2.0
// Promises about when a write that nobody flushes is committed.
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

}  // namespace
}  // namespace vmstore::sim
