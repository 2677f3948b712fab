// SPDX-License-Identifier: Apache-2.0
// World: one queue of events in virtual time for all simulated processes, and VirtualScheduler, the
// Scheduler of one of them. No thread exists; a run is a function of its seed.
//
// Invariants: events run in the order (virtual time, order of scheduling); time moves only between
// events; after freeze() no event of a process runs, after kill() none is kept and no task is left;
// two runs with one seed give one trace hash.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/scheduler.h"

namespace vmstore::sim {

class VirtualScheduler;

/// THREADS: one. Outlives its processes.
class World {
 public:
  explicit World(std::uint64_t seed);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }
  [[nodiscard]] Random& random() noexcept { return random_; }
  [[nodiscard]] TimePoint now() const noexcept { return now_; }
  /// Uniform in [least, most].
  [[nodiscard]] Duration random_duration(Duration least, Duration most);

  /// Runs the next event; false when there is none.
  bool step();
  /// Runs events until `done()` holds, asked before the first and after each. False when `at_most`
  /// of virtual time passed first, or nothing is left that could happen.
  bool run_until(const std::function<bool()>& done, Duration at_most);
  /// Lets `duration` of virtual time pass.
  void run_for(Duration duration);

  /// The process whose event is running; null between events.
  [[nodiscard]] VirtualScheduler* current() const noexcept { return current_; }
  [[nodiscard]] std::uint64_t events_run() const noexcept { return events_run_; }

  /// Hash of (time, process, event) of everything that happened.
  [[nodiscard]] std::uint64_t trace_hash() const noexcept { return trace_hash_; }
  /// Adds what a seam did (a frame sent, a file changed) to the trace.
  void trace(std::string_view what, std::uint64_t detail = 0) noexcept;

  /// Ends the program when one event after the other runs without time moving: a busy loop.
  static constexpr std::uint64_t kEventsAtOneTimeMax = 5'000'000;

 private:
  friend class VirtualScheduler;
  struct Event {
    TimePoint when;
    std::uint64_t number = 0;
    VirtualScheduler* process = nullptr;
    Scheduler::Callback callback;
  };
  using TimerKey = std::pair<TimePoint, std::uint64_t>;

  void post(VirtualScheduler& process, Scheduler::Callback callback);
  std::uint64_t start_timer(VirtualScheduler& process,
                            TimePoint when,
                            Scheduler::Callback callback);
  void cancel_timer(std::uint64_t number) noexcept;
  void forget(const VirtualScheduler& process) noexcept;
  [[nodiscard]] std::optional<TimePoint> next_time() const noexcept;
  [[nodiscard]] bool post_is_next() const noexcept;
  [[nodiscard]] Event take_next();
  void mix(std::uint64_t value) noexcept;

  std::uint64_t seed_;
  Random random_;
  TimePoint now_;
  std::uint64_t last_number_ = 0;
  std::deque<Event> posts_;  // sorted by (when, number), because time never goes back
  std::map<TimerKey, Event> timers_;
  std::unordered_map<std::uint64_t, TimePoint> timer_times_;
  VirtualScheduler* current_ = nullptr;
  std::uint64_t events_run_ = 0;
  std::uint64_t events_at_now_ = 0;
  std::uint64_t trace_hash_ = 0;
  std::uint32_t processes_made_ = 0;
  std::uint32_t processes_alive_ = 0;
};

/// One simulated process. THREADS: the world's.
class VirtualScheduler final : public Scheduler {
 public:
  VirtualScheduler(World& world, std::string name);
  /// Kills it if that has not happened. REQUIRES: not called from one of its own events.
  ~VirtualScheduler() override;

  [[nodiscard]] TimePoint now() const noexcept override { return world_.now(); }
  [[nodiscard]] WallTime wall_now() const noexcept override;
  void post(Callback callback) override;
  TimerId start_timer(TimePoint when, Callback callback) override;
  void cancel_timer(TimerId timer) noexcept override { world_.cancel_timer(timer); }

  /// The instant of death, callable from anywhere: what still runs of it changes nothing any more
  /// (its files and connections were told through on_freeze) and none of its events runs after.
  void freeze();
  [[nodiscard]] bool is_frozen() const noexcept { return frozen_; }
  /// Called once, at freeze().
  void on_freeze(std::function<void()> hook) { freeze_hooks_.push_back(std::move(hook)); }
  /// Freezes, drops queued callbacks and timers, abandons all tasks. The objects of the process may
  /// be destroyed afterwards. REQUIRES: not called from one of its own events.
  void kill();

  [[nodiscard]] World& world() noexcept { return world_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Distinct for every process of a world.
  [[nodiscard]] std::uint32_t pid() const noexcept { return pid_; }

 private:
  World& world_;
  std::string name_;
  std::uint32_t pid_;
  bool frozen_ = false;
  bool killed_ = false;
  std::vector<std::function<void()>> freeze_hooks_;
};

namespace detail {
template <class T>
Task<void> store_outcome(Task<T> task, std::optional<T>& outcome) {
  T value = co_await task;
  outcome.emplace(std::move(value));
}
inline Task<bool> store_end(Task<void> task) {
  co_await task;
  co_return true;
}
}  // namespace detail

/// A root task of `process` whose outcome the test waits for. It starts with the next event of the
/// process. REQUIRES: lives until the task ended or the process was killed.
template <class T>
class [[nodiscard]] Running {
 public:
  Running(VirtualScheduler& process, Task<T> task) : process_(process), task_(std::move(task)) {
    process_.post([this] {
      process_.spawn(detail::store_outcome(std::move(*task_), outcome_));
      task_.reset();
    });
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  [[nodiscard]] bool ended() const noexcept { return outcome_.has_value(); }
  [[nodiscard]] T& outcome() { return *outcome_; }
  /// Runs the world. False when it did not end within `at_most` of virtual time, or never will
  /// because the process is frozen.
  bool wait(Duration at_most) {
    return process_.world().run_until([this] { return ended() || process_.is_frozen(); },
                                      at_most) &&
           ended();
  }

 private:
  VirtualScheduler& process_;
  std::optional<Task<T>> task_;
  std::optional<T> outcome_;
};

/// Runs the world until the task ended and returns its value. Ends the program if it did not: for
/// tests in which nothing is killed.
template <class T>
T run(VirtualScheduler& process, Task<T> task, Duration at_most = std::chrono::hours(1)) {
  Running<T> running(process, std::move(task));
  const bool ended = running.wait(at_most);
  VMS_ASSERT(ended);
  return std::move(running.outcome());
}
inline void run(VirtualScheduler& process,
                Task<void> task,
                Duration at_most = std::chrono::hours(1)) {
  static_cast<void>(run(process, detail::store_end(std::move(task)), at_most));
}

}  // namespace vmstore::sim
