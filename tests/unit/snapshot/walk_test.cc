// SPDX-License-Identifier: Apache-2.0
// Mark and diff: the walks over whole trees.
#include <gtest/gtest.h>

#include <map>

#include "base/random.h"
#include "snapshot/index.h"
#include "tests/unit/snapshot/tree_fixture.h"

namespace vmstore::snapshot {
namespace {

constexpr std::uint64_t kLeafBlocks = blocks_per_page(0);

Extent mapped(std::uint64_t lbn, std::uint64_t blocks, std::uint64_t block) {
  return {Lbn(lbn), blocks, Where::address, test_address(16, block).raw()};
}
Extent zeros(std::uint64_t lbn, std::uint64_t blocks) {
  return {Lbn(lbn), blocks, Where::zero, 0};
}

Address write(MemoryPages& pages, Address top, const std::vector<Extent>& runs) {
  RunMap overlay;
  for (const Extent& run : runs) overlay.put(run);
  const auto built = run_now(build_in_memory(pages, top, overlay, kIndexBlocks, false));
  EXPECT_TRUE(built.has_value());
  return pages.place(*built);
}

struct Marked {
  std::map<Address, std::size_t> pages;
  std::map<Address, std::size_t> blocks;
  [[nodiscard]] MarkVisitor visitor() {
    MarkVisitor visitor;
    visitor.on_page = [this](Address page, unsigned) { ++pages[page]; };
    visitor.on_block = [this](Address block) { ++blocks[block]; };
    return visitor;
  }
};

TEST(Mark, VisitsEachDistinctPageOnceOverManyTrees) {
  MemoryPages pages;
  Random random(9);
  std::vector<Address> tops = {Address()};
  for (int i = 0; i < 60; ++i) {
    const Address from = tops[random.below(tops.size())];
    tops.push_back(write(pages, from, {mapped(random.below(1 << 22), 1 + random.below(40), 5)}));
  }
  pages.loads_of.clear();
  std::unordered_set<Address> seen;
  Marked marked;
  for (const Address top : tops) {
    ASSERT_TRUE(run_now(mark_tree(pages, top, seen, marked.visitor())).has_value());
  }
  EXPECT_EQ(marked.pages.size(), pages.page_count());
  EXPECT_EQ(seen.size(), pages.page_count());
  for (const auto& [page, visits] : marked.pages) EXPECT_EQ(visits, 1U);
  for (const auto& [page, loads] : pages.loads_of) EXPECT_EQ(loads, 1U);
}

TEST(Mark, ReachesEveryBlockAndNamesTheLevelOfEveryPage) {
  MemoryPages pages;
  const Address top =
      write(pages, Address(), {mapped(0, 600, 0), mapped(kIndexBlocks - 1, 1, 700)});
  std::unordered_set<Address> seen;
  Marked marked;
  MarkVisitor visitor = marked.visitor();
  visitor.on_page = [&](Address page, unsigned level) {
    EXPECT_EQ(level, pages.label(page).first);
  };
  ASSERT_TRUE(run_now(mark_tree(pages, top, seen, visitor)).has_value());
  EXPECT_EQ(marked.blocks.size(), 601U);
  EXPECT_TRUE(marked.blocks.contains(test_address(16, 599)));
  EXPECT_TRUE(marked.blocks.contains(test_address(16, 700)));
}

// A round that is tried again with the same set must not skip what the failed one did not reach.
TEST(Mark, I9_a_failed_walk_claims_nothing_it_did_not_visit) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(0, 3 * kLeafBlocks, 0)});
  std::unordered_set<Address> all;
  ASSERT_TRUE(run_now(mark_tree(pages, top, all, {})).has_value());
  for (const Address page : all) {
    pages.fail_at = page;
    std::unordered_set<Address> seen;
    Marked marked;
    ASSERT_EQ(run_now(mark_tree(pages, top, seen, marked.visitor())).error(), Errc::unavailable);
    pages.fail_at.reset();
    ASSERT_TRUE(run_now(mark_tree(pages, top, seen, marked.visitor())).has_value());
    EXPECT_EQ(seen, all);
    EXPECT_EQ(marked.blocks.size(), 3 * kLeafBlocks);
  }
}

