// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/net/fake_node.h"

#include <deque>

#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::net::test {
namespace {

Answer refusal(Errc status) {
  Answer answer;
  answer.status = status;
  return answer;
}

template <class Message>
Answer answer_of(const Message& message) {
  Answer answer;
  answer.control = wire::serialize(message);
  return answer;
}

void put_entry(pb::MetaEntry& out, const meta::Entry& entry) {
  out.set_key(entry.key);
  out.set_value(entry.value);
  out.set_mod_revision(entry.mod_revision);
}

meta::Compare compare_of(const pb::MetaCompare& message) {
  meta::Compare compare;
  compare.key = message.key();
  if (message.what_case() == pb::MetaCompare::kModRevision) compare.what = message.mod_revision();
  if (message.what_case() == pb::MetaCompare::kValue) compare.what = message.value();
  if (message.what_case() == pb::MetaCompare::kExists) compare.what = message.exists();
  return compare;
}

meta::Op op_of(const pb::MetaOp& message) {
  meta::Op op;
  op.key = message.key();
  if (message.what_case() == pb::MetaOp::kPut) op.put = message.put();
  return op;
}

}  // namespace

struct FakeNode::Session {
  Session(FakeNode& owner, std::unique_ptr<Connection> connection)
      : node(owner), changed(owner.process_), connection_(std::move(connection)) {}
  void open(const std::shared_ptr<Session>& self) {
    const auto serve = [weak = std::weak_ptr<Session>(self)](wire::Frame request) {
      const auto session = weak.lock();
      return session->node.serve(session, std::move(request));
    };
    peer = std::make_unique<RpcPeer>(node.process_, std::move(connection_), serve);
  }
  FakeNode& node;
  std::unique_ptr<RpcPeer> peer;
  std::uint64_t last_watch = 0;
  std::map<std::uint64_t, std::unique_ptr<meta::Watch>> watches;
  std::deque<std::string> events;
  Event changed;

 private:
  std::unique_ptr<Connection> connection_;
};

FakeNode::FakeNode(sim::VirtualScheduler& process, sim::SimNetwork& network, meta::MetaStore& store)
    : process_(process),
      store_(store),
      listener_(network.listen(process, kNodeEndpoint)),
      never_(process) {
  process_.post([this] { process_.spawn(accept_all()); });
}

FakeNode::~FakeNode() = default;

RpcPeer& FakeNode::newest() {
  return *sessions_.back()->peer;
}

void FakeNode::end_sessions() {
  for (const auto& session : sessions_) session->peer->close();
}

Task<void> FakeNode::accept_all() {
  while (true) {
    auto connection = co_await listener_->accept();
    if (!connection) co_return;
    const auto session = std::make_shared<Session>(*this, std::move(*connection));
    session->open(session);
    sessions_.push_back(session);
    process_.spawn(run(session));
    process_.spawn(send_events(session));
  }
}

Task<void> FakeNode::run(std::shared_ptr<Session> session) {
  static_cast<void>(co_await session->peer->run());
  session->watches.clear();
  session->changed.pulse();
}

Task<void> FakeNode::send_events(std::shared_ptr<Session> session) {
  while (!session->peer->is_closed()) {
    if (session->events.empty()) {
      static_cast<void>(co_await session->changed.wait_pulse());
      continue;
    }
    std::string event = std::move(session->events.front());
    session->events.pop_front();
    ignore(co_await session->peer->send_one_way(wire::Opcode::meta_event, std::move(event)),
           "the loop asks whether the connection is over");
  }
}

Task<Answer> FakeNode::serve(std::shared_ptr<Session> session, wire::Frame request) {
  if (silent) co_await never_.wait();
  switch (request.header.opcode) {
    case wire::Opcode::hello:
      co_return co_await hello(std::move(request));
    case wire::Opcode::ping:
      ++pings;
      co_return Answer();
    case wire::Opcode::meta_get:
      co_return co_await get(std::move(request));
    case wire::Opcode::meta_txn:
      co_return co_await txn(std::move(request));
    case wire::Opcode::meta_range:
      co_return co_await range(std::move(request));
    case wire::Opcode::meta_watch:
      co_return co_await watch(session, std::move(request));
    case wire::Opcode::meta_unwatch: {
      const auto message = wire::parse<pb::MetaUnwatchRequest>(request.control);
      watches_ended += session->watches.erase(message->watch());
      co_return answer_of(pb::MetaUnwatchReply());
    }
    default:
      break;
  }
  if (!handler) co_return refusal(Errc::unsupported);
  co_return co_await handler(std::move(request));
}

