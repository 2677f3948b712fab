// SPDX-License-Identifier: Apache-2.0
#include "net/io_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "base/sync.h"
#include "net/block_on.h"

namespace vmstore::net {
namespace {

TEST(IoThread, RunsCallbacksOnItsOwnThreadInTheOrderPosted) {
  IoThread io("test");
  std::vector<int> order;
  std::binary_semaphore done(0);
  EXPECT_FALSE(io.is_own_thread());
  for (int i = 0; i < 1000; ++i) {
    io.post([&, i] {
      EXPECT_TRUE(io.is_own_thread());
      order.push_back(i);
      if (i == 999) done.release();
    });
  }
  done.acquire();
  ASSERT_EQ(order.size(), 1000U);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(IoThread, EveryThreadsPostsKeepTheirOrder) {
  IoThread io("test");
  constexpr int kEach = 2000;
  std::vector<int> last(3, -1);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < last.size(); ++t) {
    threads.emplace_back([&io, &last, t] {
      for (int i = 0; i < kEach; ++i) {
        io.post([&last, t, i] {
          EXPECT_EQ(last[t], i - 1);
          last[t] = i;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  io.stop();
  EXPECT_EQ(last, std::vector<int>(3, kEach - 1));
}

TEST(IoThread, StopRunsWhatWasPostedAndWhatThatPosts) {
  IoThread io("test");
  int runs = 0;
  io.post([&] {
    ++runs;
    io.post([&] {
      ++runs;
      io.post([&] { ++runs; });
    });
  });
  io.stop();
  EXPECT_EQ(runs, 3);
  io.post([&] { ++runs; });  // dropped
  io.stop();
  EXPECT_EQ(runs, 3);
}

TEST(IoThread, StopDestroysTasksThatHaveNotEnded) {
  struct Flag {
    explicit Flag(std::atomic<bool>& flag) : destroyed(flag) {}
    ~Flag() { destroyed = true; }
    Flag(const Flag&) = delete;
    Flag& operator=(const Flag&) = delete;
    std::atomic<bool>& destroyed;
  };
  struct Sleeper {
    static Task<void> sleep_long(Scheduler& scheduler, std::atomic<bool>& destroyed) {
      const Flag flag(destroyed);
      co_await sleep_for(scheduler, std::chrono::hours(1));
      ADD_FAILURE() << "nobody slept that long";
    }
  };
  std::atomic<bool> destroyed = false;
  IoThread io("test");
  io.post([&] { io.spawn(Sleeper::sleep_long(io, destroyed)); });
  io.stop();
  EXPECT_TRUE(destroyed);
}

// A task that is destroyed lets another one go on, which is destroyed as well: it must not be
// resumed any more.
TEST(IoThread, StopResumesNoTaskThatItDestroyed) {
  struct Tasks {
    static Task<void> hold(Scheduler& scheduler, TaskMutex& mutex) {
      const auto lock = co_await mutex.lock();
      co_await sleep_for(scheduler, std::chrono::hours(1));
    }
  };
  IoThread io("test");
  TaskMutex mutex(io);
  io.post([&] {
    io.spawn(Tasks::hold(io, mutex));
    io.spawn(Tasks::hold(io, mutex));
  });
  io.stop();
}

TEST(IoThread, TimersRunInTheOrderOfTheirTimesThenOfTheirStart) {
  IoThread io("test");
  std::string order;
  std::binary_semaphore done(0);
  io.post([&] {
    const TimePoint now = io.now();
    io.start_timer(now + 3ms, [&] {
      order += 'd';
      done.release();
    });
    io.start_timer(now + 1ms, [&] { order += 'b'; });
    io.start_timer(now + 1ms, [&] { order += 'c'; });
    io.start_timer(now - 1s, [&] { order += 'a'; });
  });
  done.acquire();
  io.stop();
  EXPECT_EQ(order, "abcd");
}

TEST(IoThread, ACancelledTimerDoesNotRunAndUnknownOnesAreIgnored) {
  IoThread io("test");
  std::binary_semaphore done(0);
  bool ran = false;
  io.post([&] {
    const auto first = io.start_timer(io.now() + 1ms, [&] { ran = true; });
    Scheduler::TimerId second = 0;
    io.start_timer(io.now(), [&, first] {
      io.cancel_timer(first);
      io.cancel_timer(first);
      io.cancel_timer(12345);
    });
    second = io.start_timer(io.now() + 5ms, [&done] { done.release(); });
    EXPECT_NE(first, second);
  });
  done.acquire();
  io.stop();
  EXPECT_FALSE(ran);
}

// A task that yields for ever shares the thread with timers.
TEST(IoThread, TimersRunBesideATaskThatYieldsForEver) {
  struct Busy {
    static Task<void> spin(Scheduler& scheduler, const std::atomic<bool>& stop) {
      while (!stop) co_await Yield(scheduler);
    }
  };
  IoThread io("test");
  std::atomic<bool> stop = false;
  std::binary_semaphore done(0);
  io.post([&] {
    io.start_timer(io.now() + 1ms, [&] { done.release(); });
    io.spawn(Busy::spin(io, stop));
  });
  done.acquire();
  stop = true;
  io.stop();
}

TEST(BlockOn, BringsTheValueOfATask) {
  struct Value {
    static Task<std::string> after_a_while(Scheduler& scheduler) {
      co_await sleep_for(scheduler, 1ms);
      co_return "done";
    }
  };
  IoThread io("test");
  EXPECT_EQ(block_on(io, Value::after_a_while(io)), "done");
}

}  // namespace
}  // namespace vmstore::net
