// SPDX-License-Identifier: Apache-2.0
// WorkerPool: the seam for blocking work (device I/O, syncs, long hashing).
// Production: ThreadPool. Simulation: runs the work inline at a seeded virtual time.
#pragma once

#include <coroutine>
#include <functional>
#include <optional>
#include <utility>

#include "base/scheduler.h"

namespace vmstore {

class WorkerPool {
 public:
  WorkerPool() = default;
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  virtual ~WorkerPool() = default;

  /// Runs `work` on some worker, then `done` on `home`'s thread. THREADS: any.
  virtual void submit(Scheduler& home, std::function<void()> work, std::function<void()> done) = 0;
};

/// co_await run_on(pool, home, f): f() on a worker, its value back on `home`.
/// `f` must be a named object that outlives the await (see docs/HACKING.md on g++ 12).
template <class F>
class RunOn {
 public:
  using Value = std::invoke_result_t<F&>;
  RunOn(WorkerPool& pool, Scheduler& home, F& work) : pool_(pool), home_(home), work_(work) {}
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> task) {
    pool_.submit(
        home_, [this] { value_.emplace(work_()); }, [task] { task.resume(); });
  }
  [[nodiscard]] Value await_resume() { return std::move(*value_); }

 private:
  WorkerPool& pool_;
  Scheduler& home_;
  F& work_;
  std::optional<Value> value_;
};

template <class F>
[[nodiscard]] RunOn<F> run_on(WorkerPool& pool, Scheduler& home, F& work) {
  return {pool, home, work};
}

}  // namespace vmstore
