// SPDX-License-Identifier: Apache-2.0
// FanOut: several pieces of blocking work at once, awaited together.
#pragma once

#include <coroutine>
#include <functional>
#include <vector>

#include "base/worker_pool.h"

namespace vmstore::storaged {

struct PoolJob {
  WorkerPool* pool = nullptr;
  std::function<void()> work;
};

/// co_await FanOut(home, jobs): submits all of `jobs`, resumes on `home` when the last has ended.
/// `jobs` must be a named object that outlives the await. THREADS: the scheduler's.
class FanOut {
 public:
  FanOut(Scheduler& home, std::vector<PoolJob>& jobs) : home_(home), jobs_(jobs) {}
  FanOut(const FanOut&) = delete;
  FanOut& operator=(const FanOut&) = delete;
  [[nodiscard]] bool await_ready() const noexcept { return jobs_.empty(); }
  void await_suspend(std::coroutine_handle<> task) {
    left_ = jobs_.size();
    for (PoolJob& job : jobs_) {
      job.pool->submit(home_, std::move(job.work), [this, task] {
        if (--left_ == 0) task.resume();
      });
    }
  }
  void await_resume() const noexcept {}

 private:
  Scheduler& home_;
  std::vector<PoolJob>& jobs_;
  std::size_t left_ = 0;
};

}  // namespace vmstore::storaged
