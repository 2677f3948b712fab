// SPDX-License-Identifier: Apache-2.0
#include "base/scheduler.h"

#include "base/sync.h"

namespace vmstore {

struct Scheduler::Root {
  struct promise_type {
    Scheduler* scheduler;
    std::list<std::coroutine_handle<>>::iterator slot;
    promise_type(Scheduler& s,
                 Task<void>& /*task*/,
                 std::list<std::coroutine_handle<>>::iterator it)
        : scheduler(&s), slot(it) {}
    ~promise_type() { scheduler->roots_.erase(slot); }
    promise_type(const promise_type&) = delete;
    promise_type& operator=(const promise_type&) = delete;
    Root get_return_object() noexcept {
      return {std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
    [[nodiscard]] std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };
  std::coroutine_handle<promise_type> handle;
};

Scheduler::~Scheduler() {
  VMS_ASSERT(roots_.empty());
}

Scheduler::Root Scheduler::run_root(Scheduler& /*scheduler*/,
                                    Task<void> task,
                                    std::list<std::coroutine_handle<>>::iterator /*slot*/) {
  co_await task;
}

void Scheduler::spawn(Task<void> task) {
  const auto slot = roots_.insert(roots_.end(), std::coroutine_handle<>());
  const Root root = run_root(*this, std::move(task), slot);
  *slot = root.handle;
  root.handle.resume();
}

void Scheduler::abandon_tasks() noexcept {
  // Youngest first: a task uses what older tasks own, never the other way round.
  while (!roots_.empty()) roots_.back().destroy();
}

void Yield::await_suspend(std::coroutine_handle<> waiter) {
  scheduler_.post([waiter] { waiter.resume(); });
}

}  // namespace vmstore
