// SPDX-License-Identifier: Apache-2.0
#include "net/node_pool.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "meta/records.h"
#include "meta/schema.h"

namespace vmstore::net {
namespace {

constexpr Duration kAskAgain = std::chrono::milliseconds(50);

}  // namespace

NodePool::NodePool(Scheduler& scheduler, Dialer& dialer, NodeClient& home, ClientOptions common)
    : scheduler_(scheduler),
      dialer_(dialer),
      meta_(home.meta()),
      home_(&home),
      common_(std::move(common)) {}

NodePool::NodePool(
    Scheduler& scheduler, Dialer& dialer, meta::MetaStore& meta, NodeId self, ClientOptions common)
    : scheduler_(scheduler),
      dialer_(dialer),
      meta_(meta),
      self_(self),
      common_(std::move(common)) {}

NodePool::~NodePool() = default;

Task<Result<void>> NodePool::start() {
  for (;;) {
    if (home_ != nullptr) {
      VMS_CO_TRY(const SessionInfo info, co_await home_->wait_connected());
      common_.store = info.store;
    }
    const auto started = co_await follow();
    if (started || !is_connection_trouble(started.error())) co_return started;
    if (stopping_) co_return Errc::closing;
    co_await sleep_for(scheduler_, kAskAgain);
  }
}

Task<Result<void>> NodePool::follow() {
  VMS_CO_TRY(const std::uint64_t revision, co_await load());
  const auto on_change = [this](const meta::Event& event) {
    if (stopping_) return;
    note(event.entry, event.removed);
    rebuild();
    static_cast<void>(unreachable());
  };
  VMS_CO_TRY(watch_, co_await meta_.watch(std::string(meta::kNodePrefix), revision + 1, on_change));
  co_return success();
}

Task<Result<std::uint64_t>> NodePool::load() {
  meta::RangeRequest request;
  request.prefix = std::string(meta::kNodePrefix);
  for (;;) {
    VMS_CO_TRY(const auto page, co_await meta_.range(request));
    for (const meta::Entry& entry : page.entries) note(entry, false);
    request.revision = page.revision;
    if (!page.more || page.entries.empty()) break;
    request.after = page.entries.back().key;
  }
  rebuild();
  static_cast<void>(unreachable());  // begins to connect to all of them
  co_return request.revision;
}

/// What cannot be read is no member: nothing is placed there.
void NodePool::note(const meta::Entry& entry, bool removed) {
  const auto has_key = [&entry](const auto& known) {
    return entry.key == std::string(meta::kNodePrefix) + known.first.hex();
  };
  const auto known = std::find_if(nodes_.begin(), nodes_.end(), has_key);
  const auto record = meta::decode<meta::pb::NodeRecord>(entry.value);
  if (removed || !record) {
    if (known == nodes_.end()) return;
    retire(std::move(known->second.client));
    nodes_.erase(known);
    return;
  }
  const auto id = meta::from_pb<NodeId>(record->id());
  Member& member = known == nodes_.end() ? nodes_[id] : known->second;
  member.weight = record->weight();
  member.zone = record->zone();
  const bool is_same =
      member.address == record->address() && member.certificate == record->certificate();
  if (is_same) return;
  member.address = record->address();
  member.certificate = record->certificate();
  retire(std::exchange(member.client, nullptr));
  ClientOptions options = common_;
  options.endpoint.text = member.address;
  options.more.clear();
  options.node = id;
  options.certificate = member.certificate;
  if (options.endpoint.text.empty()) return;
  member.client = std::make_unique<NodeClient>(scheduler_, dialer_, std::move(options));
  member.started = false;
}

/// Somebody may be in the middle of a call to it: it is destroyed with the pool.
void NodePool::retire(std::unique_ptr<NodeClient> client) {
  if (client == nullptr) return;
  scheduler_.spawn(client->stop());
  retired_.push_back(std::move(client));
}

void NodePool::rebuild() {
  members_.clear();
  std::vector<ring::Node> nodes;
  for (const auto& [id, member] : nodes_) {
    members_.push_back(id);
    nodes.push_back(ring::Node{id, member.weight, member.zone});
  }
  if (home_ != nullptr) {
    std::vector<Endpoint> elsewhere;
    for (const auto& [id, member] : nodes_) {
      const bool here = is_home(id, member);
      if (!here && !member.address.empty()) elsewhere.push_back(Endpoint{member.address});
    }
    home_->set_alternatives(std::move(elsewhere));
  }
  auto set = ring::NodeSet::make(std::move(nodes));
  if (!set) {
    VMS_LOG(error, "net", "the nodes make no ring: " << to_string(set.error()));
    return;  // the last one goes on
  }
  ring_ = ring::Ring(std::move(*set));
}

bool NodePool::is_home(NodeId id, const Member& member) const {
  if (home_ == nullptr || home_->node() != id) return false;
  const std::string& shown = home_->certificate();  // none on a unix socket
  return shown.empty() || member.certificate.empty() || shown == member.certificate;
}

NodeClient* NodePool::find(NodeId id) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) {
    const bool is_only = home_ != nullptr && home_->node() == id && nodes_.empty();
    return is_only ? home_ : nullptr;
  }
  Member& member = found->second;
  // Home has a session already, on its own host by the unix socket.
  if (is_home(id, member) && (home_->is_connected() || member.address.empty())) return home_;
  if (member.client == nullptr || id == self_) return nullptr;
  if (!std::exchange(member.started, true)) member.client->start();
  return member.client.get();
}

std::vector<NodeId> NodePool::unreachable() {
  std::vector<NodeId> away;
  for (const NodeId id : members_) {
    NodeClient* const client = find(id);
    if (client == nullptr || !client->is_connected()) away.push_back(id);
  }
  return away;
}

Duration NodePool::silent_for(NodeId id) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end() || id == self_) return Duration(0);
  NodeClient* const client = find(id);
  std::optional<TimePoint>& since = found->second.silent_since;
  if (client != nullptr && client->is_connected()) {
    since.reset();
    return Duration(0);
  }
  if (!since) since = scheduler_.now();
  return scheduler_.now() - *since;
}

Task<void> NodePool::stop() {
  stopping_ = true;
  watch_.reset();
  for (auto& [id, member] : nodes_) {
    if (member.client != nullptr) co_await member.client->stop();
  }
  for (const auto& client : retired_) co_await client->stop();
}

}  // namespace vmstore::net