Task<Answer> FakeNode::hello(wire::Frame request) {
  const auto message = wire::parse<pb::HelloRequest>(request.control);
  programs.push_back(message->program());
  if (!answers_hello) co_await never_.wait();
  if (hello_status != Errc::ok) co_return refusal(hello_status);
  pb::HelloReply reply;
  reply.set_version(version);
  wire::put_id(*reply.mutable_store_id(), store_id);
  wire::put_id(*reply.mutable_node_id(), NodeId{3, 4});
  wire::put_id(*reply.mutable_incarnation(), Incarnation{5, 6});
  reply.set_start_count(7);
  reply.set_session(programs.size());
  reply.set_same_host(true);
  co_return answer_of(reply);
}

Task<Answer> FakeNode::get(wire::Frame request) {
  const auto message = wire::parse<pb::MetaGetRequest>(request.control);
  const auto found = co_await store_.get(message->key());
  if (!found) co_return refusal(found.error().code);
  pb::MetaGetReply reply;
  reply.set_found(found->entry.has_value());
  reply.set_revision(found->revision);
  if (found->entry) put_entry(*reply.mutable_entry(), *found->entry);
  co_return answer_of(reply);
}

Task<Answer> FakeNode::txn(wire::Frame request) {
  const auto message = wire::parse<pb::MetaTxnRequest>(request.control);
  meta::Txn wanted;
  for (const auto& compare : message->compares()) wanted.compares.push_back(compare_of(compare));
  for (const auto& op : message->then_ops()) wanted.then_ops.push_back(op_of(op));
  for (const auto& op : message->else_ops()) wanted.else_ops.push_back(op_of(op));
  const auto outcome = co_await store_.txn(std::move(wanted));
  if (!outcome) co_return refusal(outcome.error().code);
  pb::MetaTxnReply reply;
  reply.set_held(outcome->held);
  reply.set_revision(outcome->revision);
  co_return answer_of(reply);
}

Task<Answer> FakeNode::range(wire::Frame request) {
  const auto message = wire::parse<pb::MetaRangeRequest>(request.control);
  meta::RangeRequest wanted;
  wanted.prefix = message->prefix();
  wanted.after = message->after();
  wanted.limit = message->limit();
  wanted.revision = message->revision();
  const auto found = co_await store_.range(std::move(wanted));
  if (!found) co_return refusal(found.error().code);
  pb::MetaRangeReply reply;
  for (const meta::Entry& entry : found->entries) put_entry(*reply.add_entries(), entry);
  reply.set_more(found->more);
  reply.set_revision(found->revision);
  co_return answer_of(reply);
}

/// Events may be sent before the answer that names their watch: a client must bear that.
Task<Answer> FakeNode::watch(std::shared_ptr<Session> session, wire::Frame request) {
  const auto message = wire::parse<pb::MetaWatchRequest>(request.control);
  const std::uint64_t number = ++session->last_watch;
  const std::weak_ptr<Session> weak = session;
  const meta::MetaStore::WatchCallback on_event = [weak, number](const meta::Event& event) {
    const auto to = weak.lock();
    if (!to) return;
    pb::MetaEvent told;
    told.set_watch(number);
    told.set_removed(event.removed);
    told.set_more(!event.last);
    put_entry(*told.mutable_entry(), event.entry);
    to->events.push_back(wire::serialize(told));
    to->changed.pulse();
  };
  auto watch = co_await store_.watch(message->prefix(), message->from_revision(), on_event);
  if (!watch) co_return refusal(watch.error().code);
  session->watches[number] = std::move(*watch);
  ++watches_begun;
  pb::MetaWatchReply reply;
  reply.set_watch(number);
  reply.set_revision(message->from_revision());
  co_return answer_of(reply);
}

}  // namespace vmstore::net::test
