// SPDX-License-Identifier: Apache-2.0
// What tasks of one scheduler wait on: Event, Semaphore, Mutex, Gate.
//
// THREADS: every call on the scheduler's own thread; none of these is a lock between threads.
// Invariants: waiters are resumed through Scheduler::post in the order they came; destroying a
// waiting task takes it out of the queue; a primitive outlives its waiters.
#pragma once

#include <coroutine>
#include <cstdint>
#include <optional>

#include "base/assert.h"
#include "base/result.h"
#include "base/scheduler.h"

namespace vmstore {

/// An intrusive first-in-first-out queue of suspended tasks; the base of the primitives below.
class WaitQueue {
 public:
  explicit WaitQueue(Scheduler& scheduler) noexcept : scheduler_(scheduler) {}
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;
  ~WaitQueue() { VMS_ASSERT(first_ == nullptr); }

  class Waiter {
   public:
    Waiter(WaitQueue& queue, std::optional<TimePoint> deadline, std::uint64_t units)
        : queue_(queue), deadline_(deadline), units_(units) {}
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    ~Waiter() { leave(); }
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> task);
    /// False when the deadline passed first.
    [[nodiscard]] bool await_resume() const noexcept { return !timed_out_; }

   private:
    friend class WaitQueue;
    void leave() noexcept;
    WaitQueue& queue_;
    std::optional<TimePoint> deadline_;
    std::uint64_t units_;
    std::coroutine_handle<> task_;
    Waiter* next_ = nullptr;
    Waiter* previous_ = nullptr;
    bool linked_ = false;
    bool timed_out_ = false;
    bool has_timer_ = false;
    Scheduler::TimerId timer_ = 0;
  };

  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] std::uint64_t first_units() const noexcept { return first_->units_; }
  void wake_first();
  void wake_all();
  [[nodiscard]] Waiter wait(std::optional<TimePoint> deadline = {}, std::uint64_t units = 0) {
    return {*this, deadline, units};
  }
  [[nodiscard]] Scheduler& scheduler() const noexcept { return scheduler_; }

 private:
  Scheduler& scheduler_;
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

/// A flag to wait for. set() wakes everybody and stays set until reset().
class Event {
 public:
  explicit Event(Scheduler& scheduler) : queue_(scheduler) {}
  [[nodiscard]] bool is_set() const noexcept { return set_; }
  void set();
  void reset() noexcept { set_ = false; }
  /// Wakes all current waiters without staying set ("something changed, look again").
  void pulse() { queue_.wake_all(); }
  [[nodiscard]] Task<void> wait();
  /// False when `deadline` passed first.
  [[nodiscard]] Task<bool> wait_until(TimePoint deadline);
  /// Waits for the next set() or pulse(), even when set already; false when `deadline` passed.
  [[nodiscard]] Task<bool> wait_pulse(std::optional<TimePoint> deadline = {});

 private:
  WaitQueue queue_;
  bool set_ = false;
};

/// Counting semaphore, first come first served (a large request is not overtaken by small ones).
class Semaphore {
 public:
  Semaphore(Scheduler& scheduler, std::uint64_t units) : queue_(scheduler), free_(units) {}
  [[nodiscard]] Task<void> acquire(std::uint64_t units = 1);
  [[nodiscard]] bool try_acquire(std::uint64_t units = 1) noexcept;
  void release(std::uint64_t units = 1);
  [[nodiscard]] std::uint64_t available() const noexcept { return free_; }

 private:
  void hand_out();
  WaitQueue queue_;
  std::uint64_t free_;
};

/// Mutual exclusion between tasks of one scheduler, to be held across co_await.
class TaskMutex {
 public:
  explicit TaskMutex(Scheduler& scheduler) : semaphore_(scheduler, 1) {}
  class [[nodiscard]] Lock {
   public:
    explicit Lock(TaskMutex* owner) noexcept : owner_(owner) {}
    Lock(Lock&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    Lock& operator=(Lock&&) = delete;
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    ~Lock() { unlock(); }
    void unlock() {
      if (owner_ != nullptr) std::exchange(owner_, nullptr)->semaphore_.release();
    }

   private:
    TaskMutex* owner_;
  };
  [[nodiscard]] Task<Lock> lock();

 private:
  Semaphore semaphore_;
};

/// Counts work under way, so that an owner can wait for it before it is destroyed.
class Gate {
 public:
  explicit Gate(Scheduler& scheduler) : idle_(scheduler) {}
  ~Gate() { VMS_ASSERT(count_ == 0); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  class [[nodiscard]] Pass {
   public:
    explicit Pass(Gate* gate) noexcept : gate_(gate) {}
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&&) = delete;
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() {
      if (gate_ != nullptr) gate_->leave();
    }

   private:
    Gate* gate_;
  };

  /// A pass, or `closing` once close() was called.
  [[nodiscard]] Result<Pass> enter();
  [[nodiscard]] bool is_closed() const noexcept { return closed_; }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  /// Refuses new passes and waits until the last one is gone.
  [[nodiscard]] Task<void> close();
  /// Refuses new passes, waits for nothing.
  void shut() noexcept { closed_ = true; }

 private:
  void leave();
  Event idle_;
  std::size_t count_ = 0;
  bool closed_ = false;
};

}  // namespace vmstore
