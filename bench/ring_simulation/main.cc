// SPDX-License-Identifier: Apache-2.0
// How even a ring of nodes is, and what moves when one joins, leaves or is down.
// Usage: ring_simulation [NODES_MOST, default 10000]
// Prints the tables of bench/README.md; deterministic. The exit code is 1 if a bar is missed.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/ring_simulation/simulation.h"

namespace vmstore::bench {
namespace {

constexpr double kBar = 1.15;  // keys moved by a join, over 1/(N+1)
constexpr std::size_t kNodesMost = 10'000;
constexpr std::uint64_t kKeysPerNode = 300;
constexpr std::uint64_t kKeysLeast = 300'000;

constexpr std::size_t kCounts[] = {10, 30, 100, 300, 1'000, 3'000, kNodesMost};

/// Circles of random ids, without the noise of counting keys.
bool print_exact(std::size_t nodes_most) {
  constexpr std::uint64_t kRings = 5;
  bool met = true;
  std::printf("| nodes | largest share x N, worst of %d rings | bar |\n|---|---|---|\n",
              static_cast<int>(kRings));
  for (const std::size_t count : kCounts) {
    if (count > nodes_most) continue;
    double worst = 0;
    for (std::uint64_t seed = 1; seed <= kRings; ++seed) {
      RingCase one;
      one.nodes = count;
      one.seed = 100 * count + seed;
      worst = std::max(worst, largest_share(nodes_of(one)));
    }
    met = met && worst <= kBar;
    std::printf(
        "| %zu | %.3f | <= %.2f: %s |\n", count, worst, kBar, worst <= kBar ? "met" : "**missed**");
  }
  return met;
}

void print_row(const RingCase& one, const std::string& weights) {
  const RingFigures figures = simulate(one);
  const double per_node =
      static_cast<double>(one.keys * one.copies) / static_cast<double>(one.nodes);
  std::printf("| %zu | %u | %s | %s | %.2f | %.2f | %.2f | %.4f %% | %.2f | %.1f %% |\n",
              one.nodes,
              one.copies,
              weights.c_str(),
              one.zones == 0 ? "-" : std::to_string(one.zones).c_str(),
              figures.max_over_mean,
              figures.moved_on_join,
              figures.moved_on_leave,
              100 * figures.moved_needlessly,
              figures.down_max_over_mean,
              100 / std::sqrt(per_node));
  std::fflush(stdout);
}

void print_counted(std::size_t nodes_most) {
  std::printf(
      "| nodes | copies | weights | zones | load, max/due | moved by a join x (N+1) | moved by a "
      "leave x N | moved needlessly | load with 1 in 100 down | noise of a node's count |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n");
  for (const std::size_t count : kCounts) {
    if (count > nodes_most) continue;
    RingCase one;
    one.nodes = count;
    one.seed = count;
    one.keys = std::max(kKeysLeast, kKeysPerNode * count);
    print_row(one, "1");
    one.copies = 3;
    print_row(one, "1");
    one.zones = std::max<std::size_t>(5, count / 10);
    print_row(one, "1");
    one.weight_most = 3;
    if (2 * count + 4 <= ring::kWeightSumMax) print_row(one, "1-3");
  }
}

}  // namespace
}  // namespace vmstore::bench

int main(int argc, char** argv) {
  const std::size_t most =
      argc > 1 ? std::strtoul(argv[1], nullptr, 10) : vmstore::bench::kNodesMost;
  const bool met = vmstore::bench::print_exact(most);
  std::printf("\n");
  vmstore::bench::print_counted(most);
  return met ? 0 : 1;
}
