// SPDX-License-Identifier: Apache-2.0
#include "storaged/session.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/ids.h"
#include "base/limits.h"
#include "base/log.h"
#include "storaged/node.h"
#include "storaged/rights.h"
#include "storaged/service.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kProgramCharsMax = 128;

/// What a client calls itself, cut and cleaned for the log.
std::string printable(const std::string& text) {
  std::string clean = text.substr(0, kProgramCharsMax);
  for (char& c : clean) {
    if (c < ' ' || c > '~') c = '?';
  }
  return clean;
}

std::string encode_event(std::uint64_t watch, const meta::Event& event) {
  pb::MetaEvent message;
  message.set_watch(watch);
  message.set_removed(event.removed);
  message.set_more(!event.last);
  auto* const entry = message.mutable_entry();
  entry->set_key(event.entry.key);
  entry->set_value(event.entry.value);
  entry->set_mod_revision(event.entry.mod_revision);
  return wire::serialize(message);
}

std::vector<std::string> patterns_of(const net::PeerCredentials& peer) {
  return peer.certificate ? peer.certificate->disks : std::vector<std::string>();
}

/// Nobody sends a node descriptors; a frame's receiver owns them.
void close_descriptors(const wire::Frame& frame) noexcept {
  for (const int fd : frame.descriptors) ::close(fd);
}

}  // namespace

Session::Session(Node& node, SessionId id, std::unique_ptr<net::Connection> connection)
    : node_(node),
      id_(id),
      credentials_(connection->peer()),
      role_(role_of(credentials_, node.options())),
      disks_(node, patterns_of(credentials_)),
      events_changed_(node.scheduler()),
      greeted_event_(node.scheduler()),
      tasks_(node.scheduler()),
      draws_(node.scheduler(), [this] { return is_closed(); }),
      peer_(node.scheduler(), std::move(connection), [this](wire::Frame request) {
        return handle(std::move(request));
      }) {}

Session::~Session() = default;

Task<void> Session::run() {
  node_.scheduler().spawn(end_if_silent());
  node_.scheduler().spawn(send_events());
  const Error why = co_await peer_.run();
  ended_ = true;
  VMS_LOG(debug,
          "session",
          "session " << id_.value << " (" << program_ << ") ended: " << to_string(why));
  node_.leases().end_session(id_, peer_.is_peer_gone());
  watches_.clear();
  events_changed_.set();
  greeted_event_.set();
  co_await tasks_.close();
}

void Session::note_garbage(DiskId disk, std::uint64_t blocks) {
  if (blocks == 0) {
    garbage_blocks_.erase(disk);
  } else {
    garbage_blocks_[disk] = blocks;
  }
}

std::uint64_t Session::garbage_blocks() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& [disk, blocks] : garbage_blocks_) sum += blocks;
  return sum;
}

Task<void> Session::end_if_silent() {
  const auto pass = tasks_.enter();
  if (!pass) co_return;
  const TimePoint deadline = node_.scheduler().now() + limits::kHandshakeTimeout;
  const bool greeted = co_await greeted_event_.wait_until(deadline);
  if (greeted || ended_) co_return;
  VMS_LOG(info, "session", "session " << id_.value << ": no hello in time");
  peer_.close();
}

// ---- requests ----

Task<net::Answer> Session::handle(wire::Frame request) {
  const wire::Opcode opcode = request.header.opcode;
  const TimePoint began = node_.scheduler().now();
  net::Answer answer = co_await dispatch(std::move(request));
  node_.requests().count(opcode, answer.status, node_.scheduler().now() - began);
  co_return answer;
}

Task<net::Answer> Session::dispatch(wire::Frame request) {
  if (!request.descriptors.empty()) {
    close_descriptors(request);
    co_return refuse(Errc::invalid_argument);
  }
  if (!greeted_) co_return hello(request);
  if (request.header.opcode == wire::Opcode::hello) co_return refuse(Errc::invalid_argument);
  if (!is_known(request.header.opcode)) co_return refuse(Errc::unsupported);
  if (!may_ask(role(), request.header.opcode)) co_return refuse(Errc::permission);
  VMS_ANSWER_CHECK(check_request(role(), request));
  if (disks_.are_limited()) VMS_ANSWER_CHECK(co_await disks_.check(request));
  switch (request.header.opcode) {
    case wire::Opcode::hello:
      break;  // once is enough
    case wire::Opcode::ping:
      co_return net::Answer{};
    case wire::Opcode::key_create:
    case wire::Opcode::key_append:
    case wire::Opcode::key_fence:
    case wire::Opcode::key_seal:
    case wire::Opcode::key_read:
    case wire::Opcode::key_read_log:
    case wire::Opcode::key_reserve:
    case wire::Opcode::key_free:
    case wire::Opcode::key_committed:
    case wire::Opcode::key_files:
    case wire::Opcode::key_info:
    case wire::Opcode::key_repair:
    case wire::Opcode::key_draw:
      co_return co_await serve_key(node_, *this, std::move(request));
    case wire::Opcode::meta_get:
    case wire::Opcode::meta_txn:
    case wire::Opcode::meta_range:
    case wire::Opcode::meta_watch:
    case wire::Opcode::meta_unwatch:
    case wire::Opcode::meta_backup:
      co_return co_await serve_meta(node_, *this, std::move(request));
    case wire::Opcode::disk_hold:
    case wire::Opcode::disk_release:
    case wire::Opcode::disk_renew:
    case wire::Opcode::disk_holder:
    case wire::Opcode::disk_call:
      co_return co_await serve_disk(node_, *this, std::move(request));
    case wire::Opcode::node_status:
    case wire::Opcode::gc_run:
      co_return co_await serve_node(node_, *this, std::move(request));
    case wire::Opcode::meta_event:
      break;  // only a node sends it
  }
  co_return refuse(Errc::unsupported);
}

