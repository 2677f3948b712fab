// SPDX-License-Identifier: Apache-2.0
// What a ring of nodes does when one joins, leaves or is down: counted over keys, and for one copy
// exactly, from the shares of the circle. Pure: the same seed gives the same figures everywhere.
#pragma once

#include <cstdint>
#include <vector>

#include "ring/ring.h"

namespace vmstore::bench {

struct RingCase {
  std::size_t nodes = 0;
  unsigned copies = 1;
  std::size_t zones = 0;          // racks of equal size; 0: each node is a zone
  std::uint32_t weight_most = 1;  // weights 1, 2, .. weight_most, 1, ..
  std::uint64_t keys = 0;
  std::uint64_t seed = 1;
};

struct RingFigures {
  double max_over_mean = 0;       // most copies of a node over what its weight is due
  double moved_on_join = 0;       // copies that moved, over the newcomer's due
  double moved_on_leave = 0;      // copies that moved, over what the node that left was due
  double moved_needlessly = 0;    // of both: share of all copies that moved between two other nodes
  double down_max_over_mean = 0;  // as max_over_mean, while one node in a hundred is skipped
};

/// Nodes with random ids; the last one is the newcomer of moved_on_join.
[[nodiscard]] std::vector<ring::Node> nodes_of(const RingCase& what);

/// REQUIRES: 2 <= nodes < ring::kNodesMax; keys > 0.
[[nodiscard]] RingFigures simulate(const RingCase& what);

/// The largest share of the circle that any of the nodes has, over its due: no node that joins, and
/// none that leaves, moves more of the keys of one copy. Without the noise of counting.
[[nodiscard]] double largest_share(const std::vector<ring::Node>& nodes);

}  // namespace vmstore::bench
