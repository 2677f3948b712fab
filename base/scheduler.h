// SPDX-License-Identifier: Apache-2.0
// Scheduler: the seam for "one thread with timers". Production: net::IoThread over Asio.
// Simulation: sim::VirtualScheduler, virtual time, no thread at all.
//
// Invariants: callbacks run one at a time, in the order they were posted; timers of equal time run
// in the order they were started.
#pragma once

#include <coroutine>
#include <cstdint>
#include <functional>
#include <list>

#include "base/task.h"
#include "base/time.h"

namespace vmstore {

class Scheduler {
 public:
  using Callback = std::function<void()>;
  using TimerId = std::uint64_t;

  Scheduler() = default;
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;
  virtual ~Scheduler();

  /// THREADS: any.
  [[nodiscard]] virtual TimePoint now() const noexcept = 0;
  /// For people and records only; never compared to decide something. THREADS: any.
  [[nodiscard]] virtual WallTime wall_now() const noexcept = 0;
  /// Runs `callback` later on this scheduler's thread. THREADS: any.
  virtual void post(Callback callback) = 0;
  /// Runs `callback` at `when` or soon after. THREADS: own.
  virtual TimerId start_timer(TimePoint when, Callback callback) = 0;
  /// A timer that has run already, or is unknown, is ignored. THREADS: own.
  virtual void cancel_timer(TimerId timer) noexcept = 0;

  /// Starts a detached root task at once, on the calling (own) thread. The scheduler owns its frame
  /// and destroys it, and so everything below it, when it ends or when abandon_tasks() is called.
  void spawn(Task<void> task);
  /// Destroys every root task that has not ended, the youngest first: the simulator's crash, and
  /// the end of a thread.
  void abandon_tasks() noexcept;
  [[nodiscard]] std::size_t task_count() const noexcept { return roots_.size(); }

 private:
  struct Root;
  static Root run_root(Scheduler& scheduler,
                       Task<void> task,
                       std::list<std::coroutine_handle<>>::iterator slot);
  std::list<std::coroutine_handle<>> roots_;
};

/// co_await sleep_until(scheduler, t): resumes at or after t.
class SleepUntil {
 public:
  SleepUntil(Scheduler& scheduler, TimePoint when) : scheduler_(scheduler), when_(when) {}
  SleepUntil(const SleepUntil&) = delete;
  SleepUntil& operator=(const SleepUntil&) = delete;
  ~SleepUntil() {
    if (pending_) scheduler_.cancel_timer(timer_);
  }
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    pending_ = true;
    timer_ = scheduler_.start_timer(when_, [this, waiter] {
      pending_ = false;
      waiter.resume();
    });
  }
  void await_resume() const noexcept {}

 private:
  Scheduler& scheduler_;
  TimePoint when_;
  Scheduler::TimerId timer_ = 0;
  bool pending_ = false;
};

[[nodiscard]] inline SleepUntil sleep_until(Scheduler& s, TimePoint t) {
  return {s, t};
}
[[nodiscard]] inline SleepUntil sleep_for(Scheduler& s, Duration d) {
  return {s, s.now() + d};
}

/// co_await yield(scheduler): lets everything already posted run first.
class Yield {
 public:
  explicit Yield(Scheduler& scheduler) : scheduler_(scheduler) {}
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter);
  void await_resume() const noexcept {}

 private:
  Scheduler& scheduler_;
};

}  // namespace vmstore
