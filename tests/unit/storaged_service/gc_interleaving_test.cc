// SPDX-License-Identifier: Apache-2.0
// Every way in which a client's work and a round of garbage collection can interleave, one act of a
// client after each step of the round (docs/decisions/002-one-node-gc.md).
#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "tests/unit/storaged_service/gc_disk.h"

namespace vmstore::storaged::test {
namespace {

/// Two disks and a clone with every kind of garbage, a round, and one act of a client in its
/// middle.
class GcInterleaving : public ::testing::Test {
 protected:
  struct Scene {
    Machine machine;
    TestDisk disk{machine, DiskId{1, 1}, "d"};
    TestDisk clone{machine, DiskId{1, 2}, "c"};
    TestDisk gone{machine, DiskId{1, 3}, "g"};
  };
  static std::unique_ptr<Scene> make_scene() {
    auto scene = std::make_unique<Scene>();
    scene->machine.start_well();
    TestDisk& disk = scene->disk;
    disk.make();
    disk.write(0, 8, 100);
    disk.checkpoint();
    disk.write(600, 4, 150);
    disk.snapshot("old");
    disk.roll();
    disk.write(0, 4, 200);
    disk.checkpoint(false);  // a root that only the log knows
    scene->clone.make_clone_of(disk, "old");
    scene->clone.write(2, 2, 250);
    disk.roll();
    disk.write(4, 2, 300);
    scene->gone.make();
    scene->gone.write(0, 8, 400);
    scene->gone.purge();
    return scene;
  }
  /// Lets `act` happen after n events of the round, for n from 0 until the round ends before it.
  static void at_every_step(const std::function<void(Scene&)>& act,
                            const std::function<void(Scene&)>& check_more = {}) {
    bool round_was_over = false;
    for (int events = 0; !round_was_over; events += 5) {
      SCOPED_TRACE(events);
      const auto scene = make_scene();
      Machine& machine = scene->machine;
      sim::Running<Result<GcReport>> round(machine.process(), machine.node().collect(false));
      for (int i = 0; i < events && !round.ended(); ++i) ASSERT_TRUE(machine.world.step());
      round_was_over = round.ended();
      act(*scene);
      ASSERT_TRUE(round.wait(std::chrono::minutes(1)));
      ASSERT_TRUE(round.outcome()) << to_string(round.outcome().error());
      for (int later = 0; later < 2; ++later) {
        EXPECT_EQ(scene->disk.check(), "");
        EXPECT_EQ(scene->clone.check(), "");
        if (check_more) check_more(*scene);
        const auto next = machine.run(machine.node().collect(false));
        ASSERT_TRUE(next) << to_string(next.error());
      }
      EXPECT_FALSE(machine.node().store().info(scene->gone.open_key()));
      if (::testing::Test::HasFailure()) return;
    }
  }
};

TEST_F(GcInterleaving, I6_snapshot_then_checkpoints_past_its_root) {
  at_every_step(
      [](Scene& scene) {
        scene.disk.snapshot("new");
        scene.disk.write(0, 8, 1000);
        scene.disk.checkpoint();
        scene.disk.roll();
        scene.disk.write(1, 1, 1100);
        scene.disk.checkpoint();
        scene.disk.free_replaced();
      },
      [](Scene& scene) {
        EXPECT_EQ(scene.disk.check_snapshot("new"), "");
        EXPECT_EQ(scene.disk.check_snapshot("old"), "");
      });
}

TEST_F(GcInterleaving, I6_snapshot_cloned_and_removed) {
  std::unique_ptr<TestDisk> late;
  at_every_step(
      [&](Scene& scene) {
        scene.disk.snapshot("new");
        late = std::make_unique<TestDisk>(scene.machine, DiskId{1, 9}, "late");
        late->make_clone_of(scene.disk, "new");
        scene.disk.remove_snapshot("new");
        scene.disk.write(0, 8, 1000);
        scene.disk.checkpoint();
        scene.disk.roll();
      },
      [&](Scene&) { EXPECT_EQ(late->check(), ""); });
}

TEST_F(GcInterleaving, I6_old_snapshot_cloned_and_removed) {
  std::unique_ptr<TestDisk> late;
  at_every_step(
      [&](Scene& scene) {
        late = std::make_unique<TestDisk>(scene.machine, DiskId{1, 9}, "late");
        late->make_clone_of(scene.disk, "old");
        scene.disk.remove_snapshot("old");
        late->write(0, 1, 2000);
        late->checkpoint();
      },
      [&](Scene&) { EXPECT_EQ(late->check(), ""); });
}

TEST_F(GcInterleaving, I6_owner_checkpoints_and_frees_twice) {
  at_every_step([](Scene& scene) {
    for (const std::uint64_t seed :
         {std::uint64_t{1000}, std::uint64_t{2000}, std::uint64_t{3000}}) {
      scene.disk.write(0, 2, seed);
      scene.disk.checkpoint();
      scene.disk.free_replaced();
    }
  });
}

TEST_F(GcInterleaving, I6_checkpoint_under_way) {
  at_every_step([](Scene& scene) {
    scene.disk.write(0, 2, 1000);
    scene.disk.append_pages();
    scene.disk.append_root();
    scene.disk.roll();
    scene.disk.name_root();
  });
}

TEST_F(GcInterleaving, I6_roll_and_takeover) {
  at_every_step([](Scene& scene) {
    scene.disk.take_over();
    scene.disk.roll();
    scene.disk.write(3, 1, 1000);
    scene.clone.take_over();
    scene.clone.roll();
    scene.clone.write(3, 1, 2000);
  });
}

TEST_F(GcInterleaving, I6_disk_made_and_written) {
  std::unique_ptr<TestDisk> late;
  at_every_step(
      [&](Scene& scene) {
        late = std::make_unique<TestDisk>(scene.machine, DiskId{1, 9}, "late");
        late->make();
        late->write(0, 8, 1000);
        late->checkpoint();
        late->roll();
        late->write(0, 8, 2000);
      },
      [&](Scene&) { EXPECT_EQ(late->check(), ""); });
}

TEST_F(GcInterleaving, I12_clone_trashed_and_parent_purged) {
  at_every_step([](Scene& scene) {
    scene.clone.trash();
    scene.disk.remove_snapshot("old");
  });
}

}  // namespace
}  // namespace vmstore::storaged::test
