// SPDX-License-Identifier: Apache-2.0
#include "snapshot/run_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/random.h"

namespace vmstore::snapshot {
namespace {

Address address(std::uint64_t key, std::uint64_t block) {
  return *Address::make(*KeyId::make(key), BlockIndex{block});
}

Extent at_address(std::uint64_t lbn, std::uint64_t blocks, std::uint64_t block) {
  return {Lbn(lbn), blocks, Where::address, address(16, block).raw()};
}
Extent in_slots(std::uint64_t lbn, std::uint64_t blocks, std::uint64_t slot) {
  return {Lbn(lbn), blocks, Where::slot, slot};
}
Extent zeros(std::uint64_t lbn, std::uint64_t blocks) {
  return {Lbn(lbn), blocks, Where::zero, 0};
}

std::vector<Extent> all(const RunMap& map) {
  std::vector<Extent> runs;
  map.visit_all([&](const Extent& run) { runs.push_back(run); });
  return runs;
}

TEST(RunMap, IsEmptyAtFirst) {
  const RunMap map;
  EXPECT_TRUE(map.empty());
  EXPECT_EQ(map.find(Lbn(0)), std::nullopt);
  EXPECT_EQ(map.next(Lbn(0)), std::nullopt);
}

TEST(RunMap, FindCutsTheRunToBeginAtTheBlock) {
  RunMap map;
  map.put(at_address(10, 5, 100));
  EXPECT_EQ(map.find(Lbn(9)), std::nullopt);
  EXPECT_EQ(map.find(Lbn(10)), at_address(10, 5, 100));
  EXPECT_EQ(map.find(Lbn(13)), at_address(13, 2, 103));
  EXPECT_EQ(map.find(Lbn(15)), std::nullopt);
}

TEST(RunMap, NextIsTheFirstRunThatBeginsThereOrLater) {
  RunMap map;
  map.put(zeros(10, 5));
  EXPECT_EQ(map.next(Lbn(0)), zeros(10, 5));
  EXPECT_EQ(map.next(Lbn(10)), zeros(10, 5));
  EXPECT_EQ(map.next(Lbn(11)), std::nullopt);
}

TEST(RunMap, DiscardingAWholeDiskIsOneRun) {
  RunMap map;
  const std::uint64_t disk_blocks = std::uint64_t{1} << 36;
  map.put(zeros(0, disk_blocks));
  EXPECT_EQ(map.run_count(), 1U);
  map.put(in_slots(disk_blocks - 1, 1, 7));
  EXPECT_EQ(all(map),
            (std::vector<Extent>{zeros(0, disk_blocks - 1), in_slots(disk_blocks - 1, 1, 7)}));
}

TEST(RunMap, RunsThatGoOnInPlaceAreOneRun) {
  RunMap map;
  map.put(in_slots(0, 2, 10));
  map.put(in_slots(4, 2, 14));
  EXPECT_EQ(map.run_count(), 2U);
  map.put(in_slots(2, 2, 12));
  EXPECT_EQ(all(map), (std::vector<Extent>{in_slots(0, 6, 10)}));
}

TEST(RunMap, RunsOfDifferentPlacesStayApart) {
  RunMap map;
  map.put(in_slots(0, 2, 10));
  map.put(in_slots(2, 2, 13));
  map.put(zeros(4, 1));
  map.put(at_address(5, 1, 0));
  EXPECT_EQ(map.run_count(), 4U);
}

TEST(RunMap, ARunNeverGoesOnFromOneKeyIntoTheNext) {
  const std::uint64_t last = BlockIndex::kEnd - 1;
  RunMap map;
  map.put({Lbn(0), 1, Where::address, address(16, last).raw()});
  map.put({Lbn(1), 1, Where::address, address(17, 0).raw()});
  ASSERT_EQ(address(16, last).raw() + kSectorsPerBlock, address(17, 0).raw());
  EXPECT_EQ(map.run_count(), 2U);
}

// The five shapes in which a new run can overlap an old one of ten blocks at 100.
TEST(RunMap, G5_five_overlap_shapes) {
  struct Shape {
    const char* name;
    Extent fresh;
    std::vector<Extent> left;
    Extent replaced;
  };
  const std::vector<Shape> shapes = {
      {"equal", zeros(100, 10), {zeros(100, 10)}, at_address(100, 10, 0)},
      {"head", zeros(95, 8), {zeros(95, 8), at_address(103, 7, 3)}, at_address(100, 3, 0)},
      {"tail", zeros(107, 8), {at_address(100, 7, 0), zeros(107, 8)}, at_address(107, 3, 7)},
      {"inside",
       zeros(103, 4),
       {at_address(100, 3, 0), zeros(103, 4), at_address(107, 3, 7)},
       at_address(103, 4, 3)},
      {"around", zeros(90, 30), {zeros(90, 30)}, at_address(100, 10, 0)},
  };
  for (const Shape& shape : shapes) {
    RunMap map;
    map.put(at_address(100, 10, 0));
    std::vector<Extent> replaced;
    map.put(shape.fresh, [&](const Extent& part) { replaced.push_back(part); });
    EXPECT_EQ(all(map), shape.left) << shape.name;
    EXPECT_EQ(replaced, std::vector<Extent>{shape.replaced}) << shape.name;
  }
}

TEST(RunMap, EraseLeavesTheRestOfARun) {
  RunMap map;
  map.put(at_address(0, 10, 50));
  std::vector<Extent> removed;
  map.erase(Lbn(4), 2, [&](const Extent& part) { removed.push_back(part); });
  EXPECT_EQ(all(map), (std::vector<Extent>{at_address(0, 4, 50), at_address(6, 4, 56)}));
  EXPECT_EQ(removed, std::vector<Extent>{at_address(4, 2, 54)});
}

TEST(RunMap, PuttingTheSameRunAgainReportsItAndChangesNothing) {
  RunMap map;
  map.put(at_address(0, 10, 50));
  std::vector<Extent> replaced;
  map.put(at_address(4, 2, 54), [&](const Extent& part) { replaced.push_back(part); });
  EXPECT_EQ(all(map), std::vector<Extent>{at_address(0, 10, 50)});
  EXPECT_EQ(replaced, std::vector<Extent>{at_address(4, 2, 54)});
}

TEST(RunMap, AMovedFromMapCanBeUsedAgain) {
  RunMap map;
  map.put(zeros(0, 1));
  const RunMap frozen = std::move(map);
  map = RunMap();
  EXPECT_TRUE(map.empty());
  map.put(zeros(5, 1));
  EXPECT_EQ(all(frozen), std::vector<Extent>{zeros(0, 1)});
  EXPECT_EQ(all(map), std::vector<Extent>{zeros(5, 1)});
}

// ---- against an oracle: one cell per block ----

class Oracle {
 public:
  struct Cell {
    Where where = Where::zero;
    std::uint64_t place = 0;
    bool used = false;
  };

