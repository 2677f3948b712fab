// SPDX-License-Identifier: Apache-2.0
// RunMap: an ordered map of disjoint runs of logical blocks, the overlay of records not yet in
// index pages. A later run replaces what it covers; discarding 10 TiB is one run.
//
// Invariants: runs never overlap, never touch when they could be one run; memory follows the number
// of runs, never the number of blocks they cover.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>

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

/// THREADS: externally synchronised. Cost of each call: O(log runs) + runs touched.
class RunMap {
 public:
  using Visitor = std::function<void(const Extent&)>;

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
  [[nodiscard]] std::size_t run_count() const noexcept { return runs_.size(); }
  [[nodiscard]] bool empty() const noexcept { return runs_.empty(); }
  void clear() noexcept { runs_.clear(); }

 private:
  struct Value {
    std::uint64_t blocks;
    Where where;
    std::uint64_t place;
  };
  using Runs = std::map<std::uint64_t, Value>;
  [[nodiscard]] static Extent at(Runs::const_iterator run) noexcept {
    return {Lbn(run->first), run->second.blocks, run->second.where, run->second.place};
  }
  Runs runs_;  // by first lbn
};

}  // namespace vmstore::snapshot
