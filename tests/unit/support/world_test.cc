// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "tests/support/sim_worker_pool.h"
#include "tests/support/virtual_scheduler.h"

namespace vmstore::sim {
namespace {

TEST(World, RunsPostsAndTimersOfAllProcessesInOneOrder) {
  World world(1);
  VirtualScheduler a(world, "a");
  VirtualScheduler b(world, "b");
  std::vector<int> order;
  a.start_timer(world.now() + 2s, [&] { order.push_back(5); });
  b.start_timer(world.now() + 1s, [&] { order.push_back(3); });
  b.start_timer(world.now(), [&] { order.push_back(1); });
  a.post([&] { order.push_back(2); });
  a.start_timer(world.now() + 1s, [&] { order.push_back(4); });
  EXPECT_TRUE(order.empty()) << "nothing runs before the world does";
  world.run_for(5s);
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4, 5}));
}

TEST(World, TimeMovesOnlyToTheNextEventOrTheEndOfTheRun) {
  World world(1);
  VirtualScheduler a(world, "a");
  const TimePoint start = world.now();
  TimePoint seen;
  a.start_timer(start + 7s, [&] { seen = world.now(); });
  world.run_for(5s);
  EXPECT_EQ(world.now(), start + 5s);
  EXPECT_TRUE(world.run_until([&] { return seen != TimePoint(); }, 1h));
  EXPECT_EQ(seen, start + 7s);
  EXPECT_EQ(world.now(), start + 7s);
  EXPECT_EQ(a.wall_now().time_since_epoch() % 24h, 7s);
}

TEST(World, RunUntilSaysWhetherItHappened) {
  World world(1);
  VirtualScheduler a(world, "a");
  bool happened = false;
  EXPECT_FALSE(world.run_until([&] { return happened; }, 1s)) << "nothing could ever happen";
  a.start_timer(world.now() + 10s, [&] { happened = true; });
  EXPECT_FALSE(world.run_until([&] { return happened; }, 9s));
  EXPECT_TRUE(world.run_until([&] { return happened; }, 9s));
}

TEST(World, CancelledTimersDoNotRun) {
  World world(1);
  VirtualScheduler a(world, "a");
  int ran = 0;
  const auto timer = a.start_timer(world.now() + 1s, [&] { ++ran; });
  a.cancel_timer(timer);
  a.cancel_timer(timer);
  a.cancel_timer(12345);
  world.run_for(2s);
  EXPECT_EQ(ran, 0);
}

struct Tracker {
  explicit Tracker(int& count) : count_(count) { ++count_; }
  ~Tracker() { --count_; }
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;
  int& count_;
};

Task<void> sleep_tracked(Scheduler& scheduler, int& alive, int& woken) {
  const Tracker tracker(alive);
  co_await sleep_for(scheduler, 1s);
  ++woken;
}

TEST(VirtualScheduler, KillDropsCallbacksTimersAndTasks) {
  World world(1);
  VirtualScheduler other(world, "other");
  VirtualScheduler victim(world, "victim");
  int alive = 0;
  int woken = 0;
  int ran = 0;
  victim.spawn(sleep_tracked(victim, alive, woken));
  other.spawn(sleep_tracked(other, alive, woken));
  const auto held = std::make_shared<int>(1);
  victim.post([&ran, held] { ++ran; });
  victim.start_timer(world.now() + 1s, [&ran, held] { ++ran; });
  other.post([&ran] { ++ran; });
  victim.kill();
  EXPECT_EQ(alive, 1);
  EXPECT_EQ(held.use_count(), 1) << "what the callbacks held is gone with them";
  victim.post([&ran] { ++ran; });
  victim.start_timer(world.now(), [&ran] { ++ran; });
  world.run_for(5s);
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(woken, 1);
}

TEST(VirtualScheduler, AFrozenProcessFinishesItsEventAndRunsNoOther) {
  World world(1);
  VirtualScheduler process(world, "p");
  int hooks = 0;
  int after = 0;
  process.on_freeze([&] { ++hooks; });
  process.post([&] {
    process.freeze();
    process.freeze();
    ++after;
    process.post([&] { after += 100; });
  });
  process.post([&] { after += 100; });
  world.run_for(1s);
  EXPECT_EQ(hooks, 1);
  EXPECT_EQ(after, 1);
}

// ---- the same seed gives the same run ----

Task<void> wander(World& world, Scheduler& scheduler, WorkerPool& pool) {
  for (int i = 0; i < 50; ++i) {
    const Duration pause = world.random_duration(0ms, 5ms);
    co_await sleep_for(scheduler, pause);
    auto work = []() -> Result<void> { return success(); };
    const auto done = co_await run_on(pool, scheduler, work);
    ignore(done, "cannot fail");
  }
}

std::uint64_t trace_of(std::uint64_t seed) {
  World world(seed);
  VirtualScheduler a(world, "a");
  VirtualScheduler b(world, "b");
  SimWorkerPool pool(world);
  a.spawn(wander(world, a, pool));
  b.spawn(wander(world, b, pool));
  world.run_for(1min);
  return world.trace_hash();
}

TEST(World, ASeedAlwaysGivesTheSameTrace) {
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    EXPECT_EQ(trace_of(seed), trace_of(seed)) << seed;
    EXPECT_NE(trace_of(seed), trace_of(seed + 1)) << seed;
  }
}

// ---- SimWorkerPool ----

Task<void> work_once(WorkerPool& pool, Scheduler& home, std::vector<int>& order, int what) {
  auto work = [&order, what]() -> Result<int> {
    order.push_back(what);
    return what;
  };
  const auto outcome = co_await run_on(pool, home, work);
  order.push_back(-*outcome);
}

TEST(SimWorkerPool, WorkMayOvertakeAndAnswersFollow) {
  bool overtook = false;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    World world(seed);
    VirtualScheduler process(world, "p");
    SimWorkerPool pool(world);
    std::vector<int> order;
    for (int i = 1; i <= 3; ++i) process.spawn(work_once(pool, process, order, i));
    EXPECT_TRUE(order.empty());
    world.run_for(1s);
    ASSERT_EQ(order.size(), 6U);
    overtook = overtook || order.front() != 1;
  }
  EXPECT_TRUE(overtook);
}

TEST(SimWorkerPool, WithoutDelayKeepsOrderAndTime) {
  World world(1);
  VirtualScheduler process(world, "p");
  SimWorkerPool pool(world, WorkDelay::none());
  std::vector<int> order;
  const TimePoint start = world.now();
  for (int i = 1; i <= 2; ++i) process.spawn(work_once(pool, process, order, i));
  EXPECT_TRUE(world.run_until([&] { return order.size() == 4; }, 1s));
  EXPECT_EQ(order, (std::vector<int>{1, 2, -1, -2}));
  EXPECT_EQ(world.now(), start);
}

TEST(SimWorkerPool, WorkOfAKilledProcessIsNotDone) {
  World world(1);
  VirtualScheduler process(world, "p");
  SimWorkerPool pool(world);
  std::vector<int> order;
  process.spawn(work_once(pool, process, order, 1));
  process.kill();
  world.run_for(1s);
  EXPECT_TRUE(order.empty());
}

}  // namespace
}  // namespace vmstore::sim
