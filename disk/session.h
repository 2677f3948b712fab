// SPDX-License-Identifier: Apache-2.0
// Session: what all disks of one process share: the node, the catalogue, caches, batch files, the
// leases and the calls that come in for disks held here. DESIGN 6.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/random.h"
#include "base/sync.h"
#include "disk/block_cache.h"
#include "disk/block_reader.h"
#include "disk/catalogue.h"
#include "disk/copies.h"
#include "disk/holder_lease.h"
#include "disk/page_cache.h"
#include "net/node_pool.h"

namespace vmstore::disk {

/// One batch file of this host, locked. See batch_file_folder.h for the real one.
class BatchHandle {
 public:
  virtual ~BatchHandle() = default;
  [[nodiscard]] virtual bool is_new() const noexcept = 0;
  [[nodiscard]] virtual Result<void> allocate() = 0;
  [[nodiscard]] virtual MutableBytes memory() const noexcept = 0;
  [[nodiscard]] virtual Result<void> remove() = 0;
  [[nodiscard]] virtual Result<std::string> set_aside() = 0;
};

/// The host's folder of batch files: the seam for "memory that outlives a process".
class BatchHome {
 public:
  virtual ~BatchHome() = default;
  /// `not_found` when there is none and !create; `busy` when a living process has it.
  [[nodiscard]] virtual Result<std::unique_ptr<BatchHandle>> open(StoreId store,
                                                                  DiskId disk,
                                                                  bool create) = 0;
};

/// The part of an open disk that others can ask through the node.
class HeldDisk {
 public:
  virtual ~HeldDisk() = default;
  [[nodiscard]] virtual Epoch held_epoch() const noexcept = 0;
  [[nodiscard]] virtual HolderLease& lease() noexcept = 0;
  [[nodiscard]] virtual Task<Result<net::DiskCallAnswer>> serve(
      std::unique_ptr<pb::DiskCallRequest> request) = 0;
  /// The node knows of a newer owner than `epoch`.
  virtual void on_fenced(Epoch epoch) = 0;
};

struct SessionOptions {
  BootId boot;
  std::optional<std::uint64_t> seed;    // none: the system's randomness
  std::uint64_t page_cache_bytes = 0;   // 0 = limits
  std::uint64_t block_cache_bytes = 0;  // 0 = limits
};

/// THREADS: the scheduler's.
class Session {
 public:
  /// `nodes` is started and stopped with the session.
  Session(Scheduler& scheduler, net::NodePool& nodes, BatchHome& batches, SessionOptions options);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  /// Waits for the first connection.
  [[nodiscard]] Task<Result<void>> start(std::optional<TimePoint> deadline);
  [[nodiscard]] Task<void> stop();

  [[nodiscard]] Scheduler& scheduler() noexcept { return scheduler_; }
  /// The home node: the catalogue, the leases.
  [[nodiscard]] net::NodeClient& node() noexcept { return node_; }
  [[nodiscard]] Copies& copies() noexcept { return copies_; }
  [[nodiscard]] Catalogue& catalogue() noexcept { return catalogue_; }
  [[nodiscard]] BlockReader& blocks() noexcept { return blocks_; }
  [[nodiscard]] PageCache& page_cache() noexcept { return page_cache_; }
  [[nodiscard]] BatchHome& batches() noexcept { return batches_; }
  [[nodiscard]] Random& random() noexcept { return random_; }
  [[nodiscard]] StoreId store() const noexcept { return store_; }
  [[nodiscard]] BootId boot() const noexcept { return options_.boot; }

  /// From now on this session answers for the disk and keeps its lease. `stale_token`: the node
  /// knows of a newer owner; then, and after any other error, it is not registered.
  [[nodiscard]] Task<Result<void>> hold(DiskId id, Epoch epoch, HeldDisk* disk);
  /// The end of that; tells the node. What goes wrong there the end of the lease mends.
  [[nodiscard]] Task<void> release(DiskId id, Epoch epoch, HeldDisk* disk);
  /// Answers for the disk no longer, and lets its lease run out.
  void forget_disk(DiskId id, HeldDisk* disk);
  /// Asks the node at once. `not_owner`: not registered here; `stale_token`: there is a newer
  /// owner, and the disk was told; else nobody can tell now.
  [[nodiscard]] Task<Result<void>> renew(DiskId id);

 private:
  [[nodiscard]] Task<void> keep_leases();
  [[nodiscard]] Task<Result<void>> renew_proven(std::vector<DiskId> disks);
  [[nodiscard]] Task<Result<void>> prove(DiskId id);
  [[nodiscard]] Task<Result<net::DiskCallAnswer>> on_call(
      DiskId id, std::unique_ptr<pb::DiskCallRequest> call);
  Scheduler& scheduler_;
  net::NodePool& nodes_;
  net::NodeClient& node_;
  BatchHome& batches_;
  SessionOptions options_;
  Catalogue catalogue_;
  Copies copies_;
  PageCache page_cache_;
  BlockCache block_cache_;
  BlockReader blocks_;
  Random random_;
  Gate gate_;
  Event stopping_;
  StoreId store_;
  std::uint64_t seen_sessions_ = 0;
  std::map<DiskId, HeldDisk*> held_;
  TaskMutex lease_mutex_;  // a renewal on its way must not arrive behind the release
};

}  // namespace vmstore::disk
