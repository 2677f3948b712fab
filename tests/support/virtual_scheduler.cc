// SPDX-License-Identifier: Apache-2.0
#include "tests/support/virtual_scheduler.h"

#include <algorithm>
#include <iterator>

#include "base/assert.h"
#include "base/checksum.h"

namespace vmstore::sim {
namespace {

// Neither zero, so that code which confuses "no time" with "early" is found out.
constexpr TimePoint kStart{std::chrono::hours(1)};
constexpr WallTime kWallStart{std::chrono::hours(24 * 365 * 55)};

}  // namespace

World::World(std::uint64_t seed) : seed_(seed), random_(seed), now_(kStart) {}

World::~World() {
  VMS_ASSERT(processes_alive_ == 0);
}

Duration World::random_duration(Duration least, Duration most) {
  VMS_ASSERT(least <= most);
  const auto span = static_cast<std::uint64_t>((most - least).count()) + 1;
  return least + Duration(static_cast<std::int64_t>(random_.below(span)));
}

void World::post(VirtualScheduler& process, Scheduler::Callback callback) {
  posts_.push_back({now_, ++last_number_, &process, std::move(callback)});
}

std::uint64_t World::start_timer(VirtualScheduler& process,
                                 TimePoint when,
                                 Scheduler::Callback callback) {
  const std::uint64_t number = ++last_number_;
  when = std::max(when, now_);
  timers_.emplace(TimerKey(when, number), Event{when, number, &process, std::move(callback)});
  timer_times_.emplace(number, when);
  return number;
}

void World::cancel_timer(std::uint64_t number) noexcept {
  const auto found = timer_times_.find(number);
  if (found == timer_times_.end()) return;
  timers_.erase(TimerKey(found->second, number));
  timer_times_.erase(found);
}

void World::forget(const VirtualScheduler& process) noexcept {
  // Callbacks are destroyed after the queues are whole again: what they own may call back here.
  std::deque<Event> dropped;
  std::deque<Event> kept;
  for (Event& event : posts_) {
    (event.process == &process ? dropped : kept).push_back(std::move(event));
  }
  posts_ = std::move(kept);
  for (auto timer = timers_.begin(); timer != timers_.end();) {
    const auto here = timer++;
    if (here->second.process != &process) continue;
    dropped.push_back(std::move(here->second));
    timer_times_.erase(here->first.second);
    timers_.erase(here);
  }
}

bool World::post_is_next() const noexcept {
  if (posts_.empty() || timers_.empty()) return !posts_.empty();
  const Event& post = posts_.front();
  return TimerKey(post.when, post.number) < timers_.begin()->first;
}

std::optional<TimePoint> World::next_time() const noexcept {
  if (post_is_next()) return posts_.front().when;
  if (!timers_.empty()) return timers_.begin()->first.first;
  return std::nullopt;
}

World::Event World::take_next() {
  if (post_is_next()) {
    Event event = std::move(posts_.front());
    posts_.pop_front();
    return event;
  }
  const auto first = timers_.begin();
  Event event = std::move(first->second);
  timer_times_.erase(event.number);
  timers_.erase(first);
  return event;
}

bool World::step() {
  VMS_ASSERT(current_ == nullptr);
  if (!next_time()) return false;
  const Event event = take_next();
  if (event.process->is_frozen()) return true;
  events_at_now_ = event.when == now_ ? events_at_now_ + 1 : 0;
  VMS_ASSERT(events_at_now_ < kEventsAtOneTimeMax);
  now_ = std::max(now_, event.when);
  ++events_run_;
  current_ = event.process;
  trace("event", event.number);
  event.callback();
  current_ = nullptr;
  return true;
}

bool World::run_until(const std::function<bool()>& done, Duration at_most) {
  const TimePoint deadline = now_ + at_most;
  while (!done()) {
    const auto next = next_time();
    if (!next) return false;
    if (*next > deadline) {
      now_ = deadline;
      return false;
    }
    step();
  }
  return true;
}

void World::run_for(Duration duration) {
  const TimePoint end = now_ + duration;
  run_until([] { return false; }, duration);
  now_ = end;
}

void World::trace(std::string_view what, std::uint64_t detail) noexcept {
  mix(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
  mix(current_ == nullptr ? 0 : current_->pid());
  mix(xxh3(as_byte_span(what)));
  mix(detail);
}

void World::mix(std::uint64_t value) noexcept {
  trace_hash_ = Random(trace_hash_ ^ value).u64();
}

VirtualScheduler::VirtualScheduler(World& world, std::string name)
    : world_(world), name_(std::move(name)), pid_(++world.processes_made_) {
  ++world_.processes_alive_;
}

VirtualScheduler::~VirtualScheduler() {
  kill();
  --world_.processes_alive_;
}

WallTime VirtualScheduler::wall_now() const noexcept {
  return kWallStart + (world_.now() - kStart);
}

void VirtualScheduler::post(Callback callback) {
  if (!frozen_) world_.post(*this, std::move(callback));
}

Scheduler::TimerId VirtualScheduler::start_timer(TimePoint when, Callback callback) {
  if (frozen_) return 0;
  return world_.start_timer(*this, when, std::move(callback));
}

void VirtualScheduler::freeze() {
  if (std::exchange(frozen_, true)) return;
  world_.trace("freeze", pid_);
  const auto hooks = std::move(freeze_hooks_);
  freeze_hooks_.clear();
  for (const auto& hook : hooks) hook();
}

void VirtualScheduler::kill() {
  VMS_ASSERT(world_.current() != this);
  freeze();
  if (std::exchange(killed_, true)) return;
  world_.forget(*this);
  abandon_tasks();
  world_.forget(*this);
}

}  // namespace vmstore::sim
