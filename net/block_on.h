// SPDX-License-Identifier: Apache-2.0
// block_on(): the value of a task, for a thread that has no scheduler (main, tests, tools).
#pragma once

#include <memory>
#include <optional>
#include <semaphore>
#include <utility>

#include "base/assert.h"
#include "base/scheduler.h"
#include "base/task.h"

namespace vmstore::net {

namespace detail {

template <class T>
struct BlockOnSlot {
  std::optional<T> value;
  std::binary_semaphore ended{0};
};

/// Lies in the root's frame: lets the waiter go also when the task is destroyed instead of ending.
template <class T>
class BlockOnEnd {
 public:
  explicit BlockOnEnd(BlockOnSlot<T>& slot) : slot_(slot) {}
  BlockOnEnd(const BlockOnEnd&) = delete;
  BlockOnEnd& operator=(const BlockOnEnd&) = delete;
  ~BlockOnEnd() { slot_.ended.release(); }

 private:
  BlockOnSlot<T>& slot_;
};

template <class T>
Task<void> block_on_root(Task<T> task, std::shared_ptr<BlockOnSlot<T>> slot) {
  const BlockOnEnd<T> end(*slot);
  {
    Task<T> inner = std::move(task);  // gone, with all it holds, before the waiter goes on
    T value = co_await inner;
    slot->value.emplace(std::move(value));
  }
}

struct Nothing {};
inline Task<Nothing> with_nothing(Task<void> task) {
  co_await task;
  co_return Nothing();
}

}  // namespace detail

/// Runs `task` on `scheduler` and waits for its value. THREADS: any but the scheduler's own, which
/// would wait for itself. REQUIRES: the scheduler is not stopped meanwhile.
template <class T>
T block_on(Scheduler& scheduler, Task<T> task) {
  const auto slot = std::make_shared<detail::BlockOnSlot<T>>();
  const auto held = std::make_shared<Task<T>>(std::move(task));  // callbacks are copyable
  scheduler.post(
      [&scheduler, slot, held] { scheduler.spawn(detail::block_on_root(std::move(*held), slot)); });
  slot->ended.acquire();
  VMS_ASSERT(slot->value.has_value());
  return std::move(*slot->value);
}

inline void block_on(Scheduler& scheduler, Task<void> task) {
  static_cast<void>(block_on(scheduler, detail::with_nothing(std::move(task))));
}

}  // namespace vmstore::net
