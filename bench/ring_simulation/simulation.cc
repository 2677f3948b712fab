// SPDX-License-Identifier: Apache-2.0
#include "bench/ring_simulation/simulation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/random.h"

namespace vmstore::bench {
namespace {

using ring::Node;
using ring::NodeSet;
using ring::Ring;

constexpr std::size_t kDownOneIn = 100;

Ring ring_of(const std::vector<Node>& nodes) {
  auto set = NodeSet::make(nodes);
  VMS_ASSERT(set.has_value());
  return Ring(std::move(*set));
}

std::vector<NodeId> place(const Ring& ring,
                          std::uint64_t key,
                          unsigned copies,
                          std::span<const NodeId> skip = {}) {
  ring::PlaceRequest request;
  request.key = *KeyId::make(KeyId::kFirst + key);
  request.copies = copies;
  request.skip = skip;
  return ring.place(request);
}

std::uint64_t weight_of(std::span<const Node> nodes) {
  return std::accumulate(
      nodes.begin(), nodes.end(), std::uint64_t{0}, [](std::uint64_t sum, const Node& node) {
        return sum + node.weight;
      });
}

/// Copies of each node, by its place in the ring's node set.
class Load {
 public:
  explicit Load(const Ring& ring) : nodes_(ring.nodes()), copies_(nodes_.nodes().size()) {}

  void add(std::span<const NodeId> ids) {
    for (const NodeId id : ids) ++copies_[*nodes_.find(id)];
    total_ += ids.size();
  }
  /// Of the nodes that are not in `without`.
  [[nodiscard]] double max_over_due(std::span<const NodeId> without = {}) const {
    std::uint64_t weight = weight_of(nodes_.nodes());
    for (const NodeId id : without) weight -= nodes_.nodes()[*nodes_.find(id)].weight;
    double most = 0;
    for (std::size_t i = 0; i < copies_.size(); ++i) {
      const double due = static_cast<double>(total_) *
                         static_cast<double>(nodes_.nodes()[i].weight) /
                         static_cast<double>(weight);
      most = std::max(most, static_cast<double>(copies_[i]) / due);
    }
    return most;
  }

 private:
  const NodeSet& nodes_;
  std::vector<std::uint64_t> copies_;
  std::uint64_t total_ = 0;
};

/// Copies in `after` on nodes that had none before.
struct Moves {
  std::uint64_t all = 0;
  std::uint64_t needless = 0;  // neither to `joined` nor because of `left`
};

void count_moves(std::span<const NodeId> before,
                 std::span<const NodeId> after,
                 std::optional<NodeId> joined,
                 std::optional<NodeId> left,
                 Moves& moves) {
  const auto has = [](std::span<const NodeId> ids, NodeId id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  const bool lost_one = left && has(before, *left);
  std::uint64_t moved = 0;
  for (const NodeId id : after) {
    if (has(before, id)) continue;
    ++moved;
    if (joined && id != *joined) ++moves.needless;
  }
  moves.all += moved;
  if (left) moves.needless += moved - std::min<std::uint64_t>(moved, lost_one ? 1 : 0);
}

}  // namespace

std::vector<Node> nodes_of(const RingCase& what) {
  Random random(what.seed);
  std::vector<Node> nodes;
  for (std::size_t i = 0; i < what.nodes; ++i) {
    Node node;
    node.id = random.id128<NodeId>();
    node.weight = 1 + static_cast<std::uint32_t>(i % what.weight_most);
    if (what.zones > 0) node.zone = "rack" + std::to_string(i % what.zones);
    nodes.push_back(std::move(node));
  }
  return nodes;
}

RingFigures simulate(const RingCase& what) {
  RingCase more = what;
  more.nodes = what.nodes + 1;
  std::vector<Node> nodes = nodes_of(more);
  const Node newcomer = nodes.back();
  const Ring after = ring_of(nodes);
  nodes.pop_back();
  const Ring ring = ring_of(nodes);
  const Node leaver = nodes.front();
  const std::vector<NodeId> left{leaver.id};  // nobody's zone is empty without it
  std::vector<NodeId> down;
  for (std::size_t i = 0; i < nodes.size(); i += kDownOneIn) down.push_back(nodes[i].id);

  Load load(ring);
  Load load_down(ring);
  Moves joined;
  Moves gone;
  std::uint64_t copies = 0;
  for (std::uint64_t key = 0; key < what.keys; ++key) {
    const auto before = place(ring, key, what.copies);
    copies += before.size();
    load.add(before);
    load_down.add(place(ring, key, what.copies, down));
    count_moves(before, place(after, key, what.copies), newcomer.id, std::nullopt, joined);
    count_moves(before, place(ring, key, what.copies, left), std::nullopt, leaver.id, gone);
  }
  const auto all = static_cast<double>(copies);
  const auto weight = static_cast<double>(weight_of(nodes));
  const double due_of_newcomer = newcomer.weight / (weight + newcomer.weight);
  RingFigures figures;
  figures.max_over_mean = load.max_over_due();
  figures.moved_on_join = static_cast<double>(joined.all) / all / due_of_newcomer;
  figures.moved_on_leave = static_cast<double>(gone.all) / all / (leaver.weight / weight);
  figures.moved_needlessly = static_cast<double>(joined.needless + gone.needless) / all;
  figures.down_max_over_mean = load_down.max_over_due(down);
  return figures;
}

double largest_share(const std::vector<Node>& nodes) {
  std::vector<std::pair<std::uint64_t, std::uint32_t>> points;
  for (std::uint32_t node = 0; node < nodes.size(); ++node) {
    for (std::uint32_t i = 0; i < nodes[node].weight * ring::kPointsPerWeight; ++i) {
      points.emplace_back(ring::node_point(nodes[node].id, i), node);
    }
  }
  std::sort(points.begin(), points.end());
  std::vector<double> shares(nodes.size());
  std::uint64_t before = points.back().first;
  for (const auto& [at, node] : points) {
    shares[node] += std::ldexp(static_cast<double>(at - before), -64);
    before = at;
  }
  const auto weight = static_cast<double>(weight_of(nodes));
  double most = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    most = std::max(most, shares[i] * weight / nodes[i].weight);
  }
  return most;
}

}  // namespace vmstore::bench
