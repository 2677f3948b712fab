// SPDX-License-Identifier: Apache-2.0
// NodeSet: the nodes a ring is made of, with their weights and zones.
//
// Invariants: sorted by id, no id twice, within the maxima below; equal sets are equal whatever the
// order they were given in.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace vmstore::ring {

inline constexpr std::size_t kNodesMax = 16'384;
inline constexpr std::uint64_t kWeightSumMax = 16'384;  // times 16 KiB of memory in a ring
inline constexpr std::size_t kZoneBytesMax = 63;

struct Node {
  NodeId id;
  std::uint32_t weight = 1;  // share of the keys; 0 = stores none
  std::string zone;          // what fails together; empty = the node alone
  friend bool operator==(const Node&, const Node&) = default;
};

/// Immutable. THREADS: any.
class NodeSet {
 public:
  NodeSet() = default;
  /// `invalid_argument` for an id that is none or there twice, or beyond a maximum.
  [[nodiscard]] static Result<NodeSet> make(std::vector<Node> nodes);

  [[nodiscard]] std::span<const Node> nodes() const noexcept { return nodes_; }
  /// Place in nodes().
  [[nodiscard]] std::optional<std::size_t> find(NodeId id) const noexcept;
  /// Of each node, a number below zone_count(); equal for nodes of one zone.
  [[nodiscard]] std::span<const std::uint32_t> zones() const noexcept { return zones_; }
  [[nodiscard]] std::size_t zone_count() const noexcept { return zone_count_; }
  friend bool operator==(const NodeSet& a, const NodeSet& b) { return a.nodes_ == b.nodes_; }

 private:
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> zones_;
  std::size_t zone_count_ = 0;
};

}  // namespace vmstore::ring
