// SPDX-License-Identifier: Apache-2.0
// RocksStore: the embedded catalogue of a single node, over RocksTables.
//
// Transactions that wait while one is being written are made durable together by one sync. History
// is kept until it is older than `keep_time` or longer than `keep_revisions`, then given up.
//
// After a write that failed, as on a full device, every call answers `unavailable` until the folder
// was closed and opened again, which is tried once a second: only then can it be told what of that
// write is there.
//
// Invariants: an answered txn is durable; all changes are told to watches in the order they were
// made, each once, before the txn is answered to its caller.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "base/scheduler.h"
#include "base/sync.h"
#include "base/worker_pool.h"
#include "meta/make_room.h"
#include "meta/restorable_store.h"
#include "meta/rocks_tables.h"
#include "meta/watch_hub.h"

namespace vmstore::meta {

struct RocksOptions {
  Duration keep_time = std::chrono::hours(1);  // a mark of garbage reads at one revision (DESIGN 9)
  std::uint64_t keep_revisions = 100'000;
  MakeRoom make_room;
};

/// THREADS: the scheduler's. Close it before it is destroyed, unless all its tasks were abandoned.
class RocksStore final : public RestorableStore {
 public:
  /// The errors of RocksTables::open and create. Scheduler and pool outlive the store.
  [[nodiscard]] static Task<Result<std::unique_ptr<RocksStore>>> open(Scheduler& scheduler,
                                                                      WorkerPool& pool,
                                                                      std::string folder,
                                                                      RocksOptions options);
  [[nodiscard]] static Task<Result<std::unique_ptr<RocksStore>>> create(Scheduler& scheduler,
                                                                        WorkerPool& pool,
                                                                        std::string folder,
                                                                        RocksOptions options);
  RocksStore(Scheduler& scheduler,
             WorkerPool& pool,
             std::string folder,
             std::shared_ptr<RocksTables> tables,
             RocksOptions options);

  [[nodiscard]] Task<Result<GetAnswer>> get(std::string key) override;
  [[nodiscard]] Task<Result<TxnAnswer>> txn(Txn txn) override;
  [[nodiscard]] Task<Result<RangeAnswer>> range(RangeRequest request) override;
  [[nodiscard]] Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix,
                                                           std::uint64_t from_revision,
                                                           WatchCallback callback) override;
  [[nodiscard]] Task<Result<void>> restore(Changes changes, std::uint64_t revision) override;
  /// Gives up all history below `revision` now.
  [[nodiscard]] Task<Result<void>> compact(std::uint64_t revision);
  /// Refuses new calls, waits for those under way and gives the folder back.
  [[nodiscard]] Task<Result<void>> close();

 private:
  struct Waiting;
  [[nodiscard]] Task<void> commit_loop(Gate::Pass pass);
  [[nodiscard]] Task<void> compact_loop(Gate::Pass pass);
  [[nodiscard]] Task<Result<bool>> compact_step(std::uint64_t to);
  [[nodiscard]] Task<void> reopen_loop(Gate::Pass pass);
  [[nodiscard]] Task<Result<void>> reopen();
  [[nodiscard]] Task<Result<void>> publish_found();
  [[nodiscard]] std::deque<std::shared_ptr<Waiting>> take_group();
  void publish(const Changes& changes);
  void start_compaction_if_due(std::uint64_t revision);
  void reopen_if_failed();

  Scheduler& scheduler_;
  WorkerPool& pool_;
  std::string folder_;
  RocksOptions options_;
  std::shared_ptr<RocksTables> tables_;  // null while the folder is being opened again
  std::uint64_t published_;              // changes up to here were told to watches
  WatchHub hub_;
  TaskMutex writing_;  // RocksTables takes one writer at a time
  Gate gate_;
  std::deque<std::shared_ptr<Waiting>> queue_;
  bool committing_ = false;
  bool compacting_ = false;
  bool reopening_ = false;
  std::uint64_t compact_to_ = 0;
  std::deque<std::pair<TimePoint, std::uint64_t>> times_;  // the revision at a time
};

}  // namespace vmstore::meta
