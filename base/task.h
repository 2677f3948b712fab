// SPDX-License-Identifier: Apache-2.0
// Task<T>: a lazily started coroutine that is awaited exactly once by its owner.
//
// Why not asio::awaitable: it costs 6 s of compile time per file (24 s under ASan) and ties every
// layer to Asio; this type costs nothing and runs under the simulator (docs/decisions/001).
//
// Invariants: a task runs only on the thread of its Scheduler; whatever suspends it resumes it
// through Scheduler::post, never inline. So a child that finishes without suspending returns to its
// parent without growing the stack, and no resumption ever runs inside somebody else's call.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/assert.h"

namespace vmstore {

template <class T>
class Task;

namespace task_detail {

struct FinalAwaiter {
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  template <class Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) const noexcept {
    const auto next = self.promise().continuation;
    return next ? next : std::coroutine_handle<>(std::noop_coroutine());
  }
  void await_resume() const noexcept {}
};

struct PromiseBase {
  std::coroutine_handle<> continuation;
  [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
  [[nodiscard]] FinalAwaiter final_suspend() const noexcept { return {}; }
  /// Errors travel as Result; an exception that gets here is a bug of ours.
  [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
};

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() noexcept;
  template <class U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() const noexcept {}
};

}  // namespace task_detail

/// THREADS: the thread of the scheduler it was started on. OWNS: the coroutine frame; destroying a
/// suspended task destroys the frame and everything it waits for.
template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = task_detail::Promise<T>;

  explicit Task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
  Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      destroy();
      frame_ = std::exchange(other.frame_, nullptr);
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() { destroy(); }

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> parent) {
    VMS_ASSERT(frame_ && !frame_.done());
    frame_.resume();
    if (frame_.done()) return false;
    frame_.promise().continuation = parent;
    return true;
  }
  T await_resume() {
    if constexpr (!std::is_void_v<T>) return std::move(*frame_.promise().value);
  }

 private:
  void destroy() noexcept {
    if (frame_) frame_.destroy();
    frame_ = nullptr;
  }
  std::coroutine_handle<promise_type> frame_;
};

namespace task_detail {
template <class T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}
}  // namespace task_detail

}  // namespace vmstore
