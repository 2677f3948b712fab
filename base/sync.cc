// SPDX-License-Identifier: Apache-2.0
#include "base/sync.h"

namespace vmstore {

void WaitQueue::Waiter::await_suspend(std::coroutine_handle<> task) {
  task_ = task;
  previous_ = queue_.last_;
  (queue_.last_ != nullptr ? queue_.last_->next_ : queue_.first_) = this;
  queue_.last_ = this;
  linked_ = true;
  if (!deadline_) return;
  has_timer_ = true;
  timer_ = queue_.scheduler_.start_timer(*deadline_, [this] {
    has_timer_ = false;
    timed_out_ = true;
    leave();
    task_.resume();
  });
}

void WaitQueue::Waiter::leave() noexcept {
  if (has_timer_) {
    queue_.scheduler_.cancel_timer(timer_);
    has_timer_ = false;
  }
  if (!linked_) return;
  (previous_ != nullptr ? previous_->next_ : queue_.first_) = next_;
  (next_ != nullptr ? next_->previous_ : queue_.last_) = previous_;
  linked_ = false;
}

void WaitQueue::wake_first() {
  Waiter* const waiter = first_;
  VMS_ASSERT(waiter != nullptr);
  waiter->leave();
  const auto task = waiter->task_;
  scheduler_.post([task] { task.resume(); });
}

void WaitQueue::wake_all() {
  while (!empty()) wake_first();
}

void Event::set() {
  set_ = true;
  queue_.wake_all();
}

Task<void> Event::wait() {
  while (!set_) {
    auto waiter = queue_.wait();
    static_cast<void>(co_await waiter);
  }
}

Task<bool> Event::wait_until(TimePoint deadline) {
  while (!set_) {
    auto waiter = queue_.wait(deadline);
    const bool in_time = co_await waiter;
    if (!in_time) co_return set_;
  }
  co_return true;
}

Task<bool> Event::wait_pulse(std::optional<TimePoint> deadline) {
  auto waiter = queue_.wait(deadline);
  const bool in_time = co_await waiter;
  co_return in_time;
}

Task<void> Semaphore::acquire(std::uint64_t units) {
  if (try_acquire(units)) co_return;
  auto waiter = queue_.wait({}, units);
  static_cast<void>(co_await waiter);  // hand_out() has taken the units already
}

bool Semaphore::try_acquire(std::uint64_t units) noexcept {
  if (!queue_.empty() || free_ < units) return false;
  free_ -= units;
  return true;
}

void Semaphore::release(std::uint64_t units) {
  free_ += units;
  hand_out();
}

void Semaphore::hand_out() {
  while (!queue_.empty() && queue_.first_units() <= free_) {
    free_ -= queue_.first_units();
    queue_.wake_first();
  }
}

Task<TaskMutex::Lock> TaskMutex::lock() {
  co_await semaphore_.acquire();
  co_return Lock(this);
}

Result<Gate::Pass> Gate::enter() {
  if (closed_) return Errc::closing;
  ++count_;
  return Pass(this);
}

void Gate::leave() {
  --count_;
  if (count_ == 0 && closed_) idle_.set();
}

Task<void> Gate::close() {
  closed_ = true;
  if (count_ > 0) co_await idle_.wait();
}

}  // namespace vmstore
