// SPDX-License-Identifier: Apache-2.0
// Node: one storage node: its block store, its metadata, its sessions.
//
// Everything it takes from outside comes through seams (Scheduler, WorkerPool, Files, MetaStore,
// Connection), so that the same code runs in the simulator; sockets, threads and RocksDB are put
// together in daemon.cc.
//
// Invariants: nobody is served before start() succeeded; after stop() no session and no round of
// garbage collection is left and the block store is closed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/files.h"
#include "base/ids.h"
#include "base/random.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/worker_pool.h"
#include "meta/meta_store.h"
#include "net/connection.h"
#include "net/node_pool.h"
#include "storaged/block_store.h"
#include "storaged/gc.h"
#include "storaged/identity.h"
#include "storaged/key_numbers.h"
#include "storaged/leases.h"
#include "storaged/metrics.h"
#include "storaged/name_check.h"
#include "storaged/space.h"
#include "storaged/trash.h"

namespace vmstore::pb {
class NodeStatusReply;
}  // namespace vmstore::pb

namespace vmstore::storaged {

class Ballast;
class Session;

struct NodeOptions {
  std::uint64_t journal_bytes = 0;   // 0: limits::kJournalBytes
  std::uint64_t reserve_bytes = 0;   // kept for acknowledged data and for freeing
  std::uint32_t own_uid = 0;         // besides root, the only user that unix sockets serve
  std::size_t open_keys_max = 512;   // see BlockStoreOptions
  bool serve_network_peers = false;  // with every right, though nobody knows who: simulations
  std::string data_folder;           // for people
  std::string address;               // this and the next three: see NodePlace
  std::string certificate;
  std::optional<std::string> zone;
  std::optional<std::uint32_t> weight;
  std::string version;
  bool collect_by_itself = true;       // start rounds of garbage collection when it pays
  WorkerPool* journal_pool = nullptr;  // see BlockStoreOptions
};

/// What a node is made of; all of it outlives the node.
struct NodeParts {
  Scheduler& scheduler;
  WorkerPool& pool;
  Files& files;
  DataFolder& folder;
  meta::MetaStore& meta;
  Random& random;
  Ballast* ballast = nullptr;     // kept whenever there is room for it
  net::Dialer* dialer = nullptr;  // to other nodes; none: this node is alone
};

/// THREADS: the scheduler's. OWNS: the block store and the sessions.
class Node {
 public:
  Node(NodeParts parts, NodeOptions options);
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();

  /// Joins the catalogue, replays the journal. Once; the node serves after success.
  [[nodiscard]] Task<Result<void>> start();
  /// Serves the connection until it ends. Refused (closed) when the node is full or stopping.
  void serve(std::unique_ptr<net::Connection> connection);
  /// Ends sessions and rounds, closes the block store.
  [[nodiscard]] Task<void> stop();
  /// It serves, and it takes changes: not so once its journal failed, or while its catalogue does.
  [[nodiscard]] bool is_ready() const noexcept;
  [[nodiscard]] std::size_t session_count() const noexcept { return sessions_.size(); }

  [[nodiscard]] Task<pb::NodeStatusReply> status();
  /// A round of garbage collection; `busy` while one runs. One that ends well, and is no dry run,
  /// lifts the hold of a restore.
  [[nodiscard]] Task<Result<GcReport>> collect(bool dry_run);
  /// The text of /metrics.
  [[nodiscard]] Task<std::string> metrics_text();

  // For the services.
  [[nodiscard]] Scheduler& scheduler() noexcept { return parts_.scheduler; }
  [[nodiscard]] BlockStore& store() noexcept { return store_; }
  [[nodiscard]] meta::MetaStore& meta() noexcept { return parts_.meta; }
  [[nodiscard]] Leases& leases() noexcept { return leases_; }
  [[nodiscard]] Gc& gc() noexcept { return gc_; }
  [[nodiscard]] NameCheck& names() noexcept { return names_; }
  [[nodiscard]] bool is_alone() const noexcept {
    return peers_ == nullptr || peers_->members().size() <= 1;
  }
  /// The other nodes; null when this one was made to be alone.
  [[nodiscard]] net::NodePool* peers() noexcept { return peers_.get(); }
  [[nodiscard]] KeyNumbers& numbers() noexcept { return numbers_; }
  [[nodiscard]] SpaceWatch& space() noexcept { return space_; }
  [[nodiscard]] RequestCounters& requests() noexcept { return requests_; }
  /// Writers of some owner waited for frees.
  void note_slowed(std::uint64_t ns) noexcept { slowed_ns_ += ns; }
  [[nodiscard]] const Identity& identity() const noexcept { return parts_.folder.identity(); }
  [[nodiscard]] const NodeOptions& options() const noexcept { return options_; }
  /// Null when that session is gone.
  [[nodiscard]] std::shared_ptr<Session> find_session(SessionId id) const;
  /// Who holds the disk now; the session's newest frame counts as a renewal.
  [[nodiscard]] std::optional<Leases::Hold> holder(DiskId disk);

 private:
  [[nodiscard]] Task<void> run_session(std::shared_ptr<Session> session);
  [[nodiscard]] Task<void> load_key_counter();
  [[nodiscard]] Task<Result<void>> register_start();
  [[nodiscard]] Task<bool> is_served_at(std::string address);
  [[nodiscard]] Task<Result<void>> meet_peers();
  [[nodiscard]] Task<void> keep_house();
  [[nodiscard]] Task<Result<void>> take_sample();
  [[nodiscard]] Task<Result<void>> keep_ballast();
  [[nodiscard]] Task<void> look_at_trash();
  [[nodiscard]] Task<void> collect_by_itself();

  NodeParts parts_;
  NodeOptions options_;
  BlockStore store_;
  NameCheck names_;
  KeyNumbers numbers_;
  Leases leases_;
  SpaceWatch space_;
  Gc gc_;
  Trash trash_;
  std::unique_ptr<net::NodePool> peers_;
  TimePoint trash_looked_at_;
  RequestCounters requests_;
  std::unordered_map<SessionId, std::shared_ptr<Session>> sessions_;
  std::uint64_t last_session_ = 0;
  std::uint64_t slowed_ns_ = 0;
  TimePoint started_;
  bool opened_ = false;
  bool ready_ = false;
  bool stopping_ = false;
  Event stop_event_;
  Gate tasks_;
};

}  // namespace vmstore::storaged
