// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "base/result.h"

namespace vmstore {
namespace {

/// The least Scheduler that other threads can post to. The test's own thread runs it.
class QueueScheduler final : public Scheduler {
 public:
  ~QueueScheduler() override { abandon_tasks(); }
  [[nodiscard]] TimePoint now() const noexcept override { return {}; }
  [[nodiscard]] WallTime wall_now() const noexcept override { return {}; }
  void post(Callback callback) override {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(callback));
    wakeup_.notify_one();
  }
  TimerId start_timer(TimePoint /*when*/, Callback /*callback*/) override { return 0; }
  void cancel_timer(TimerId /*timer*/) noexcept override {}

  void run_until(const std::function<bool()>& done) {
    while (!done()) {
      std::unique_lock lock(mutex_);
      wakeup_.wait(lock, [this] { return !posted_.empty(); });
      const Callback callback = std::move(posted_.front());
      posted_.pop_front();
      lock.unlock();
      callback();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable wakeup_;
  std::deque<Callback> posted_;
};

Task<void> compute(WorkerPool& pool, Scheduler& home, std::thread::id& worker, int& outcome) {
  auto work = [&worker]() -> Result<int> {
    worker = std::this_thread::get_id();
    return 17;
  };
  const Result<int> value = co_await run_on(pool, home, work);
  outcome = *value;
}

TEST(ThreadPool, RunsWorkElsewhereAndComesBack) {
  QueueScheduler home;
  ThreadPool pool(2);
  std::thread::id worker;
  int outcome = 0;
  home.spawn(compute(pool, home, worker, outcome));
  home.run_until([&] { return outcome != 0; });
  EXPECT_EQ(outcome, 17);
  EXPECT_NE(worker, std::this_thread::get_id());
}

TEST(ThreadPool, RunsEveryPieceOfWorkExactlyOnce) {
  QueueScheduler home;
  ThreadPool pool(4);
  constexpr int kPieces = 2000;
  std::atomic<int> worked{0};
  int done = 0;
  for (int i = 0; i < kPieces; ++i) {
    pool.submit(
        home, [&worked] { ++worked; }, [&done] { ++done; });
  }
  home.run_until([&] { return done == kPieces; });
  EXPECT_EQ(worked, kPieces);
}

TEST(ThreadPool, FinishesWhatWasSubmittedBeforeItEnds) {
  QueueScheduler home;
  std::atomic<int> worked{0};
  int done = 0;
  {
    ThreadPool pool(1);
    for (int i = 0; i < 100; ++i)
      pool.submit(
          home, [&] { ++worked; }, [&] { ++done; });
  }
  EXPECT_EQ(worked, 100);
  EXPECT_EQ(done, 0) << "answers are given on the home thread only";
  home.run_until([&] { return done == 100; });
}

TEST(ThreadPool, OneThreadKeepsTheOrder) {
  QueueScheduler home;
  ThreadPool pool(1);
  std::vector<int> order;
  bool last = false;
  for (int i = 0; i < 50; ++i)
    pool.submit(
        home, [&order, i] { order.push_back(i); }, [] {});
  pool.submit(
      home, [] {}, [&last] { last = true; });
  home.run_until([&] { return last; });
  for (int i = 0; i < 50; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

}  // namespace
}  // namespace vmstore
