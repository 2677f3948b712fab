// SPDX-License-Identifier: Apache-2.0
#include "net/meta_remote.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/log.h"
#include "meta/request_check.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::net {
namespace {

constexpr std::size_t kEarlyEventsMax = 8192;  // a node queues no more for one session
constexpr Duration kResumePause = 1s;

meta::Entry entry_of(const pb::MetaEntry& message) {
  return {message.key(), message.value(), message.mod_revision()};
}

void fill_compare(pb::MetaCompare& out, const meta::Compare& compare) {
  out.set_key(compare.key);
  if (const auto* const revision = std::get_if<std::uint64_t>(&compare.what)) {
    out.set_mod_revision(*revision);
  } else if (const auto* const value = std::get_if<std::string>(&compare.what)) {
    out.set_value(*value);
  } else {
    out.set_exists(std::get<bool>(compare.what));
  }
}

void fill_op(pb::MetaOp& out, const meta::Op& op) {
  out.set_key(op.key);
  if (op.put) {
    out.set_put(*op.put);
  } else {
    out.set_remove(true);
  }
}

/// One watch, over all its sessions.
struct Subscription {
  std::string prefix;
  meta::MetaStore::WatchCallback callback;
  /// The newest revision of which something was told; asked for again from here. Before the first
  /// event: the first revision wanted.
  std::uint64_t revision = 0;
  std::set<std::string> told;  // keys told of that revision
  std::uint64_t number = 0;    // the node's, in this session; 0 = not subscribed
  bool ended = false;
  bool posted = false;
  std::deque<meta::Event> queue;
};
using SubscriptionPtr = std::shared_ptr<Subscription>;

void tell_queued(const SubscriptionPtr& watch) {
  watch->posted = false;
  while (!watch->ended && !watch->queue.empty()) {
    const meta::Event event = std::move(watch->queue.front());
    watch->queue.pop_front();
    watch->callback(event);
  }
}

/// Queues an event unless it was told in an earlier session.
void queue_event(Scheduler& scheduler, const SubscriptionPtr& watch, meta::Event event) {
  const std::uint64_t revision = event.entry.mod_revision;
  if (revision < watch->revision) return;
  if (revision > watch->revision) {
    watch->revision = revision;
    watch->told.clear();
  }
  if (!watch->told.insert(event.entry.key).second) return;
  watch->queue.push_back(std::move(event));
  if (std::exchange(watch->posted, true)) return;
  scheduler.post([watch] { tell_queued(watch); });
}

}  // namespace

struct MetaRemote::State : std::enable_shared_from_this<State> {
  using Ptr = std::shared_ptr<State>;
  State(Scheduler& owner, MetaTransport& used) : scheduler(owner), transport(&used) {}

  template <class Reply, class Request>
  static Task<Result<Reply>> exchange(Ptr state, wire::Opcode opcode, Request request) {
    if (state->transport == nullptr) co_return Errc::closing;
    VMS_CO_TRY(const auto frame, co_await state->transport->ask(opcode, wire::serialize(request)));
    auto reply = wire::parse<Reply>(frame.control);
    if (!reply && state->transport != nullptr) co_return state->transport->broken(opcode);
    co_return std::move(reply);
  }
  static Task<Result<void>> subscribe(Ptr state, SubscriptionPtr watch);
  static Task<Result<void>> tell_all(Ptr state, SubscriptionPtr watch);
  static Task<void> resume(Ptr state, SubscriptionPtr watch, std::uint64_t in_session);
  static Task<void> unsubscribe(Ptr state, std::uint64_t number);
  static Task<Result<meta::RangeAnswer>> range(Ptr state, meta::RangeRequest wanted);
  void end(const SubscriptionPtr& watch);

  Scheduler& scheduler;
  MetaTransport* transport;    // null once closed
  std::uint64_t sessions = 0;  // seen so far; the tasks of an older one give up
  std::uint64_t last_watch = 0;
  std::map<std::uint64_t, SubscriptionPtr> all;                  // in the order they were made
  std::unordered_map<std::uint64_t, SubscriptionPtr> by_number;  // the node's
  std::size_t subscribing = 0;
  std::vector<pb::MetaEvent> early;  // of numbers whose answer has not been looked at yet
};

namespace {

/// Keeps the watch in State::all.
class RemoteWatch final : public meta::Watch {
 public:
  explicit RemoteWatch(std::function<void()> end) : end_(std::move(end)) {}
  RemoteWatch(const RemoteWatch&) = delete;
  RemoteWatch& operator=(const RemoteWatch&) = delete;
  ~RemoteWatch() override { end_(); }

 private:
  std::function<void()> end_;
};

meta::Event event_of(const pb::MetaEvent& message) {
  meta::Event event;
  event.entry = entry_of(message.entry());
  event.removed = message.removed();
  event.last = !message.more();
  return event;
}

}  // namespace

