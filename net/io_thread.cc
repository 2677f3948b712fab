// SPDX-License-Identifier: Apache-2.0
#include "net/io_thread.h"

#include <pthread.h>
#include <signal.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "net/asio_loop.h"

namespace vmstore::net {
namespace {

thread_local const IoThread* own_thread = nullptr;

/// Callbacks run in one go before the event loop looks at sockets and timers again.
constexpr int kReadyBatch = 256;
/// A task that posts for ever must not keep stop() from returning.
constexpr int kDrainMax = 1'000'000;

#ifndef NDEBUG
constexpr Duration kSlowCallback = 10ms;
#endif

void run_callback(const Scheduler::Callback& callback) {
#ifndef NDEBUG
  const auto start = std::chrono::steady_clock::now();
  callback();
  const auto took = std::chrono::steady_clock::now() - start;
  if (took > kSlowCallback) {
    VMS_LOG(debug, "net", "a callback kept its thread for " << took / 1us << " us");
  }
#else
  callback();
#endif
}

}  // namespace

void IoThread::Loop::post_own(Callback callback) {
  ready.push_back(std::move(callback));
  if (!entered) drain_later();
}

void IoThread::Loop::post_foreign(Callback callback) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex);
    if (closed) return;
    wake = foreign.empty();
    foreign.push_back(std::move(callback));
  }
  if (wake) boost::asio::post(context, [this] { take_foreign(); });
}

void IoThread::Loop::take_foreign() {
  std::vector<Callback> taken;
  {
    const std::lock_guard lock(mutex);
    taken.swap(foreign);
  }
  for (Callback& callback : taken) ready.push_back(std::move(callback));
  run_ready();
}

void IoThread::Loop::run_ready() {
  entered = true;
  for (int n = 0; n < kReadyBatch && !ready.empty(); ++n) {
    const Callback callback = std::move(ready.front());
    ready.pop_front();
    run_callback(callback);
  }
  entered = false;
  if (!ready.empty()) drain_later();
}

void IoThread::Loop::drain_later() {
  if (std::exchange(drain_posted, true)) return;
  boost::asio::post(context, [this] {
    drain_posted = false;
    run_ready();
  });
}

// The alarm is set only when the earliest timer moves forward: most timers are deadlines that are
// cancelled long before, and each setting is a system call.
void IoThread::Loop::arm_timer() {
  if (timers.empty()) return;
  const TimePoint first = timers.begin()->first.first;
  if (first >= armed_for) return;
  armed_for = first;
  alarm.expires_at(first);
  alarm.async_wait([this](const boost::system::error_code& error) {
    if (error) return;  // set anew
    armed_for = TimePoint::max();
    enter([this] { run_timers(); });
    arm_timer();
  });
}

void IoThread::Loop::run_timers() {
  const TimePoint now = scheduler.now();
  const TimerId last_due = last_timer;  // what is started meanwhile waits for the next turn
  for (auto timer = timers.begin(); timer != timers.end() && timer->first.first <= now;
       timer = timers.begin()) {
    if (timer->first.second > last_due) break;
    const Callback callback = std::move(timer->second);
    timer_times.erase(timer->first.second);
    timers.erase(timer);
    run_callback(callback);
  }
}

void IoThread::Loop::finish() {
  for (int n = 0; n < kDrainMax; ++n) {
    if (ready.empty()) take_foreign();
    if (ready.empty()) break;
    run_ready();
  }
  {
    const std::lock_guard lock(mutex);
    closed = true;
    foreign.clear();
  }
  // From here on nothing runs: callbacks may resume tasks that are destroyed now.
  entered = true;
  scheduler.abandon_tasks();
  ready.clear();
  timers.clear();
  timer_times.clear();
  alarm.cancel();
  keep_running.reset();
  context.stop();
}

IoThread::IoThread(const std::string& name) : loop_(std::make_unique<Loop>(*this)) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  loop_->thread = std::thread([this, name] {
    own_thread = this;
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    loop_->context.run();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

IoThread::~IoThread() {
  stop();
}

TimePoint IoThread::now() const noexcept {
  return std::chrono::steady_clock::now();
}

WallTime IoThread::wall_now() const noexcept {
  return std::chrono::system_clock::now();
}

void IoThread::post(Callback callback) {
  if (is_own_thread()) {
    loop_->post_own(std::move(callback));
  } else {
    loop_->post_foreign(std::move(callback));
  }
}

Scheduler::TimerId IoThread::start_timer(TimePoint when, Callback callback) {
  VMS_ASSERT(is_own_thread());
  const TimerId id = ++loop_->last_timer;
  loop_->timers.emplace(Loop::TimerKey(when, id), std::move(callback));
  loop_->timer_times.emplace(id, when);
  loop_->arm_timer();
  return id;
}

void IoThread::cancel_timer(TimerId timer) noexcept {
  const auto found = loop_->timer_times.find(timer);
  if (found == loop_->timer_times.end()) return;
  loop_->timers.erase(Loop::TimerKey(found->second, timer));
  loop_->timer_times.erase(found);
}

void IoThread::stop() {
  if (!loop_->thread.joinable()) return;
  VMS_ASSERT(!is_own_thread());
  boost::asio::post(loop_->context, [loop = loop_.get()] { loop->finish(); });
  loop_->thread.join();
}

bool IoThread::is_own_thread() const noexcept {
  return own_thread == this;
}

}  // namespace vmstore::net
