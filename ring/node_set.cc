// SPDX-License-Identifier: Apache-2.0
#include "ring/node_set.h"

#include <algorithm>
#include <map>
#include <utility>

namespace vmstore::ring {

Result<NodeSet> NodeSet::make(std::vector<Node> nodes) {
  if (nodes.size() > kNodesMax) return Errc::invalid_argument;
  std::sort(nodes.begin(), nodes.end(), [](const Node& a, const Node& b) { return a.id < b.id; });
  const auto twice = std::adjacent_find(
      nodes.begin(), nodes.end(), [](const Node& a, const Node& b) { return a.id == b.id; });
  if (twice != nodes.end()) return Errc::invalid_argument;
  NodeSet set;
  std::uint64_t weights = 0;
  std::map<std::string, std::uint32_t> zone_numbers;
  std::uint32_t next_zone = 0;
  for (const Node& node : nodes) {
    weights += node.weight;
    if (node.id.is_none() || node.zone.size() > kZoneBytesMax) return Errc::invalid_argument;
    std::uint32_t zone = next_zone;
    if (!node.zone.empty()) zone = zone_numbers.try_emplace(node.zone, next_zone).first->second;
    if (zone == next_zone) ++next_zone;
    set.zones_.push_back(zone);
  }
  if (weights > kWeightSumMax) return Errc::invalid_argument;
  set.nodes_ = std::move(nodes);
  set.zone_count_ = next_zone;
  return set;
}

std::optional<std::size_t> NodeSet::find(NodeId id) const noexcept {
  const auto found =
      std::lower_bound(nodes_.begin(), nodes_.end(), id, [](const Node& node, NodeId wanted) {
        return node.id < wanted;
      });
  if (found == nodes_.end() || found->id != id) return std::nullopt;
  return static_cast<std::size_t>(found - nodes_.begin());
}

}  // namespace vmstore::ring
