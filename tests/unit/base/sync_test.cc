// SPDX-License-Identifier: Apache-2.0
#include "base/sync.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "tests/support/virtual_scheduler.h"

namespace vmstore {
namespace {

class SyncTest : public ::testing::Test {
 protected:
  void settle() { world_.run_for(0s); }
  sim::World world_{1};
  sim::VirtualScheduler process_{world_, "test"};
  std::vector<int> order_;
};

// ---- Event ----

Task<void> wait_and_note(Event& event, std::vector<int>& order, int what) {
  co_await event.wait();
  order.push_back(what);
}

TEST_F(SyncTest, AnEventWakesAllInTheOrderTheyCame) {
  Event event(process_);
  for (int i = 0; i < 4; ++i) process_.spawn(wait_and_note(event, order_, i));
  event.set();
  EXPECT_TRUE(order_.empty()) << "nobody is resumed inside set()";
  settle();
  EXPECT_EQ(order_, (std::vector<int>{0, 1, 2, 3}));
  process_.spawn(wait_and_note(event, order_, 4));
  EXPECT_EQ(order_.back(), 4) << "set events do not suspend";
}

TEST_F(SyncTest, APulseDoesNotSatisfyWait) {
  Event event(process_);
  process_.spawn(wait_and_note(event, order_, 1));
  event.pulse();
  settle();
  EXPECT_TRUE(order_.empty());
  event.set();
  settle();
  EXPECT_EQ(order_.size(), 1U);
}

Task<void> wait_until_and_note(Event& event, TimePoint deadline, std::optional<bool>& outcome) {
  outcome = co_await event.wait_until(deadline);
}

TEST_F(SyncTest, AnEventAtItsDeadlineIsStillInTime) {
  Event event(process_);
  std::optional<bool> early;
  std::optional<bool> never;
  process_.spawn(wait_until_and_note(event, process_.now() + 1s, never));
  process_.spawn(wait_until_and_note(event, process_.now() + 3s, early));
  world_.run_for(2s);
  EXPECT_EQ(never, std::optional(false));
  EXPECT_FALSE(early.has_value());
  event.set();
  settle();
  EXPECT_EQ(early, std::optional(true));
  world_.run_for(10s);
  EXPECT_EQ(process_.task_count(), 0U);
}

TEST_F(SyncTest, ADeadlineThatPassedReportsASetEventAsSet) {
  Event event(process_);
  event.set();
  std::optional<bool> outcome;
  process_.spawn(wait_until_and_note(event, process_.now() - 1s, outcome));
  EXPECT_EQ(outcome, std::optional(true));
}

Task<void> count_pulses(Event& event, TimePoint deadline, int& pulses) {
  for (;;) {
    const bool in_time = co_await event.wait_pulse(deadline);
    if (!in_time) co_return;
    ++pulses;
  }
}

TEST_F(SyncTest, PulsesAreSeenEvenWhenTheEventIsSet) {
  Event event(process_);
  event.set();
  int pulses = 0;
  process_.spawn(count_pulses(event, process_.now() + 5s, pulses));
  settle();
  EXPECT_EQ(pulses, 0);
  event.pulse();
  settle();
  event.set();
  settle();
  EXPECT_EQ(pulses, 2);
  world_.run_for(6s);
  EXPECT_EQ(process_.task_count(), 0U);
}

TEST_F(SyncTest, DestroyingAWaiterTakesItOutOfTheQueue) {
  Event event(process_);
  process_.spawn(wait_and_note(event, order_, 1));
  std::optional<bool> outcome;
  process_.spawn(wait_until_and_note(event, process_.now() + 1s, outcome));
  process_.abandon_tasks();
  event.set();
  world_.run_for(5s);
  EXPECT_TRUE(order_.empty());
  EXPECT_FALSE(outcome.has_value());
}

TEST_F(SyncTest, AWaiterInTheMiddleMayLeave) {
  Event event(process_);
  std::optional<bool> outcome;
  process_.spawn(wait_and_note(event, order_, 1));
  process_.spawn(wait_until_and_note(event, process_.now() + 1s, outcome));
  process_.spawn(wait_and_note(event, order_, 2));
  world_.run_for(2s);
  EXPECT_EQ(outcome, std::optional(false));
  event.set();
  settle();
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
}

// ---- Semaphore ----

Task<void> acquire_and_note(Semaphore& semaphore,
                            std::uint64_t units,
                            std::vector<int>& order,
                            int what) {
  co_await semaphore.acquire(units);
  order.push_back(what);
}

TEST_F(SyncTest, ALargeRequestIsNotOvertakenBySmallOnes) {
  Semaphore semaphore(process_, 4);
  ASSERT_TRUE(semaphore.try_acquire(3));
  process_.spawn(acquire_and_note(semaphore, 4, order_, 1));
  process_.spawn(acquire_and_note(semaphore, 1, order_, 2));
  EXPECT_FALSE(semaphore.try_acquire(1)) << "one unit is free, but somebody waits";
  settle();
  EXPECT_TRUE(order_.empty());
  semaphore.release(3);
  settle();
  EXPECT_EQ(order_, (std::vector<int>{1}));
  semaphore.release(4);
  settle();
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
  EXPECT_EQ(semaphore.available(), 3U);
}

TEST_F(SyncTest, ReleasedUnitsAreHandedOverBeforeAnybodyElseAsks) {
  Semaphore semaphore(process_, 1);
  ASSERT_TRUE(semaphore.try_acquire());
  process_.spawn(acquire_and_note(semaphore, 1, order_, 1));
  semaphore.release();
  EXPECT_FALSE(semaphore.try_acquire()) << "the waiter owns it although it has not run yet";
  settle();
  EXPECT_EQ(order_, (std::vector<int>{1}));
}

// ---- TaskMutex ----

Task<void> hold_for(Scheduler& scheduler, TaskMutex& mutex, std::vector<int>& order, int what) {
  const auto lock = co_await mutex.lock();
  order.push_back(what);
  co_await sleep_for(scheduler, 1s);
  order.push_back(-what);
}

TEST_F(SyncTest, AMutexIsHeldAcrossSuspensions) {
  TaskMutex mutex(process_);
  for (int i = 1; i <= 3; ++i) process_.spawn(hold_for(process_, mutex, order_, i));
  world_.run_for(10s);
  EXPECT_EQ(order_, (std::vector<int>{1, -1, 2, -2, 3, -3}));
}

TEST_F(SyncTest, AbandoningTheHolderAndItsWaitersLeavesTheMutexFree) {
  TaskMutex mutex(process_);
  process_.spawn(hold_for(process_, mutex, order_, 1));
  process_.spawn(hold_for(process_, mutex, order_, 2));
  process_.kill();
  EXPECT_EQ(order_, (std::vector<int>{1}));
}

// ---- Gate ----

Task<void> close_and_note(Gate& gate, std::vector<int>& order) {
  co_await gate.close();
  order.push_back(99);
}

TEST_F(SyncTest, AGateClosesWhenTheLastPassIsGone) {
  Gate gate(process_);
  std::optional<Gate::Pass> first = *gate.enter();
  std::optional<Gate::Pass> second = *gate.enter();
  EXPECT_EQ(gate.count(), 2U);
  process_.spawn(close_and_note(gate, order_));
  EXPECT_EQ(gate.enter().error(), Errc::closing);
  first.reset();
  settle();
  EXPECT_TRUE(order_.empty());
  second.reset();
  settle();
  EXPECT_EQ(order_, (std::vector<int>{99}));
}

TEST_F(SyncTest, AnEmptyGateClosesAtOnceAndAnyNumberOfTimes) {
  Gate gate(process_);
  process_.spawn(close_and_note(gate, order_));
  process_.spawn(close_and_note(gate, order_));
  EXPECT_EQ(order_.size(), 2U);
  EXPECT_TRUE(gate.is_closed());
}

TEST_F(SyncTest, AShutGateCanStillBeWaitedFor) {
  Gate gate(process_);
  std::optional<Gate::Pass> pass = *gate.enter();
  gate.shut();
  EXPECT_EQ(gate.enter().error(), Errc::closing);
  process_.spawn(close_and_note(gate, order_));
  pass.reset();
  settle();
  EXPECT_EQ(order_, (std::vector<int>{99}));
}

TEST_F(SyncTest, AMovedPassCountsOnce) {
  Gate gate(process_);
  {
    Gate::Pass pass = *gate.enter();
    const Gate::Pass moved = std::move(pass);
    EXPECT_EQ(gate.count(), 1U);
  }
  EXPECT_EQ(gate.count(), 0U);
}

using SyncDeathTest = SyncTest;

TEST_F(SyncDeathTest, APrimitiveMustOutliveItsWaiters) {
  EXPECT_DEATH(
      {
        auto event = std::make_unique<Event>(process_);
        process_.spawn(wait_and_note(*event, order_, 1));
        event.reset();
      },
      "assertion failed");
  EXPECT_DEATH(
      {
        auto gate = std::make_unique<Gate>(process_);
        const Gate::Pass pass = *gate->enter();
        gate.reset();
      },
      "assertion failed");
}

}  // namespace
}  // namespace vmstore