  explicit Oracle(std::uint64_t blocks) : cells_(blocks) {}

  void put(const Extent& extent) {
    for (std::uint64_t i = 0; i < extent.blocks; ++i) {
      const Extent block = extent.part(Lbn(extent.lbn.value + i), 1);
      cells_[block.lbn.value] = {block.where, block.place, true};
    }
  }
  void erase(std::uint64_t lbn, std::uint64_t blocks) {
    for (std::uint64_t i = lbn; i < lbn + blocks; ++i) cells_[i] = {};
  }
  /// The maximal runs in [lbn, lbn+blocks).
  [[nodiscard]] std::vector<Extent> runs(std::uint64_t lbn, std::uint64_t blocks) const {
    std::vector<Extent> found;
    for (std::uint64_t i = lbn; i < lbn + blocks; ++i) {
      if (!cells_[i].used) continue;
      const Extent block{Lbn(i), 1, cells_[i].where, cells_[i].place};
      if (!found.empty() && block.continues(found.back())) {
        ++found.back().blocks;
      } else {
        found.push_back(block);
      }
    }
    return found;
  }
  [[nodiscard]] std::uint64_t size() const { return cells_.size(); }

 private:
  std::vector<Cell> cells_;
};

Extent random_extent(Random& random, std::uint64_t size, std::uint64_t blocks_max) {
  const std::uint64_t lbn = random.below(size);
  const std::uint64_t blocks = 1 + random.below(std::min(size - lbn, blocks_max));
  // Places follow the lbn half of the time, so that neighbours often become one run.
  const std::uint64_t block = random.one_in(2) ? lbn : random.below(1000);
  switch (random.below(3)) {
    case 0:
      return in_slots(lbn, blocks, block);
    case 1:
      return at_address(lbn, blocks, block);
    default:
      return zeros(lbn, blocks);
  }
}

void expect_equal(const RunMap& map, const Oracle& oracle, Random& random) {
  const auto expected = oracle.runs(0, oracle.size());
  ASSERT_EQ(all(map), expected);
  ASSERT_EQ(map.run_count(), expected.size());
  const std::uint64_t lbn = random.below(oracle.size());
  const std::uint64_t blocks = 1 + random.below(oracle.size() - lbn);
  std::vector<Extent> visited;
  map.visit(Lbn(lbn), blocks, [&](const Extent& part) { visited.push_back(part); });
  ASSERT_EQ(visited, oracle.runs(lbn, blocks));
  const auto rest = oracle.runs(lbn, oracle.size() - lbn);
  const auto found = map.find(Lbn(lbn));
  const bool is_there = !rest.empty() && rest.front().lbn.value == lbn;
  ASSERT_EQ(found, is_there ? std::optional(rest.front()) : std::nullopt);
  const auto begins = std::find_if(
      expected.begin(), expected.end(), [&](const Extent& run) { return run.lbn.value >= lbn; });
  ASSERT_EQ(map.next(Lbn(lbn)), begins == expected.end() ? std::nullopt : std::optional(*begins));
}

struct Mix {
  std::uint64_t size;
  std::uint64_t blocks_max;
  int steps;
  int steps_per_check = 8;
  std::uint64_t long_blocks_max = 0;  // of one step in 64
};

void run_against_oracle(std::uint64_t seed, const Mix& mix) {
  Random random(seed);
  RunMap map;
  Oracle oracle(mix.size);
  for (int step = 0; step < mix.steps; ++step) {
    const bool is_long = mix.long_blocks_max > 0 && random.one_in(64);
    const std::uint64_t blocks_max = is_long ? mix.long_blocks_max : mix.blocks_max;
    const Extent extent = random_extent(random, mix.size, blocks_max);
    const auto before = oracle.runs(extent.lbn.value, extent.blocks);
    std::vector<Extent> replaced;
    const auto collect = [&](const Extent& part) { replaced.push_back(part); };
    const std::uint64_t erases = step / 1000 % 2 == 1 ? 90 : 25;
    if (random.below(100) < erases) {
      map.erase(extent.lbn, extent.blocks, collect);
      oracle.erase(extent.lbn.value, extent.blocks);
    } else {
      map.put(extent, collect);
      oracle.put(extent);
    }
    ASSERT_EQ(replaced, before) << "seed " << seed << " step " << step;
    if (step % mix.steps_per_check != 0 && step + 1 != mix.steps) continue;
    ASSERT_NO_FATAL_FAILURE(expect_equal(map, oracle, random))
        << "seed " << seed << " step " << step;
  }
}

TEST(RunMap, AgreesWithOneCellPerBlockForManySeeds) {
  for (std::uint64_t seed = 1; seed <= 2500; ++seed) {
    run_against_oracle(seed, {96, seed % 3 == 0 ? 40U : 8U, 40, 8});
    if (HasFatalFailure()) return;
  }
}

// Enough runs for many leaves, growing and shrinking by turns, with cuts across leaves.
TEST(RunMap, AgreesWithOneCellPerBlockWhenItHasManyRuns) {
  for (std::uint64_t seed = 1; seed <= 16; ++seed) {
    run_against_oracle(seed, {2000, 2, 6000, 16, seed % 2 == 0 ? 500U : 100U});
    if (HasFatalFailure()) return;
  }
}

TEST(RunMap, RisingAndFallingSingleBlocksKeepTheOrder) {
  constexpr std::uint64_t kRuns = 20000;
  RunMap rising;
  RunMap falling;
  for (std::uint64_t i = 0; i < kRuns; ++i) {
    rising.put(in_slots(2 * i, 1, 5));
    falling.put(in_slots(2 * (kRuns - 1 - i), 1, 5));
  }
  EXPECT_EQ(rising.run_count(), kRuns);
  EXPECT_EQ(all(rising), all(falling));
  rising.put(zeros(0, 2 * kRuns));
  EXPECT_EQ(rising.run_count(), 1U);
  for (std::uint64_t i = kRuns; i-- > 0;) falling.erase(Lbn(2 * i), 1);
  EXPECT_TRUE(falling.empty());
}

}  // namespace
}  // namespace vmstore::snapshot
