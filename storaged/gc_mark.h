// SPDX-License-Identifier: Apache-2.0
// Mark: which blocks and logs of this node's keys any view can still reach. The reasoning is in
// gc.h and docs/decisions/002-one-node-gc.md.
//
// Invariants: every error ends the mark (fail closed), with one exception that is spelled out at
// mark_own_trees(); what is marked only grows; nothing is changed anywhere.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"
#include "meta/meta_store.h"
#include "meta/records.pb.h"
#include "snapshot/index.h"
#include "storaged/block_store.h"
#include "storaged/gc_log.h"

namespace vmstore::storaged {

/// Everything of the catalogue that a mark begins from, at one revision.
struct GcCatalogue {
  std::uint64_t revision = 0;
  std::vector<meta::pb::DiskRecord> disks;          // live and in the trash
  std::vector<meta::pb::SnapshotRecord> snapshots;  // the same
};
/// `revision` 0: now. `compacted` when that revision is gone.
[[nodiscard]] Task<Result<GcCatalogue>> read_gc_catalogue(meta::MetaStore& store,
                                                          std::uint64_t revision);

/// What the mark found out about one key.
struct KeyMarks {
  std::vector<bool> live;  // by block
  std::uint64_t live_count = 0;
  bool log_needed = false;  // some view's replay reads it
  bool named = false;       // a disk's record names it
};

/// One mark. THREADS: the scheduler's.
class GcMark {
 public:
  /// `keys`: what the node had before the catalogue was read; marks in other keys are dropped.
  GcMark(Scheduler& scheduler,
         WorkerPool& pool,
         BlockStore& store,
         meta::MetaStore& meta,
         const std::vector<KeyState>& keys,
         const bool& stop);

  [[nodiscard]] Task<Result<void>> run(const GcCatalogue& catalogue);

  /// After run() failed: whose view could not be followed, and where.
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

  /// REQUIRES: one of `keys`.
  [[nodiscard]] const KeyMarks& of(KeyId key) const { return marks_.at(key); }
  [[nodiscard]] std::uint64_t blocks_live() const noexcept { return blocks_live_; }
  [[nodiscard]] std::uint64_t pages_visited() const noexcept { return pages_visited_; }
  [[nodiscard]] std::uint64_t roots_skipped() const noexcept { return skipped_.size(); }

 private:
  class Pages;
  /// The part of a disk's log that its own replay could need, as far as it was read.
  struct Tail {
    std::vector<LogSpan> spans;
    std::vector<Address> roots;  // tops of the root records found, oldest first
  };
  /// A root that was not visited completely: which disk's log had it, read from where.
  struct Skipped {
    DiskId disk;
    Address top;
    LogPosition log_from;
  };

  [[nodiscard]] Task<Result<void>> mark_snapshot(const meta::pb::SnapshotRecord& record);
  [[nodiscard]] Task<Result<void>> mark_disk(const meta::pb::DiskRecord& record);
  [[nodiscard]] Task<Result<void>> mark_parts(const meta::pb::View& view);
  [[nodiscard]] Task<Result<void>> mark_own_trees(const meta::pb::DiskRecord& record, Tail& tail);
  [[nodiscard]] Task<Result<void>> mark_top(Address top);
  [[nodiscard]] Task<Result<bool>> read_tail(const meta::pb::DiskRecord& record, Tail& tail);
  [[nodiscard]] Task<Result<meta::pb::DiskRecord>> newest_record(
      const meta::pb::DiskRecord& record);
  [[nodiscard]] Task<Result<void>> check_skipped();
  [[nodiscard]] Result<void> mark_record(const wire::RecordHeader& header);
  [[nodiscard]] Result<void> mark_run(Address first, std::uint64_t blocks);
  void mark_block(Address block);
  void note_problem(const std::string& whose, const Error& error);
  void mark_in(KeyMarks& key, std::uint64_t block);
  void need_log(KeyId key);
  void note_named(const meta::pb::DiskRecord& record);

  [[nodiscard]] KeyMarks* find_marks(KeyId key);

  Scheduler& scheduler_;
  WorkerPool& pool_;
  BlockStore& store_;
  meta::MetaStore& meta_;
  const bool& stop_;
  GcLog log_;
  std::unordered_map<KeyId, KeyMarks> marks_;
  KeyId last_found_;  // neighbours lie in one key: most look-ups are the one before
  KeyMarks* last_marks_ = nullptr;
  std::unordered_set<Address> seen_;  // pages visited with everything below them
  std::vector<Skipped> skipped_;
  std::uint64_t blocks_live_ = 0;
  std::uint64_t pages_visited_ = 0;
  bool bad_address_ = false;
  std::string at_;  // what is being read, or was when that failed
  std::string problem_;
};

}  // namespace vmstore::storaged
