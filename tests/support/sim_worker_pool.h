// SPDX-License-Identifier: Apache-2.0
// SimWorkerPool: blocking work of one simulated process, run inline at a seeded virtual delay.
//
// Invariants: work begins in the order of the delays drawn, so work submitted together overtakes as
// it may on threads; work of a frozen process is never run.
#pragma once

#include "base/worker_pool.h"
#include "tests/support/virtual_scheduler.h"

namespace vmstore::sim {

struct WorkDelay {
  Duration least = std::chrono::microseconds(5);
  Duration most = std::chrono::microseconds(200);
  /// One piece of work in this many takes `slow` more; 0 = none.
  std::uint64_t slow_one_in = 0;
  Duration slow = std::chrono::milliseconds(50);
  [[nodiscard]] static constexpr WorkDelay none() noexcept {
    return {Duration(0), Duration(0), 0, Duration(0)};
  }
};

/// THREADS: the world's. `home` of submit() must be a VirtualScheduler of the same world.
class SimWorkerPool final : public WorkerPool {
 public:
  explicit SimWorkerPool(World& world, WorkDelay delay = {}) : world_(world), delay_(delay) {}
  void submit(Scheduler& home, std::function<void()> work, std::function<void()> done) override;
  void set_delay(const WorkDelay& delay) noexcept { delay_ = delay; }
  [[nodiscard]] std::uint64_t submitted() const noexcept { return submitted_; }

 private:
  World& world_;
  WorkDelay delay_;
  std::uint64_t submitted_ = 0;
};

}  // namespace vmstore::sim