MetaRemote::MetaRemote(Scheduler& scheduler, MetaTransport& transport)
    : state_(std::make_shared<State>(scheduler, transport)) {}

MetaRemote::~MetaRemote() {
  close();
}

void MetaRemote::close() noexcept {
  state_->transport = nullptr;
  for (const auto& [id, watch] : state_->all) watch->ended = true;
  state_->all.clear();
  session_lost();
}

// ---- single calls ----

Task<Result<meta::GetAnswer>> MetaRemote::get(std::string key) {
  VMS_CO_CHECK(meta::check_key(key));
  pb::MetaGetRequest request;
  request.set_key(std::move(key));
  VMS_CO_TRY(const auto reply,
             co_await State::exchange<pb::MetaGetReply>(
                 state_, wire::Opcode::meta_get, std::move(request)));
  meta::GetAnswer answer;
  if (reply.found()) answer.entry = entry_of(reply.entry());
  answer.revision = reply.revision();
  co_return answer;
}

Task<Result<meta::TxnAnswer>> MetaRemote::txn(meta::Txn txn) {
  VMS_CO_CHECK(meta::check_txn(txn));
  pb::MetaTxnRequest request;
  for (const auto& compare : txn.compares) fill_compare(*request.add_compares(), compare);
  for (const auto& op : txn.then_ops) fill_op(*request.add_then_ops(), op);
  for (const auto& op : txn.else_ops) fill_op(*request.add_else_ops(), op);
  VMS_CO_TRY(const auto reply,
             co_await State::exchange<pb::MetaTxnReply>(
                 state_, wire::Opcode::meta_txn, std::move(request)));
  meta::TxnAnswer answer;
  answer.held = reply.held();
  answer.revision = reply.revision();
  co_return answer;
}

Task<Result<meta::RangeAnswer>> MetaRemote::range(meta::RangeRequest wanted) {
  return State::range(state_, std::move(wanted));
}

Task<Result<meta::RangeAnswer>> MetaRemote::State::range(Ptr state, meta::RangeRequest wanted) {
  VMS_CO_CHECK(meta::check_range(wanted));
  pb::MetaRangeRequest request;
  request.set_prefix(std::move(wanted.prefix));
  request.set_after(std::move(wanted.after));
  request.set_limit(wanted.limit);
  request.set_revision(wanted.revision);
  VMS_CO_TRY(
      const auto reply,
      co_await exchange<pb::MetaRangeReply>(state, wire::Opcode::meta_range, std::move(request)));
  meta::RangeAnswer answer;
  for (const auto& entry : reply.entries()) answer.entries.push_back(entry_of(entry));
  answer.more = reply.more();
  answer.revision = reply.revision();
  co_return answer;
}

// ---- watches ----

Task<Result<std::unique_ptr<meta::Watch>>> MetaRemote::watch(std::string prefix,
                                                             std::uint64_t from_revision,
                                                             WatchCallback callback) {
  VMS_CO_CHECK(meta::check_prefix(prefix));
  const State::Ptr state = state_;
  const auto watch = std::make_shared<Subscription>();
  if (from_revision == 0) {
    // A place that can be asked for again, should the session end before the first event.
    meta::RangeRequest newest;
    newest.prefix = prefix;
    newest.limit = 1;
    VMS_CO_TRY(const auto now, co_await State::range(state, std::move(newest)));
    from_revision = now.revision + 1;
  }
  watch->prefix = std::move(prefix);
  watch->callback = std::move(callback);
  watch->revision = from_revision;
  VMS_CO_CHECK(co_await State::subscribe(state, watch));
  const std::uint64_t id = ++state->last_watch;
  state->all.emplace(id, watch);
  std::unique_ptr<meta::Watch> handle = std::make_unique<RemoteWatch>([state, watch, id] {
    state->all.erase(id);
    state->end(watch);
  });
  co_return handle;
}

/// Asks for the watch in this session. Events that came before the answer was looked at are told
/// after it.
Task<Result<void>> MetaRemote::State::subscribe(Ptr state, SubscriptionPtr watch) {
  const std::uint64_t in_session = state->sessions;
  pb::MetaWatchRequest request;
  request.set_prefix(watch->prefix);
  request.set_from_revision(watch->revision);
  ++state->subscribing;
  const auto reply =
      co_await exchange<pb::MetaWatchReply>(state, wire::Opcode::meta_watch, std::move(request));
  --state->subscribing;
  std::vector<pb::MetaEvent> early;
  if (state->subscribing == 0) early = std::exchange(state->early, {});
  if (!reply) co_return reply.error();
  if (state->transport == nullptr) co_return Errc::closing;
  if (state->sessions != in_session) co_return Errc::disconnected;
  watch->number = reply->watch();
  state->by_number[watch->number] = watch;
  const auto& waiting = state->subscribing == 0 ? early : state->early;
  for (const pb::MetaEvent& event : waiting) {
    if (event.watch() == watch->number) queue_event(state->scheduler, watch, event_of(event));
  }
  co_return success();
}

