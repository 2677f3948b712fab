// SPDX-License-Identifier: Apache-2.0
#include "ring/ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "base/random.h"
#include "tests/support/code_of.h"

namespace vmstore::ring {
namespace {

constexpr std::uint64_t kKeys = 20'000;

KeyId key_of(std::uint64_t number) {
  return *KeyId::make(KeyId::kFirst + number);
}

std::vector<Node> nodes_of(std::size_t count, std::uint64_t seed = 1, std::size_t zones = 0) {
  Random random(seed);
  std::vector<Node> nodes;
  for (std::size_t i = 0; i < count; ++i) {
    Node node;
    node.id = random.id128<NodeId>();
    if (zones > 0) node.zone = "rack" + std::to_string(i % zones);
    nodes.push_back(node);
  }
  return nodes;
}

Ring ring_of(std::vector<Node> nodes) {
  return Ring(NodeSet::make(std::move(nodes)).value());
}

std::vector<NodeId> place(const Ring& ring, std::uint64_t key, unsigned copies) {
  PlaceRequest request;
  request.key = key_of(key);
  request.copies = copies;
  return ring.place(request);
}

TEST(NodeSet, ImpossibleSetsAreRefused) {
  const auto two = nodes_of(2);
  EXPECT_EQ(code_of(NodeSet::make({two[0], two[1], two[0]})), Errc::invalid_argument);
  EXPECT_EQ(code_of(NodeSet::make({Node()})), Errc::invalid_argument);
  Node heavy = two[0];
  heavy.weight = kWeightSumMax;
  EXPECT_EQ(code_of(NodeSet::make({heavy, two[1]})), Errc::invalid_argument);
  Node zone = two[0];
  zone.zone = std::string(kZoneBytesMax + 1, 'z');
  EXPECT_EQ(code_of(NodeSet::make({zone})), Errc::invalid_argument);
  EXPECT_EQ(code_of(NodeSet::make(nodes_of(kNodesMax + 1))), Errc::invalid_argument);
  EXPECT_EQ(code_of(NodeSet::make({})), Errc::ok);
}

TEST(NodeSet, OrderDoesNotMatter) {
  auto nodes = nodes_of(20, 3, 4);
  const auto one = NodeSet::make(nodes).value();
  std::reverse(nodes.begin(), nodes.end());
  EXPECT_EQ(NodeSet::make(nodes).value(), one);
  EXPECT_EQ(one.zone_count(), 4U);
  for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(one.find(one.nodes()[i].id), i);
  EXPECT_FALSE(one.find(NodeId{1, 1}).has_value());
}

TEST(Ring, WithoutNodesPlacesNothing) {
  EXPECT_TRUE(place(Ring(), 1, 3).empty());
  Node stores_nothing = nodes_of(1)[0];
  stores_nothing.weight = 0;
  EXPECT_TRUE(place(ring_of({stores_nothing}), 1, 3).empty());
}

TEST(Ring, OneNodeHasEverything) {
  const auto nodes = nodes_of(1);
  const Ring ring = ring_of(nodes);
  for (std::uint64_t key = 0; key < 100; ++key) {
    EXPECT_EQ(place(ring, key, 1), std::vector<NodeId>{nodes[0].id});
    EXPECT_EQ(place(ring, key, 3).size(), 1U);
  }
}

TEST(Ring, ReplicasAreOnDifferentNodes) {
  const Ring ring = ring_of(nodes_of(7));
  for (std::uint64_t key = 0; key < 1000; ++key) {
    const auto nodes = place(ring, key, 5);
    EXPECT_EQ(std::set<NodeId>(nodes.begin(), nodes.end()).size(), 5U);
    const auto fewer = place(ring, key, 3);
    EXPECT_TRUE(std::equal(fewer.begin(), fewer.end(), nodes.begin()));
  }
}

TEST(Ring, ReplicasAreInDistinctZonesAndFillUpOnlyWhenAsked) {
  const auto nodes = nodes_of(9, 5, 3);
  std::map<NodeId, std::string> zone_of;
  for (const Node& node : nodes) zone_of[node.id] = node.zone;
  const Ring ring = ring_of(nodes);
  for (std::uint64_t key = 0; key < 500; ++key) {
    PlaceRequest request;
    request.key = key_of(key);
    request.copies = 5;
    const auto distinct = ring.place(request);
    ASSERT_EQ(distinct.size(), 3U);
    std::set<std::string> zones;
    for (const NodeId id : distinct) zones.insert(zone_of[id]);
    EXPECT_EQ(zones.size(), 3U);
    request.zones = Zones::fill_up;
    const auto filled = ring.place(request);
    ASSERT_EQ(filled.size(), 5U);
    EXPECT_TRUE(std::equal(distinct.begin(), distinct.end(), filled.begin()));
    EXPECT_EQ(std::set<NodeId>(filled.begin(), filled.end()).size(), 5U);
  }
}

TEST(Ring, SkippedNodeIsReplacedAndNothingElseMoves) {
  const auto nodes = nodes_of(10, 6);
  const Ring ring = ring_of(nodes);
  const std::vector<NodeId> down = {nodes[4].id, NodeId{9, 9}};
  for (std::uint64_t key = 0; key < 2000; ++key) {
    PlaceRequest request;
    request.key = key_of(key);
    request.copies = 3;
    auto before = ring.place(request);
    request.skip = down;
    const auto after = ring.place(request);
    ASSERT_EQ(after.size(), 3U);
    EXPECT_EQ(std::count(after.begin(), after.end(), nodes[4].id), 0);
    std::erase(before, nodes[4].id);
    for (const NodeId id : before) EXPECT_EQ(std::count(after.begin(), after.end(), id), 1);
  }
}

TEST(Ring, ZoneThatIsDownAsAWholeLeavesFewerCopies) {
  const auto nodes = nodes_of(6, 8, 3);
  const Ring ring = ring_of(nodes);
  PlaceRequest request;
  request.key = key_of(3);
  request.copies = 3;
  const std::vector<NodeId> rack0 = {nodes[0].id, nodes[3].id};
  request.skip = rack0;
  EXPECT_EQ(ring.place(request).size(), 2U);
  request.zones = Zones::fill_up;
  EXPECT_EQ(ring.place(request).size(), 3U);
}

/// Largest share over the mean share, and the share of copies that moved when a node joined, in
/// units of 1/(N+1).
struct Quality {
  double max_over_mean = 0;
  double moved = 0;
};

Quality quality(std::size_t count, unsigned copies, std::size_t zones, std::uint64_t keys) {
  auto nodes = nodes_of(count + 1, count, zones);
  const Ring after = ring_of(nodes);
  nodes.pop_back();
  const Ring before = ring_of(nodes);
  std::map<NodeId, std::uint64_t> shares;
  std::uint64_t moved = 0;
  for (std::uint64_t key = 0; key < keys; ++key) {
    const auto old_nodes = place(before, key, copies);
    for (const NodeId id : old_nodes) ++shares[id];
    for (const NodeId id : place(after, key, copies)) {
      moved += std::count(old_nodes.begin(), old_nodes.end(), id) == 0 ? 1U : 0U;
    }
  }
  std::uint64_t most = 0;
  for (const auto& [id, share] : shares) most = std::max(most, share);
  const auto all = static_cast<double>(keys * copies);
  const auto n = static_cast<double>(count);
  return {static_cast<double>(most) * n / all, static_cast<double>(moved) * (n + 1) / all};
}

// The shares on the circle are measured by counting keys; the noise of counting is allowed for:
// three standard deviations of a count, five for the largest of many.
TEST(Ring, SpreadIsEvenAndAJoinMovesItsShareOnly) {
  for (const std::size_t count : {10U, 100U, 1000U}) {
    const std::uint64_t keys = std::max<std::uint64_t>(kKeys, 50 * count);
    const auto per_node = static_cast<double>(keys) / static_cast<double>(count + 1);
    const double noise = 1 / std::sqrt(per_node);
    const Quality one = quality(count, 1, 0, keys);
    EXPECT_LT(one.max_over_mean, 1.12 + 5 * noise) << count;
    EXPECT_LT(one.moved, 1.15 + 3 * noise) << count;
    EXPECT_GT(one.moved, 0.85 - 3 * noise) << count;
    RecordProperty("max_over_mean_" + std::to_string(count), std::to_string(one.max_over_mean));
  }
}

TEST(Ring, SpreadAndJoinHoldForThreeCopiesToo) {
  for (const std::size_t count : {10U, 100U}) {
    const Quality three = quality(count, 3, 0, kKeys);
    EXPECT_LT(three.max_over_mean, 1.2) << count;
    EXPECT_LT(three.moved, 1.15) << count;
  }
}

/// The exact share of the circle of each node, without counting noise.
std::map<NodeId, double> exact_shares(const std::vector<Node>& nodes) {
  std::vector<std::pair<std::uint64_t, NodeId>> points;
  for (const Node& node : nodes) {
    for (std::uint32_t i = 0; i < node.weight * kPointsPerWeight; ++i) {
      points.emplace_back(node_point(node.id, i), node.id);
    }
  }
  std::sort(points.begin(), points.end());
  std::map<NodeId, double> shares;
  std::uint64_t before = points.back().first;
  for (const auto& [at, id] : points) {
    shares[id] += std::ldexp(static_cast<double>(at - before), -64);
    before = at;
  }
  return shares;
}

TEST(Ring, NodeThatJoinsTakesAtMostFifteenPercentMoreThanItsDue) {
  for (const std::size_t count : {1U, 2U, 3U, 5U, 10U, 30U, 100U, 300U, 1000U}) {
    const auto nodes = nodes_of(count + 1, 1000 + count);
    const auto shares = exact_shares(nodes);
    double most = 0;
    for (const auto& [id, share] : shares) {
      most = std::max(most, share * static_cast<double>(count + 1));
    }
    EXPECT_LT(most, 1.15) << count;  // whichever of them joined last
  }
}

TEST(Ring, ShareFollowsTheWeight) {
  auto nodes = nodes_of(10, 4);
  nodes[0].weight = 3;
  nodes[1].weight = 0;
  const auto shares = exact_shares(nodes);
  EXPECT_NEAR(shares.at(nodes[0].id) * 11, 3, 0.3);
  EXPECT_NEAR(shares.at(nodes[2].id) * 11, 1, 0.15);
  EXPECT_FALSE(shares.contains(nodes[1].id));
  const Ring ring = ring_of(nodes);
  for (std::uint64_t key = 0; key < 1000; ++key) EXPECT_NE(place(ring, key, 1)[0], nodes[1].id);
}

TEST(Ring, HigherWeightOnlyTakes) {
  auto nodes = nodes_of(10, 4);
  const Ring before = ring_of(nodes);
  nodes[3].weight = 2;
  const Ring after = ring_of(nodes);
  for (std::uint64_t key = 0; key < 5000; ++key) {
    const NodeId now = place(after, key, 1)[0];
    EXPECT_TRUE(now == nodes[3].id || now == place(before, key, 1)[0]);
  }
}

// Goal: every process of every version places alike. Method: placements written down once.
TEST(Ring, GoldenPlacementsHold) {
  std::vector<Node> nodes;
  for (std::uint64_t i = 1; i <= 7; ++i) {
    Node node;
    node.id = NodeId{i * 0x0101010101010101U, ~i};
    node.weight = i == 7 ? 2 : 1;
    node.zone = i <= 4 ? "rack" + std::to_string(i % 2) : "";
    nodes.push_back(node);
  }
  const Ring ring = ring_of(nodes);
  std::ifstream file(VMSTORE_GOLDEN_FOLDER "/ring-v1.txt");
  ASSERT_TRUE(file);
  int lines = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::uint64_t key = 0;
    std::string point;
    words >> key >> point;
    EXPECT_EQ(key_point(*KeyId::make(key)), std::stoull(point, nullptr, 16)) << line;
    PlaceRequest request;
    request.key = *KeyId::make(key);
    request.copies = 3;
    for (const NodeId id : ring.place(request)) {
      std::uint64_t number = 0;
      words >> number;
      EXPECT_EQ(id, nodes.at(number - 1).id) << line;
    }
    ++lines;
  }
  EXPECT_GE(lines, 20);
}

}  // namespace
}  // namespace vmstore::ring
