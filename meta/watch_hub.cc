// SPDX-License-Identifier: Apache-2.0
#include "meta/watch_hub.h"

#include <algorithm>
#include <deque>
#include <utility>

namespace vmstore::meta {

struct WatchHub::State {
  Scheduler* scheduler = nullptr;
  std::string prefix;
  MetaStore::WatchCallback callback;
  std::uint64_t next_revision = 0;  // changes below it were queued already
  bool started = false;
  bool ended = false;
  bool posted = false;
  std::deque<Event> queue;
  Changes held_back;  // published before start()
};

namespace {

class HubWatch final : public Watch {
 public:
  explicit HubWatch(std::shared_ptr<WatchHub::State> state) : state_(std::move(state)) {}
  ~HubWatch() override { state_->ended = true; }
  HubWatch(const HubWatch&) = delete;
  HubWatch& operator=(const HubWatch&) = delete;

 private:
  std::shared_ptr<WatchHub::State> state_;
};

void drain(const std::shared_ptr<WatchHub::State>& watch) {
  watch->posted = false;
  while (!watch->ended && !watch->queue.empty()) {
    const Event event = std::move(watch->queue.front());
    watch->queue.pop_front();
    watch->callback(event);
  }
}

void enqueue(const std::shared_ptr<WatchHub::State>& watch, const Changes& changes) {
  const std::uint64_t from = watch->next_revision;
  for (const Event& event : changes) {
    if (event.entry.mod_revision < from) continue;
    watch->next_revision = event.entry.mod_revision + 1;
    if (!event.entry.key.starts_with(watch->prefix)) continue;
    auto& queue = watch->queue;
    if (!queue.empty() && queue.back().entry.mod_revision == event.entry.mod_revision) {
      queue.back().last = false;
    }
    queue.push_back(event);
    queue.back().last = true;
  }
  if (watch->queue.empty() || std::exchange(watch->posted, true)) return;
  watch->scheduler->post([watch] { drain(watch); });
}

}  // namespace

WatchHub::~WatchHub() {
  for (const auto& weak : watches_) {
    if (const auto watch = weak.lock()) watch->ended = true;
  }
}

std::shared_ptr<WatchHub::State> WatchHub::add(std::string prefix,
                                               std::uint64_t first_revision,
                                               MetaStore::WatchCallback callback) {
  auto watch = std::make_shared<State>();
  watch->scheduler = &scheduler_;
  watch->prefix = std::move(prefix);
  watch->callback = std::move(callback);
  watch->next_revision = first_revision;
  watches_.push_back(watch);
  return watch;
}

void WatchHub::catch_up(const std::shared_ptr<State>& watch,
                        const Changes& past,
                        std::uint64_t through) {
  VMS_ASSERT(!watch->started);
  enqueue(watch, past);
  watch->next_revision = std::max(watch->next_revision, through + 1);
}

std::unique_ptr<Watch> WatchHub::start(std::shared_ptr<State> watch) {
  watch->started = true;
  const Changes held_back = std::exchange(watch->held_back, {});
  enqueue(watch, held_back);
  return std::make_unique<HubWatch>(std::move(watch));
}

void WatchHub::publish(const Changes& changes) {
  std::erase_if(watches_, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : watches_) {
    const auto watch = weak.lock();
    if (watch != nullptr && !watch->ended) tell(watch, changes);
  }
}

void WatchHub::tell(const std::shared_ptr<State>& watch, const Changes& changes) {
  if (watch->started) return enqueue(watch, changes);
  watch->held_back.insert(watch->held_back.end(), changes.begin(), changes.end());
}

}  // namespace vmstore::meta