/// The changes since the last session are gone: what is there now, then changes from here on.
Task<Result<void>> MetaRemote::State::tell_all(Ptr state, SubscriptionPtr watch) {
  VMS_LOG(warning,
          "meta",
          "the watch of " << watch->prefix << " was away for too long, since revision "
                          << watch->revision << ": removals since then may go unnoticed");
  meta::RangeRequest wanted;
  wanted.prefix = watch->prefix;
  std::vector<meta::Entry> found;
  meta::RangeAnswer part;
  do {
    meta::RangeRequest next = wanted;
    VMS_CO_TRY(part, co_await range(state, std::move(next)));
    wanted.revision = part.revision;  // all pages of one revision
    for (meta::Entry& entry : part.entries) found.push_back(std::move(entry));
    if (!found.empty()) wanted.after = found.back().key;
  } while (part.more);
  if (watch->ended) co_return success();
  const std::uint64_t since = watch->revision;
  std::sort(found.begin(), found.end(), [](const meta::Entry& a, const meta::Entry& b) {
    return a.mod_revision < b.mod_revision;
  });
  for (meta::Entry& entry : found) {
    if (entry.mod_revision < since) continue;
    meta::Event event;
    event.entry = std::move(entry);
    queue_event(state->scheduler, watch, std::move(event));
  }
  watch->revision = part.revision + 1;
  watch->told.clear();
  co_return success();
}

/// Gets a watch into the session `in_session`, until that is over.
Task<void> MetaRemote::State::resume(Ptr state, SubscriptionPtr watch, std::uint64_t in_session) {
  const auto is_wanted = [&] {
    return !watch->ended && state->transport != nullptr && state->sessions == in_session;
  };
  while (is_wanted()) {
    auto resumed = co_await subscribe(state, watch);
    if (resumed && watch->ended) state->end(watch);  // while it was asked for
    if (resumed || !is_wanted()) co_return;
    if (resumed.error() == Errc::compacted) {
      resumed = co_await tell_all(state, watch);
      if (resumed) continue;
    }
    VMS_LOG(warning,
            "meta",
            "the watch of " << watch->prefix << " is not resumed yet: " << resumed.error());
    co_await sleep_for(state->scheduler, kResumePause);
  }
}

Task<void> MetaRemote::State::unsubscribe(Ptr state, std::uint64_t number) {
  pb::MetaUnwatchRequest request;
  request.set_watch(number);
  const auto done = co_await exchange<pb::MetaUnwatchReply>(
      state, wire::Opcode::meta_unwatch, std::move(request));
  ignore(done, "its events are dropped anyway");
}

/// The owner gave the watch up: nothing is told any more, and the node may forget it.
void MetaRemote::State::end(const SubscriptionPtr& watch) {
  watch->ended = true;
  watch->queue.clear();
  const std::uint64_t number = std::exchange(watch->number, 0);
  if (number == 0 || transport == nullptr) return;
  by_number.erase(number);
  scheduler.post([self = shared_from_this(), number, in_session = sessions] {
    if (self->sessions != in_session) return;
    self->scheduler.spawn(unsubscribe(self, number));
  });
}

void MetaRemote::on_event(const std::string& control) {
  const auto message = wire::parse<pb::MetaEvent>(control);
  if (!message) {
    VMS_LOG(warning, "meta", "an event that is no message was dropped; the session ends");
    if (state_->transport != nullptr) {
      static_cast<void>(state_->transport->broken(wire::Opcode::meta_event));
    }
    return;
  }
  const auto found = state_->by_number.find(message->watch());
  if (found != state_->by_number.end()) {
    queue_event(state_->scheduler, found->second, event_of(*message));
  } else if (state_->subscribing > 0 && state_->early.size() < kEarlyEventsMax) {
    state_->early.push_back(*message);
  } else if (state_->subscribing > 0 && state_->transport != nullptr) {
    static_cast<void>(state_->transport->broken(wire::Opcode::meta_event));  // none may be lost
  }
}

void MetaRemote::session_lost() {
  ++state_->sessions;
  for (const auto& [number, watch] : state_->by_number) watch->number = 0;
  state_->by_number.clear();
  state_->early.clear();
}

void MetaRemote::session_up() {
  const auto all = state_->all;
  for (const auto& [id, watch] : all) {
    state_->scheduler.spawn(State::resume(state_, watch, state_->sessions));
  }
}

}  // namespace vmstore::net
