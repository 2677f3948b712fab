// SPDX-License-Identifier: Apache-2.0
// Garbage: the blocks that an owner has overwritten and may free itself, until the node has freed
// them. DESIGN 9, private freeing.
//
// A hole costs the file system the same however long it is (80 us on ext4, 1 or 8 blocks alike),
// and holes grow together while they wait: so behind a busy writer the long ones go first, and
// single blocks only when it is quiet or the backlog comes near its limit.
//
// Invariants: blocks() counts every block once, from add() until freed() or clear().
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "snapshot/run_map.h"

namespace vmstore::disk {

/// THREADS: one.
class Garbage {
 public:
  struct Run {
    BlockIndex first;
    std::uint64_t blocks = 0;
  };
  /// Runs of one key, to be freed by one call. Those that were taken and not settled count on.
  struct Part {
    KeyId key;
    std::vector<Run> runs;
    std::uint64_t blocks = 0;
  };

  void add(KeyId key, Run run, TimePoint now);
  /// Takes out at most `runs_max` holes of at least `hole_blocks` blocks, all of one key. No runs:
  /// there are so few that a call does not pay (never with `hole_blocks` 1, unless there are none).
  [[nodiscard]] Part take(std::uint64_t hole_blocks, std::size_t runs_max);
  /// What take() gave is freed, or given up.
  void freed(const Part& part) noexcept { in_flight_ -= part.blocks; }
  /// What take() gave could not be freed now.
  void put_back(const Part& part);
  void clear() noexcept;

  /// Not freed yet.
  [[nodiscard]] std::uint64_t blocks() const noexcept { return waiting_ + in_flight_; }
  /// Not taken yet.
  [[nodiscard]] bool empty() const noexcept { return waiting_ == 0; }
  /// The shortest hole that is worth a call now, when `blocks_max` is the limit of the backlog.
  [[nodiscard]] std::uint64_t hole_blocks_worth(std::uint64_t blocks_max,
                                                TimePoint now) const noexcept;

 private:
  void put(KeyId key, Run run);
  /// The key's holes of that size, at most `runs_max`, from its beginning.
  [[nodiscard]] static Part find(KeyId key,
                                 const snapshot::RunMap& runs,
                                 std::uint64_t hole_blocks,
                                 std::size_t runs_max);

  std::map<KeyId, snapshot::RunMap> keys_;  // block index as Lbn, all Where::zero
  std::uint64_t waiting_ = 0;
  std::uint64_t in_flight_ = 0;
  // How fast it grows.
  TimePoint window_begin_;
  std::uint64_t window_blocks_ = 0;
  bool was_busy_ = false;  // in the window before
};

}  // namespace vmstore::disk
