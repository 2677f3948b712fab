// SPDX-License-Identifier: Apache-2.0
// Ring: consistent hashing of keys onto nodes. docs/format/ring.md fixes the hashes, because every
// process of every version must give the same answer.
//
// Each node has kPointsPerWeight points per unit of weight on a circle of 64-bit numbers. A key's
// replicas are the first nodes met from the key's own number upwards, each in another zone.
//
// Invariants: place() depends on the node set, the key, the copies and the skipped nodes only; a
// node that joins takes keys and gives none to others; a skipped node's keys go to the next ones,
// all other keys stay.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "ring/node_set.h"

namespace vmstore::ring {

/// Enough that a node's share is within 3 % of its due in two cases of three, within 15 % always
/// (five times that); 16 bytes each.
inline constexpr std::uint32_t kPointsPerWeight = 1024;

enum class Zones {
  distinct,  // fewer nodes rather than two in one zone
  fill_up,   // distinct as far as they go, then further nodes of used zones
};

struct PlaceRequest {
  KeyId key;
  unsigned copies = 1;
  std::span<const NodeId> skip;  // nodes that are down, full or draining
  Zones zones = Zones::distinct;
};

/// Immutable. THREADS: any.
class Ring {
 public:
  Ring() = default;
  explicit Ring(NodeSet nodes);

  [[nodiscard]] const NodeSet& nodes() const noexcept { return nodes_; }
  /// The replicas' nodes, the preferred one first: `copies` of them, fewer if there are not enough.
  [[nodiscard]] std::vector<NodeId> place(const PlaceRequest& request) const;

 private:
  struct Point {
    std::uint64_t at = 0;
    std::uint32_t node = 0;  // place in nodes_
  };
  class Walk;
  NodeSet nodes_;
  std::vector<Point> points_;              // sorted by (at, node)
  std::vector<std::uint32_t> zone_nodes_;  // of each zone, how many nodes store something
  std::uint32_t storing_nodes_ = 0;
  std::uint32_t storing_zones_ = 0;
};

/// Where a key begins on the circle.
[[nodiscard]] std::uint64_t key_point(KeyId key) noexcept;
/// Where point `number` of a node lies.
[[nodiscard]] std::uint64_t node_point(NodeId node, std::uint32_t number) noexcept;

}  // namespace vmstore::ring
