// SPDX-License-Identifier: Apache-2.0
// A whole store in one thread: a node over MemoryFiles and an in-memory catalogue, hosts with batch
// files that outlive their processes, and a network between them. Everything else is the product's
// own code.
//
// Invariants: a process that was frozen changes nothing any more; what outlives it is exactly what
// would outlive a real one (files and batch files after a kill, synced files after a power cut).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "disk/admin.h"
#include "disk/session.h"
#include "meta/mem_store.h"
#include "net/node_pool.h"
#include "storaged/identity.h"
#include "storaged/node.h"
#include "tests/support/memory_files.h"
#include "tests/support/sim_network.h"
#include "tests/support/sim_worker_pool.h"
#include "tests/support/virtual_scheduler.h"

namespace vmstore::sim {

enum class Death {
  kill,   // the process alone: what it wrote is still with the kernel
  power,  // the machine: only what was synced is sure to be there
};

struct SimNodeOptions {
  std::uint64_t capacity_bytes = MemoryFiles::kUnlimited;
  std::uint64_t journal_bytes = limits::kMiB;
  std::uint64_t reserve_bytes = 0;
  bool collect_by_itself = true;
  WorkDelay delay;
  std::string endpoint = "/node";
  std::string address;                            // what it tells others; empty: nothing
  std::shared_ptr<meta::MemCatalogue> catalogue;  // of a store that it joins; none: its own
  StoreId join;
};

/// One storage node with its machine.
class SimNode {
 public:
  SimNode(World& world, SimNetwork& network, SimNodeOptions options);
  SimNode(const SimNode&) = delete;
  SimNode& operator=(const SimNode&) = delete;
  ~SimNode();

  [[nodiscard]] const std::string& endpoint() const noexcept { return options_.endpoint; }
  /// Starts the process; it serves when is_ready(). REQUIRES: not running.
  void start();
  [[nodiscard]] bool is_running() const noexcept { return process_ != nullptr; }
  [[nodiscard]] bool is_ready() const;
  /// The process reached the point at which it was to die, or die() was called.
  [[nodiscard]] bool is_dead() const;
  /// Why it could not start; a running node has none.
  [[nodiscard]] const std::optional<Error>& failure() const noexcept { return failure_; }
  /// Removes what is left of the process and does to the machine what its death does.
  void bury(Death death);
  /// Stops in order. REQUIRES: ready.
  void stop();

  [[nodiscard]] VirtualScheduler& process();
  [[nodiscard]] MemoryFiles& files() noexcept { return files_; }
  /// Of its devices, from now on. REQUIRES: running.
  void set_delay(const WorkDelay& delay);
  [[nodiscard]] storaged::Node& node();
  [[nodiscard]] meta::MemCatalogue& catalogue() noexcept { return *catalogue_; }
  [[nodiscard]] std::shared_ptr<meta::MemCatalogue> shared_catalogue() { return catalogue_; }

 private:
  struct Process;
  void boot(Process& process);
  void note_failure(Process& process, const Error& error);
  [[nodiscard]] Task<void> serve(Process& process);

  World& world_;
  SimNetwork& network_;
  const SimNodeOptions options_;
  MemoryFiles files_;
  std::shared_ptr<meta::MemCatalogue> catalogue_;
  std::unique_ptr<Process> process_;
  std::optional<Error> failure_;
};

/// The batch files of one host: memory that outlives processes and is gone with the power.
class SimBatchHome final : public disk::BatchHome {
 public:
  explicit SimBatchHome(World& world) : world_(world) {}
  ~SimBatchHome() override;
  [[nodiscard]] Result<std::unique_ptr<disk::BatchHandle>> open(StoreId store,
                                                                DiskId disk,
                                                                bool create) override;
  /// Without room every session acknowledges only what is committed.
  void set_room(bool room) noexcept { room_ = room; }
  /// The instant of the process's death: its later stores are undone by forget_process().
  void freeze();
  void forget_process();
  void lose_power();

 private:
  friend class SimBatchHandle;
  struct Memory;
  World& world_;
  bool room_ = true;
  std::uint64_t generation_ = 1;
  std::map<DiskId, std::shared_ptr<Memory>> files_;
  std::map<DiskId, std::vector<std::byte>> at_death_;
  bool frozen_ = false;
  bool captured_ = false;  // at_death_ is what was there; else nothing could change since
};

struct SimHostOptions {
  std::uint64_t page_cache_bytes = 0;  // 0 = as in production
  std::uint64_t block_cache_bytes = 0;
};

/// One hypervisor with one client process on it.
class SimHost {
 public:
  SimHost(World& world, SimNetwork& network, SimNode& node, SimHostOptions options);
  SimHost(const SimHost&) = delete;
  SimHost& operator=(const SimHost&) = delete;
  ~SimHost();

  /// Starts the process; connected when is_ready(). REQUIRES: not running.
  void start();
  [[nodiscard]] bool is_running() const noexcept { return process_ != nullptr; }
  [[nodiscard]] bool is_ready() const;
  [[nodiscard]] bool is_dead() const;
  void bury(Death death);
  /// Ends the session in order. REQUIRES: ready, every disk released.
  void stop();

  [[nodiscard]] VirtualScheduler& process();
  [[nodiscard]] disk::Session& session();
  [[nodiscard]] disk::Admin& admin();
  [[nodiscard]] SimBatchHome& batches() noexcept { return batches_; }

 private:
  struct Process;
  [[nodiscard]] Task<void> connect(Process& process);
  [[nodiscard]] Task<void> disconnect(Process& process);

  World& world_;
  SimNetwork& network_;
  SimNode& node_;
  const SimHostOptions options_;
  BootId boot_;
  SimBatchHome batches_;
  std::unique_ptr<Process> process_;
};

}  // namespace vmstore::sim