net::Answer Session::hello(const wire::Frame& request) {
  if (!role_) {
    VMS_LOG(
        warning,
        "session",
        "user " << credentials_.uid << " (pid " << credentials_.pid << ") may not use this node");
    return refuse(Errc::permission);
  }
  if (request.header.opcode != wire::Opcode::hello) return refuse(Errc::permission);
  const auto message = wire::parse<pb::HelloRequest>(request.control);
  if (!message) return refuse(message.error());
  if (message->version_min() == 0 || message->version_min() > message->version_max()) {
    return refuse(Errc::invalid_argument);
  }
  if (message->version_min() > wire::kWireVersion) return refuse(Errc::newer_format);
  if (message->version_max() < wire::kWireVersionOldest) return refuse(Errc::unsupported);
  const Identity& identity = node_.identity();
  const auto store = wire::get_id<StoreId>(message->store_id());
  if (!store.is_none() && store != identity.store) return refuse(Errc::foreign_store);
  greeted_ = true;
  greeted_event_.set();
  program_ = printable(message->program());
  pid_ = credentials_.same_host ? credentials_.pid : message->pid();
  pb::HelloReply reply;
  reply.set_version(std::min<std::uint32_t>(message->version_max(), wire::kWireVersion));
  wire::put_id(*reply.mutable_store_id(), identity.store);
  wire::put_id(*reply.mutable_node_id(), identity.node);
  wire::put_id(*reply.mutable_incarnation(), identity.incarnation);
  reply.set_start_count(identity.start_count);
  reply.set_session(id_.value);
  reply.set_same_host(credentials_.same_host);
  return answer_with(reply);
}

Task<Result<wire::Frame>> Session::ask(wire::Opcode opcode,
                                       std::string control,
                                       TimePoint deadline) {
  if (is_closed()) co_return Errc::disconnected;
  if (relays_ >= kRelaysMax) co_return Errc::busy;
  ++relays_;
  wire::Payload nothing;
  auto answer =
      co_await peer_.call(opcode, std::move(control), std::move(nothing), false, deadline);
  --relays_;
  co_return answer;
}

// ---- watches ----

Task<Result<std::uint64_t>> Session::start_watch(std::string prefix, std::uint64_t from_revision) {
  if (watches_.size() >= kWatchesMax) co_return Errc::busy;
  const std::uint64_t number = ++last_watch_;
  watches_.try_emplace(number);  // events of the past may come before watch() returns
  const meta::MetaStore::WatchCallback on_event = [this, number](const meta::Event& event) {
    queue_event(number, event);
  };
  auto watch = co_await node_.meta().watch(std::move(prefix), from_revision, on_event);
  if (ended_) co_return Errc::disconnected;
  if (!watch) {
    watches_.erase(number);
    co_return watch.error();
  }
  watches_.at(number).watch = std::move(*watch);
  node_.scheduler().post([weak = weak_from_this(), number] {
    if (const auto self = weak.lock()) self->let_through(number);
  });
  co_return number;
}

void Session::end_watch(std::uint64_t watch) noexcept {
  const auto found = watches_.find(watch);
  if (found == watches_.end() || found->second.watch == nullptr) return;
  events_queued_ -= found->second.waiting.size();
  for (const std::string& event : found->second.waiting) event_bytes_ -= event.size();
  watches_.erase(found);
}

void Session::queue_event(std::uint64_t watch, const meta::Event& event) {
  const auto found = watches_.find(watch);
  if (found == watches_.end() || ended_) return;
  if (event.gap) {
    // Asked for again in the next session, the watch learns that its past is compacted.
    VMS_LOG(warning, "session", "session " << id_.value << " ends: its watch has missed changes");
    peer_.close();
    return;
  }
  std::string encoded = encode_event(watch, event);
  if (events_queued_ >= kWatchEventsMax || encoded.size() > kWatchBytesMax - event_bytes_) {
    VMS_LOG(warning,
            "session",
            "session " << id_.value << " (" << program_ << ") does not read its events");
    peer_.close();
    return;
  }
  ++events_queued_;
  event_bytes_ += encoded.size();
  if (!found->second.open) {
    found->second.waiting.push_back(std::move(encoded));
    return;
  }
  events_.push_back(std::move(encoded));
  events_changed_.pulse();
}

void Session::let_through(std::uint64_t watch) {
  const auto found = watches_.find(watch);
  if (found == watches_.end() || ended_) return;
  found->second.open = true;
  for (std::string& event : found->second.waiting) events_.push_back(std::move(event));
  found->second.waiting.clear();
  events_changed_.pulse();
}

Task<void> Session::send_events() {
  const auto pass = tasks_.enter();
  if (!pass) co_return;
  while (!ended_) {
    if (events_.empty()) {
      static_cast<void>(co_await events_changed_.wait_pulse());
      continue;
    }
    std::string event = std::move(events_.front());
    events_.pop_front();
    --events_queued_;
    event_bytes_ -= event.size();
    const auto sent = co_await peer_.send_one_way(wire::Opcode::meta_event, std::move(event));
    if (!sent) co_return;  // the connection is ending; peer_.run() tells
  }
}

}  // namespace vmstore::storaged
