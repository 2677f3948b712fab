// SPDX-License-Identifier: Apache-2.0
// Mapping: what every logical block of a disk is right now: a layered view of runs over index
// pages.
//
// Layers, newest first: the overlay (uncommitted slots and committed addresses), frozen overlays
// (being written out as pages), then the tree below `top`. DESIGN 11.
//
// THREADS: every method takes the mapping's own lock unless it says "REQUIRES: locked". This lock
// is one of the few of disk/ (docs/threads.md); nothing is awaited and no file is read under it.
// Invariants: a slot in any layer belongs to a batch that is not committed yet; when its batch
// commits, every layer that still names the slot is switched to the address under the lock, before
// the slot can be used again; so copying from a slot under the lock never sees foreign bytes.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/ids.h"
#include "snapshot/run_map.h"

namespace vmstore::disk {

/// A frozen overlay: everything up to `last_sequence` is in it or below it. The mapping's lock
/// guards `runs` until all of it is committed; then nothing changes it. The rest belongs to whoever
/// froze it (the scheduler's thread).
struct FrozenLayer {
  snapshot::RunMap runs;
  Sequence last_sequence;
  std::uint64_t disk_bytes = 0;  // the disk's size then
  LogPosition end;               // behind the record `last_sequence`
  BlockIndex data_end;
  std::int64_t charged_pages = 0;         // credit taken for the pages it dirties
  std::shared_ptr<std::string> snapshot;  // name of the snapshot that is exactly this layer
  SnapshotId snapshot_id;
};

class Mapping {
 public:
  using Lock = std::unique_lock<std::shared_mutex>;
  using SharedLock = std::shared_lock<std::shared_mutex>;

  [[nodiscard]] std::shared_mutex& mutex() const noexcept { return mutex_; }

  // REQUIRES for all below: locked (shared suffices for const ones).
  [[nodiscard]] Address top() const noexcept { return top_; }
  void set_top(Address top) noexcept { top_ = top; }
  [[nodiscard]] snapshot::RunMap& overlay() noexcept { return overlay_; }
  [[nodiscard]] const snapshot::RunMap& overlay() const noexcept { return overlay_; }
  [[nodiscard]] std::size_t frozen_count() const noexcept { return frozen_.size(); }

  /// A stretch of blocks with one answer. `in_pages`: no layer knows it, ask the tree below top().
  struct Piece {
    snapshot::Extent extent;
    bool in_pages = false;
  };
  /// Covers [lbn, lbn+blocks) with pieces, in order, adjacent `in_pages` pieces merged.
  [[nodiscard]] std::vector<Piece> pieces(Lbn lbn, std::uint64_t blocks) const;

  /// Makes the overlay a frozen layer and starts an empty one.
  std::shared_ptr<FrozenLayer> freeze(Sequence last_sequence);
  /// The oldest frozen layer, or null.
  [[nodiscard]] std::shared_ptr<FrozenLayer> oldest_frozen() const;
  /// The oldest frozen layer is in the pages below `top` now.
  void retire_oldest(Address top);
  /// Switches whatever still names slots [first_slot, +blocks) at [lbn, +blocks) to `address`.
  /// Returns the blocks that no layer names any more (they were superseded): already garbage.
  std::vector<snapshot::Extent> commit_slots(Lbn lbn,
                                             std::uint64_t blocks,
                                             std::uint64_t first_slot,
                                             Address address);
  void reset(Address top);

 private:
  mutable std::shared_mutex mutex_;
  snapshot::RunMap overlay_;
  std::list<std::shared_ptr<FrozenLayer>> frozen_;  // newest first
  Address top_;
};

}  // namespace vmstore::disk
