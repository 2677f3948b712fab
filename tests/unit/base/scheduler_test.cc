// SPDX-License-Identifier: Apache-2.0
// What is written once for all schedulers: spawn, sleep, yield. Shown on the virtual one.
#include "base/scheduler.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/virtual_scheduler.h"

namespace vmstore {
namespace {

class SchedulerTest : public ::testing::Test {
 protected:
  sim::World world_{1};
  sim::VirtualScheduler process_{world_, "test"};
  std::vector<int> order_;
};

Task<void> sleep_and_note(Scheduler& scheduler, Duration pause, std::vector<int>& order, int what) {
  co_await sleep_for(scheduler, pause);
  order.push_back(what);
}

TEST_F(SchedulerTest, SleepersWakeInTheOrderOfTheirTimes) {
  process_.spawn(sleep_and_note(process_, 3s, order_, 3));
  process_.spawn(sleep_and_note(process_, 1s, order_, 1));
  process_.spawn(sleep_and_note(process_, 2s, order_, 2));
  world_.run_for(10s);
  EXPECT_EQ(order_, (std::vector<int>{1, 2, 3}));
}

TEST_F(SchedulerTest, ASleepInThePastStillLetsOthersRun) {
  process_.spawn(sleep_and_note(process_, -5s, order_, 2));
  order_.push_back(1);
  world_.run_for(0s);
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
}

Task<void> take_turns(Scheduler& scheduler, std::vector<int>& order, int what) {
  for (int i = 0; i < 3; ++i) {
    order.push_back(what);
    co_await Yield(scheduler);
  }
}

TEST_F(SchedulerTest, YieldLetsWhatIsPostedRunFirst) {
  process_.spawn(take_turns(process_, order_, 1));
  process_.spawn(take_turns(process_, order_, 2));
  world_.run_for(0s);
  EXPECT_EQ(order_, (std::vector<int>{1, 2, 1, 2, 1, 2}));
}

TEST_F(SchedulerTest, ASpawnedTaskRunsAtOnceUntilItSuspends) {
  process_.spawn(take_turns(process_, order_, 1));
  EXPECT_EQ(order_, (std::vector<int>{1}));
  process_.abandon_tasks();
  process_.kill();  // the posted resumption must go with the task it would resume
  world_.run_for(1s);
  EXPECT_EQ(order_, (std::vector<int>{1}));
}

Task<void> note_its_end(Scheduler& scheduler, std::vector<int>& order, int what) {
  struct Noted {
    std::vector<int>& order;
    int what;
    ~Noted() { order.push_back(what); }
  };
  const Noted noted{order, what};
  co_await sleep_for(scheduler, 1s);
}

TEST_F(SchedulerTest, AbandoningEndsTheYoungestTaskFirst) {
  process_.spawn(note_its_end(process_, order_, 1));  // owns what the next one uses
  process_.spawn(note_its_end(process_, order_, 2));
  process_.abandon_tasks();
  EXPECT_EQ(order_, (std::vector<int>{2, 1}));
}

TEST_F(SchedulerTest, AbandoningASleeperCancelsItsTimer) {
  process_.spawn(sleep_and_note(process_, 1s, order_, 1));
  process_.abandon_tasks();
  world_.run_for(10s);
  EXPECT_TRUE(order_.empty());
}

Task<void> spawn_another(Scheduler& scheduler, std::vector<int>& order) {
  scheduler.spawn(sleep_and_note(scheduler, 1s, order, 2));
  order.push_back(1);
  co_return;
}

TEST_F(SchedulerTest, ATaskMaySpawnTasksThatOutliveIt) {
  process_.spawn(spawn_another(process_, order_));
  EXPECT_EQ(process_.task_count(), 1U);
  world_.run_for(2s);
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
  EXPECT_EQ(process_.task_count(), 0U);
}

}  // namespace
}  // namespace vmstore
