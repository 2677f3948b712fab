// SPDX-License-Identifier: Apache-2.0
// RunMap: an ordered map of disjoint runs of logical blocks, the overlay of records not yet in
// index pages. A later run replaces what it covers; discarding 10 TiB is one run.
//
// Invariants: runs never overlap, never touch when they could be one run; memory follows the number
// of runs, never the number of blocks they cover.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/ids.h"

namespace vmstore::snapshot {

/// Where the blocks of a run are. A `slot` is a batch slot of the owner's batch file: written, not
/// committed yet; consecutive blocks of one run have consecutive slots.
enum class Where : std::uint8_t { slot, address, zero };

struct Extent {
  Lbn lbn;
  std::uint64_t blocks = 0;
  Where where = Where::zero;
  std::uint64_t place = 0;  // slot number, raw address, or 0
  friend bool operator==(const Extent&, const Extent&) = default;
  /// The part [from, from+count) of this extent; place advanced by its unit.
  /// REQUIRES: it lies inside.
  [[nodiscard]] Extent part(Lbn from, std::uint64_t count) const noexcept;
  /// True when this extent and the one `before` it are one run: logical blocks and places go on.
  [[nodiscard]] bool continues(const Extent& before) const noexcept;
};

/// THREADS: externally synchronised. Cost of each call: O(log runs) + runs touched. A visitor must
/// not touch the map.
class RunMap {
 public:
  using Visitor = std::function<void(const Extent&)>;

  RunMap();
  RunMap(RunMap&& other) noexcept;  // leaves `other` empty
  RunMap& operator=(RunMap&& other) noexcept;
  RunMap(const RunMap&) = delete;
  RunMap& operator=(const RunMap&) = delete;
  ~RunMap();

  /// Puts `extent` over what is there; `replaced` (if given) sees every part that it covers.
  void put(const Extent& extent, const Visitor& replaced = {});
  /// The run containing `lbn`, cut to begin there; empty when there is none.
  [[nodiscard]] std::optional<Extent> find(Lbn lbn) const;
  /// First run that begins at or after `lbn`.
  [[nodiscard]] std::optional<Extent> next(Lbn lbn) const;
  /// Every run part inside [lbn, lbn+blocks), in order.
  void visit(Lbn lbn, std::uint64_t blocks, const Visitor& visitor) const;
  void visit_all(const Visitor& visitor) const;
  /// Removes every run part inside [lbn, lbn+blocks).
  void erase(Lbn lbn, std::uint64_t blocks, const Visitor& removed = {});
  [[nodiscard]] std::size_t run_count() const noexcept { return run_count_; }
  [[nodiscard]] bool empty() const noexcept { return run_count_ == 0; }
  void clear() noexcept;

 private:
  struct Leaf;
  /// A run: its leaf and its place in there. Behind the last run: {number of leaves, 0}.
  struct Position {
    std::size_t leaf = 0;
    std::size_t run = 0;
  };

  [[nodiscard]] Extent at(Position position) const noexcept;
  void set(Position position, const Extent& run) noexcept;
  [[nodiscard]] bool is_end(Position position) const noexcept;
  [[nodiscard]] Position after(Position position) const noexcept;
  [[nodiscard]] Position before(Position position) const noexcept;
  [[nodiscard]] Position floor(Lbn lbn) const noexcept;
  [[nodiscard]] Position seek(Lbn lbn) const noexcept;
  [[nodiscard]] bool overwrite(const Extent& extent, const Visitor& replaced);
  [[nodiscard]] Position cut(Lbn lbn, std::uint64_t blocks, const Visitor& removed);
  void insert(Position position, const Extent& run);
  [[nodiscard]] Position split(Position position);
  [[nodiscard]] Position remove(Position first, Position last);
  [[nodiscard]] Position join(Position position);

  std::vector<std::uint64_t> firsts_;  // first block of each leaf
  std::vector<std::unique_ptr<Leaf>> leaves_;
  std::size_t run_count_ = 0;
};

}  // namespace vmstore::snapshot
