// SPDX-License-Identifier: Apache-2.0
// The inside of an IoThread, for files that use Asio. Nobody else includes it: Asio costs seconds
// of compile time per file.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "net/frame_reader.h"
#include "net/io_thread.h"

namespace vmstore::net {

/// THREADS: its own, but for what is marked.
struct IoThread::Loop {
  explicit Loop(IoThread& owner) : scheduler(owner) {}

  /// Runs a handler of Asio and then all that it posted. Every handler of the adapters goes through
  /// here, so that resuming a task costs no turn of the event loop.
  template <class Handler>
  void enter(Handler&& handler) {
    const bool outermost = !std::exchange(entered, true);
    handler();
    if (!outermost) return;
    entered = false;
    run_ready();
  }

  void post_own(Callback callback);
  void post_foreign(Callback callback);  // THREADS: any
  void take_foreign();
  void run_ready();
  void drain_later();
  void arm_timer();
  void run_timers();
  void finish();

  using TimerKey = std::pair<TimePoint, TimerId>;

  IoThread& scheduler;
  boost::asio::io_context context{1};
  boost::asio::steady_timer alarm{context};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> keep_running{
      context.get_executor()};

  std::deque<Callback> ready;
  bool entered = false;
  bool drain_posted = false;
  std::map<TimerKey, Callback> timers;
  std::unordered_map<TimerId, TimePoint> timer_times;
  TimerId last_timer = 0;
  TimePoint armed_for = TimePoint::max();
  ReadBuffers read_buffers;  // of the connections of this thread

  std::mutex mutex;               // guards the next two
  std::vector<Callback> foreign;  // posted by other threads, not taken yet
  bool closed = false;
  std::thread thread;
};

}  // namespace vmstore::net