TEST(Diff, EqualTreesAreNotRead) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(0, 5000, 0)});
  pages.load_count = 0;
  EXPECT_TRUE(run_now(diff_trees(pages, top, top, Lbn(0), kIndexBlocks))->empty());
  EXPECT_EQ(pages.load_count, 0U);
}

TEST(Diff, CostFollowsTheChange) {
  MemoryPages pages;
  const Address a = write(pages, Address(), {mapped(0, 300 * kLeafBlocks, 0)});
  const Address b = write(pages, a, {mapped(150 * kLeafBlocks, 1, 400000)});
  pages.load_count = 0;
  const auto differences = run_now(diff_trees(pages, a, b, Lbn(0), kIndexBlocks));
  EXPECT_EQ(*differences, std::vector<Extent>{mapped(150 * kLeafBlocks, 1, 400000)});
  EXPECT_EQ(pages.load_count, 2 * kPageLevels);
}

// Incremental copies must see holes (openzfs 4996, ceph 39577).
TEST(Diff, S4_a_block_that_became_a_hole_is_a_difference) {
  MemoryPages pages;
  const Address a = write(pages, Address(), {mapped(0, 1000, 0)});
  const Address b = write(pages, a, {zeros(100, 700)});
  EXPECT_EQ(*run_now(diff_trees(pages, a, b, Lbn(0), kIndexBlocks)),
            std::vector<Extent>{zeros(100, 700)});
  EXPECT_EQ(*run_now(diff_trees(pages, b, a, Lbn(0), kIndexBlocks)),
            std::vector<Extent>{mapped(100, 700, 100)});
  EXPECT_EQ(*run_now(diff_trees(pages, a, Address(), Lbn(0), kIndexBlocks)),
            std::vector<Extent>{zeros(0, 1000)});
  EXPECT_EQ(*run_now(diff_trees(pages, Address(), a, Lbn(500), 10)),
            std::vector<Extent>{mapped(500, 10, 500)});
}

Address random_tree(MemoryPages& pages, Random& random, Address from, BlockOracle& oracle) {
  RunMap overlay;
  for (std::uint64_t i = random.below(10); i > 0; --i) {
    const std::uint64_t lbn = random.below(4 * kLeafBlocks);
    const std::uint64_t blocks = 1 + random.below(300);
    overlay.put(random.one_in(3) ? zeros(lbn, blocks) : mapped(lbn, blocks, random.below(9)));
  }
  apply(oracle, overlay, kIndexBlocks);
  const auto built = run_now(build_in_memory(pages, from, overlay, kIndexBlocks, false));
  return pages.place(*built);
}

TEST(Diff, AppliedToTheOldTreeGivesTheNewOne) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    MemoryPages pages;
    BlockOracle base;
    const Address common = random_tree(pages, random, Address(), base);
    BlockOracle blocks_a = base;
    BlockOracle blocks_b = base;
    const Address a = random_tree(pages, random, common, blocks_a);
    const Address b = random_tree(pages, random, common, blocks_b);
    const auto differences = run_now(diff_trees(pages, a, b, Lbn(0), kIndexBlocks));
    ASSERT_TRUE(differences.has_value());
    BlockOracle patched = blocks_a;
    for (const Extent& extent : *differences) {
      for (std::uint64_t i = 0; i < extent.blocks; ++i) {
        const Extent block = extent.part(Lbn(extent.lbn.value + i), 1);
        const auto old = blocks_a.find(block.lbn.value);
        ASSERT_NE(old == blocks_a.end() ? 0 : old->second.raw(), block.place) << "seed " << seed;
        apply(patched, block);
      }
    }
    ASSERT_EQ(patched, blocks_b) << "seed " << seed;
  }
}

}  // namespace
}  // namespace vmstore::snapshot
