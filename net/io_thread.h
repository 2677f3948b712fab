// SPDX-License-Identifier: Apache-2.0
// IoThread: the production Scheduler, one thread with an event loop (Asio) for sockets and timers.
//
// Invariants: callbacks run on its thread only, one at a time; those posted by one thread run in
// the order posted; whatever a callback posts to its own thread runs without a system call in
// between. After stop() nothing runs, and what is posted is dropped.
#pragma once

#include <memory>
#include <string>

#include "base/scheduler.h"

namespace vmstore::net {

/// THREADS: post(), now(), wall_now() from any; the constructor, stop() and the destructor from one
/// other thread; the rest from its own.
class IoThread final : public Scheduler {
 public:
  /// Starts the thread, with all signals blocked. `name`: at most 15 characters, seen in top -H.
  explicit IoThread(const std::string& name);
  /// Stops it if that was not done.
  ~IoThread() override;

  [[nodiscard]] TimePoint now() const noexcept override;
  [[nodiscard]] WallTime wall_now() const noexcept override;
  void post(Callback callback) override;
  TimerId start_timer(TimePoint when, Callback callback) override;
  void cancel_timer(TimerId timer) noexcept override;

  /// Runs what was posted until nothing is left, destroys the tasks that have not ended, drops the
  /// timers, and joins. Pools that answer to this thread are destroyed before. Idempotent.
  void stop();

  [[nodiscard]] bool is_own_thread() const noexcept;

  /// The loop itself, for the adapters in net/ and storaged/ (net/asio_loop.h).
  struct Loop;
  [[nodiscard]] Loop& loop() noexcept { return *loop_; }

 private:
  std::unique_ptr<Loop> loop_;
};

}  // namespace vmstore::net
