// SPDX-License-Identifier: Apache-2.0
#include "net/meta_remote.h"

#include <utility>
#include <vector>

#include "base/log.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::net {
namespace {

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

}  // namespace

class MetaRemote::RemoteWatch final : public meta::Watch {
 public:
  RemoteWatch(MetaRemote& owner, std::weak_ptr<bool> alive, std::uint64_t number)
      : owner_(owner), alive_(std::move(alive)), number_(number) {}
  RemoteWatch(const RemoteWatch&) = delete;
  RemoteWatch& operator=(const RemoteWatch&) = delete;
  ~RemoteWatch() override {
    if (!alive_.expired()) owner_.all_.erase(number_);
  }

 private:
  MetaRemote& owner_;
  std::weak_ptr<bool> alive_;
  std::uint64_t number_;
};

MetaRemote::MetaRemote(Scheduler& scheduler, MetaTransport& transport)
    : transport_(transport), gate_(scheduler) {}
MetaRemote::~MetaRemote() = default;

Task<Result<meta::GetAnswer>> MetaRemote::get(std::string key) {
  pb::MetaGetRequest request;
  request.set_key(std::move(key));
  VMS_CO_TRY(const auto frame,
             co_await transport_.ask(wire::Opcode::meta_get, wire::serialize(request)));
  VMS_CO_TRY(const auto reply, wire::parse<pb::MetaGetReply>(frame.control));
  meta::GetAnswer answer;
  if (reply.found()) answer.entry = entry_of(reply.entry());
  answer.revision = reply.revision();
  co_return answer;
}

Task<Result<meta::TxnAnswer>> MetaRemote::txn(meta::Txn txn) {
  pb::MetaTxnRequest request;
  for (const auto& compare : txn.compares) fill_compare(*request.add_compares(), compare);
  for (const auto& op : txn.then_ops) fill_op(*request.add_then_ops(), op);
  for (const auto& op : txn.else_ops) fill_op(*request.add_else_ops(), op);
  VMS_CO_TRY(const auto frame,
             co_await transport_.ask(wire::Opcode::meta_txn, wire::serialize(request)));
  VMS_CO_TRY(const auto reply, wire::parse<pb::MetaTxnReply>(frame.control));
  meta::TxnAnswer answer;
  answer.held = reply.held();
  answer.revision = reply.revision();
  co_return answer;
}

Task<Result<meta::RangeAnswer>> MetaRemote::range(meta::RangeRequest wanted) {
  pb::MetaRangeRequest request;
  request.set_prefix(std::move(wanted.prefix));
  request.set_after(std::move(wanted.after));
  request.set_limit(wanted.limit);
  request.set_revision(wanted.revision);
  VMS_CO_TRY(const auto frame,
             co_await transport_.ask(wire::Opcode::meta_range, wire::serialize(request)));
  VMS_CO_TRY(const auto reply, wire::parse<pb::MetaRangeReply>(frame.control));
  meta::RangeAnswer answer;
  for (const auto& entry : reply.entries()) answer.entries.push_back(entry_of(entry));
  answer.more = reply.more();
  answer.revision = reply.revision();
  co_return answer;
}

Task<Result<std::unique_ptr<meta::Watch>>> MetaRemote::watch(std::string prefix,
                                                             std::uint64_t from_revision,
                                                             WatchCallback callback) {
  const auto subscription = std::make_shared<Subscription>();
  subscription->prefix = std::move(prefix);
  subscription->next_revision = from_revision;
  subscription->callback = std::move(callback);
  const std::uint64_t number = ++last_number_;
  all_[number] = subscription;
  const auto subscribed = co_await subscribe(subscription);
  if (!subscribed) {
    all_.erase(number);
    co_return subscribed.error();
  }
  std::unique_ptr<meta::Watch> watch = std::make_unique<RemoteWatch>(*this, alive_, number);
  co_return std::move(watch);
}

Task<Result<void>> MetaRemote::subscribe(std::shared_ptr<Subscription> subscription) {
  pb::MetaWatchRequest request;
  request.set_prefix(subscription->prefix);
  request.set_from_revision(subscription->next_revision);
  VMS_CO_TRY(const auto frame,
             co_await transport_.ask(wire::Opcode::meta_watch, wire::serialize(request)));
  VMS_CO_TRY(const auto reply, wire::parse<pb::MetaWatchReply>(frame.control));
  subscription->number = reply.watch();
  if (subscription->next_revision == 0) subscription->next_revision = reply.revision() + 1;
  co_return success();
}

void MetaRemote::on_event(const std::string& control) {
  const auto event = wire::parse<pb::MetaEvent>(control);
  if (!event) return;
  // Copies: a callback may end its own watch.
  const auto all = all_;
  for (const auto& [number, subscription] : all) {
    if (subscription->number != event->watch() || !all_.contains(number)) continue;
    meta::Event told;
    told.entry = entry_of(event->entry());
    told.removed = event->removed();
    // Until a later revision comes, this one may go on: asking again starts at it, and a callback
    // may see an event of one revision twice, never none.
    subscription->next_revision = told.entry.mod_revision;
    subscription->callback(told);
  }
}

Task<void> MetaRemote::resubscribe() {
  const auto all = all_;
  for (const auto& [number, subscription] : all) {
    if (!all_.contains(number)) continue;
    subscription->number = 0;
    const auto again = co_await subscribe(subscription);
    if (!again) {
      VMS_LOG(warning,
              "meta",
              "watch of " << subscription->prefix
                          << " could not be resumed: " << to_string(again.error()));
    }
  }
}

}  // namespace vmstore::net
