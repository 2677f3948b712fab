// SPDX-License-Identifier: Apache-2.0
#include "base/task.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "base/scheduler.h"
#include "base/sync.h"
#include "tests/support/virtual_scheduler.h"

namespace vmstore {
namespace {

class TaskTest : public ::testing::Test {
 protected:
  sim::World world_{1};
  sim::VirtualScheduler process_{world_, "test"};
};

Task<int> answer() {
  co_return 42;
}
Task<std::unique_ptr<int>> move_only() {
  co_return std::make_unique<int>(7);
}

TEST_F(TaskTest, GivesItsValue) {
  EXPECT_EQ(sim::run(process_, answer()), 42);
  EXPECT_EQ(*sim::run(process_, move_only()), 7);
}

Task<void> note(bool& ran) {
  ran = true;
  co_return;
}

TEST_F(TaskTest, DoesNotStartBeforeItIsAwaited) {
  bool ran = false;
  {
    const Task<void> never = note(ran);
    EXPECT_FALSE(ran);
  }
  EXPECT_FALSE(ran) << "destroying a task that never started runs nothing";
  sim::run(process_, note(ran));
  EXPECT_TRUE(ran);
}

Task<Result<int>> fail_with(Errc code) {
  co_return code;
}
Task<Result<int>> add_one(Errc code) {
  VMS_CO_TRY(const int value, co_await fail_with(code));
  co_return value + 1;
}
Task<Result<void>> only_check(Errc code) {
  VMS_CO_CHECK(co_await add_one(code));
  co_return success();
}

TEST_F(TaskTest, ErrorsPassUpThroughTheMacros) {
  EXPECT_EQ(sim::run(process_, only_check(Errc::sealed)).error(), Errc::sealed);
}

Task<std::uint64_t> depth(std::uint64_t levels, Scheduler& scheduler) {
  if (levels == 0) {
    co_await Yield(scheduler);
    co_return 0;
  }
  const std::uint64_t below = co_await depth(levels - 1, scheduler);
  co_return below + 1;
}

TEST_F(TaskTest, ADeepChainThatSuspendsAtItsEndComesBack) {
  EXPECT_EQ(sim::run(process_, depth(2000, process_)), 2000U);
}

Task<std::uint64_t> one() {
  co_return 1;
}

/// How far the stack moved between the first and the last round of a loop.
Task<std::uintptr_t> complete_at_once(std::uint64_t rounds, std::uint64_t& total) {
  std::uintptr_t first = 0;
  std::uintptr_t last = 0;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    total += co_await one();
    last = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    if (i == 0) first = last;
  }
  co_return first > last ? first - last : last - first;
}

// At -O0 there is no tail call: a type whose children resume their parents inline would need 1e6
// stack frames here.
TEST_F(TaskTest, AMillionChildrenThatCompleteAtOnceDoNotGrowTheStack) {
  std::uint64_t total = 0;
  EXPECT_LT(sim::run(process_, complete_at_once(1'000'000, total)), 1024U);
  EXPECT_EQ(total, 1'000'000U);
}

Task<std::uint64_t> yield_once(Scheduler& scheduler) {
  co_await Yield(scheduler);
  co_return 1;
}

Task<std::uintptr_t> complete_later(std::uint64_t rounds, Scheduler& scheduler) {
  std::uintptr_t second = 0;
  std::uintptr_t last = 0;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    static_cast<void>(co_await yield_once(scheduler));
    last = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    if (i == 1) second = last;
  }
  co_return second > last ? second - last : last - second;
}

TEST_F(TaskTest, ChildrenThatSuspendDoNotGrowTheStackEither) {
  EXPECT_LT(sim::run(process_, complete_later(100'000, process_)), 1024U);
}

struct Tracker {
  explicit Tracker(int& count) : count_(count) { ++count_; }
  ~Tracker() { --count_; }
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;
  int& count_;
};

Task<void> wait_below(Event& event, int& alive) {
  const Tracker tracker(alive);
  co_await event.wait();
}
Task<void> wait_above(Event& event, int& alive) {
  const Tracker tracker(alive);
  co_await wait_below(event, alive);
}

TEST_F(TaskTest, DestroyingARootDestroysEverythingBelowIt) {
  int alive = 0;
  Event event(process_);
  process_.spawn(wait_above(event, alive));
  process_.spawn(wait_above(event, alive));
  EXPECT_EQ(alive, 4);
  EXPECT_EQ(process_.task_count(), 2U);
  process_.abandon_tasks();
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(process_.task_count(), 0U);
}

TEST_F(TaskTest, ARootThatEndsIsForgotten) {
  int alive = 0;
  Event event(process_);
  process_.spawn(wait_above(event, alive));
  event.set();
  world_.run_for(1s);
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(process_.task_count(), 0U);
}

TEST_F(TaskTest, AssigningOverATaskDestroysItsFrame) {
  std::vector<Task<int>> tasks;
  tasks.push_back(answer());
  tasks.front() = answer();
  Task<int> last = std::move(tasks.front());
  tasks.clear();
  EXPECT_EQ(sim::run(process_, std::move(last)), 42);
}

}  // namespace
}  // namespace vmstore
