// SPDX-License-Identifier: Apache-2.0
// The bars of the ring at small sizes, with zones and weights; bench/ring_simulation prints the
// same up to 10,000 nodes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "bench/ring_simulation/simulation.h"

namespace vmstore::bench {
namespace {

constexpr double kBar = 1.15;
constexpr std::uint64_t kKeys = 10'000;

/// Three standard deviations of what is counted for one node.
double noise(const RingCase& one) {
  const auto copies = static_cast<double>(one.keys * one.copies);
  return 3 / std::sqrt(copies / static_cast<double>(one.nodes));
}

std::vector<RingCase> small_cases() {
  std::vector<RingCase> cases;
  for (const std::size_t nodes : {10U, 30U}) {
    for (const unsigned copies : {1U, 3U}) {
      for (const std::size_t zones : {0U, 5U}) {
        for (const std::uint32_t weight_most : {1U, 3U}) {
          RingCase one;
          one.nodes = nodes;
          one.copies = copies;
          one.zones = zones;
          one.weight_most = weight_most;
          one.keys = kKeys;
          one.seed = nodes + copies;
          cases.push_back(one);
        }
      }
    }
  }
  return cases;
}

std::string name_of(const RingCase& one) {
  return std::to_string(one.nodes) + " nodes, " + std::to_string(one.copies) + " copies, " +
         std::to_string(one.zones) + " zones, weights to " + std::to_string(one.weight_most);
}

TEST(RingSimulation, AJoinOrALeaveMovesItsShareAndNothingElse) {
  for (const RingCase& one : small_cases()) {
    const RingFigures figures = simulate(one);
    EXPECT_EQ(figures.moved_needlessly, 0) << name_of(one);
    // Zones of three nodes, one of them three times as heavy, cannot all have what they are due.
    const bool is_lopsided = one.zones > 0 && one.weight_most > 1 && one.copies > 1;
    if (is_lopsided) continue;
    EXPECT_LT(figures.moved_on_join, kBar + noise(one)) << name_of(one);
    EXPECT_LT(figures.moved_on_leave, kBar + noise(one)) << name_of(one);
    EXPECT_GT(figures.moved_on_join, 2 - kBar - noise(one)) << name_of(one);
    EXPECT_GT(figures.moved_on_leave, 2 - kBar - noise(one)) << name_of(one);
  }
}

TEST(RingSimulation, WhatADownNodeHadIsSpreadOverAllOthers) {
  RingCase one;
  one.nodes = 30;
  one.copies = 3;
  one.keys = kKeys;
  one.seed = 5;
  EXPECT_LT(simulate(one).down_max_over_mean, kBar + noise(one));
}

TEST(RingSimulation, ASkippedNodeAndOneThatLeftPlaceAlike) {
  RingCase one;
  one.nodes = 12;
  one.zones = 4;
  one.weight_most = 2;
  auto nodes = nodes_of(one);
  const ring::Ring with(ring::NodeSet::make(nodes).value());
  const std::vector<NodeId> gone = {nodes[2].id, nodes[7].id};
  std::erase_if(nodes, [&](const ring::Node& node) {
    return std::find(gone.begin(), gone.end(), node.id) != gone.end();
  });
  const ring::Ring without(ring::NodeSet::make(nodes).value());
  for (std::uint64_t key = 0; key < 2'000; ++key) {
    ring::PlaceRequest request;
    request.key = *KeyId::make(KeyId::kFirst + key);
    request.copies = 3;
    const auto left = without.place(request);
    request.skip = gone;
    EXPECT_EQ(with.place(request), left);
  }
}

TEST(RingSimulation, LargestShareOfTheCircleIsWithinTheBar) {
  for (const std::size_t count : {10U, 100U}) {
    RingCase one;
    one.nodes = count;
    one.seed = 7 * count;
    EXPECT_LT(largest_share(nodes_of(one)), kBar) << count;
    one.weight_most = 3;
    EXPECT_LT(largest_share(nodes_of(one)), kBar) << count;
  }
}

}  // namespace
}  // namespace vmstore::bench
