// SPDX-License-Identifier: Apache-2.0
// NodePool: the nodes of a store as one process reaches them: a client for each member that has an
// address. A client process has a home node besides, which serves it the catalogue and the leases;
// a node has the catalogue itself, and needs no way to itself.
//
// Invariants: the members are what the catalogue says, followed by a watch; a node that is no
// member any more is asked nothing; a member is one node id: another node at its address is an
// absent one.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "meta/meta_store.h"
#include "meta/records.pb.h"
#include "net/node_client.h"
#include "ring/ring.h"

namespace vmstore::net {

/// THREADS: the scheduler's.
class NodePool {
 public:
  /// `common`: what every client that is made here says of this process; its endpoint, store and
  /// node are set here. The references outlive the pool. Of a client process:
  NodePool(Scheduler& scheduler, Dialer& dialer, NodeClient& home, ClientOptions common);
  /// Of the node `self`; `common` names the store.
  NodePool(Scheduler& scheduler,
           Dialer& dialer,
           meta::MetaStore& meta,
           NodeId self,
           ClientOptions common);
  NodePool(const NodePool&) = delete;
  NodePool& operator=(const NodePool&) = delete;
  ~NodePool();

  /// Reads the members, connects to them and follows their changes. Once. Waits for home.
  [[nodiscard]] Task<Result<void>> start();
  [[nodiscard]] Task<void> stop();

  /// REQUIRES: of a client process.
  [[nodiscard]] NodeClient& home() noexcept { return *home_; }
  /// The client of a member; null for who is none, for this node itself, and for one that has no
  /// address and is not the home node.
  [[nodiscard]] NodeClient* find(NodeId id);
  /// Of the members that store keys.
  [[nodiscard]] const ring::Ring& ring() const noexcept { return ring_; }
  [[nodiscard]] const std::vector<NodeId>& members() const noexcept { return members_; }
  /// Members without a session now. What was never reached counts as well.
  [[nodiscard]] std::vector<NodeId> unreachable();
  /// How long nobody could be asked there, as far as was looked; 0 for who has a session.
  [[nodiscard]] Duration silent_for(NodeId id);

 private:
  struct Member {
    std::string address;
    std::string certificate;
    std::uint32_t weight = 1;
    std::string zone;
    std::unique_ptr<NodeClient> client;  // null without an address
    bool started = false;
    std::optional<TimePoint> silent_since;
  };
  [[nodiscard]] Task<Result<void>> follow();
  void note(const meta::Entry& entry, bool removed);
  /// The home node's session is with this one, as far as its certificate tells.
  [[nodiscard]] bool is_home(NodeId id, const Member& member) const;
  void retire(std::unique_ptr<NodeClient> client);
  void rebuild();
  /// The members as they are now; answers the revision of that.
  [[nodiscard]] Task<Result<std::uint64_t>> load();

  Scheduler& scheduler_;
  Dialer& dialer_;
  meta::MetaStore& meta_;
  NodeClient* home_ = nullptr;  // none: of a node
  NodeId self_;                 // none: of a client process
  ClientOptions common_;
  std::map<NodeId, Member> nodes_;
  std::vector<NodeId> members_;
  ring::Ring ring_;
  std::unique_ptr<meta::Watch> watch_;
  std::vector<std::unique_ptr<NodeClient>> retired_;  // of nodes that are no members any more
  bool stopping_ = false;
};

}  // namespace vmstore::net
