// SPDX-License-Identifier: Apache-2.0
// The index against a map of blocks: look-up, extents, checkpoint.
#include "snapshot/index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/random.h"
#include "tests/unit/snapshot/tree_fixture.h"

namespace vmstore::snapshot {
namespace {

constexpr std::uint64_t kLeafBlocks = blocks_per_page(0);
constexpr std::size_t kNoLimit = std::size_t{1} << 40;

Extent mapped(std::uint64_t lbn, std::uint64_t blocks, std::uint64_t block) {
  return {Lbn(lbn), blocks, Where::address, test_address(16, block).raw()};
}
Extent zeros(std::uint64_t lbn, std::uint64_t blocks) {
  return {Lbn(lbn), blocks, Where::zero, 0};
}

RunMap overlay_of(const std::vector<Extent>& runs) {
  RunMap overlay;
  for (const Extent& run : runs) overlay.put(run);
  return overlay;
}

BuiltPages checkpoint(MemoryPages& pages,
                      Address top,
                      const RunMap& overlay,
                      std::uint64_t size_blocks = kIndexBlocks,
                      bool collect = true) {
  auto built = run_now(build_in_memory(pages, top, overlay, size_blocks, collect));
  EXPECT_TRUE(built.has_value());
  return std::move(*built);
}

Address write(MemoryPages& pages, Address top, const std::vector<Extent>& runs) {
  return pages.place(checkpoint(pages, top, overlay_of(runs)));
}

std::set<Address> pages_below(MemoryPages& pages, Address top) {
  std::unordered_set<Address> seen;
  EXPECT_TRUE(run_now(mark_tree(pages, top, seen, {})).has_value());
  return {seen.begin(), seen.end()};
}

// ---- look-up and extents ----

TEST(Index, AnEmptyTreeReadsAsZerosWithoutAPage) {
  MemoryPages pages;
  EXPECT_EQ(*run_now(lookup(pages, Address(), Lbn(12345))), Address());
  const auto extents = run_now(map_range(pages, Address(), Lbn(5), 1000, 10));
  EXPECT_EQ(*extents, std::vector<Extent>{zeros(5, 1000)});
  EXPECT_EQ(pages.load_count, 0U);
}

TEST(Index, BlocksBeyondTheLargestDiskAreRefused) {
  MemoryPages pages;
  EXPECT_EQ(run_now(lookup(pages, Address(), Lbn(kIndexBlocks))).error(), Errc::invalid_argument);
  EXPECT_EQ(run_now(map_range(pages, Address(), Lbn(1), kIndexBlocks, 1)).error(),
            Errc::invalid_argument);
  EXPECT_EQ(run_now(map_range(pages, Address(), Lbn(~std::uint64_t{0}), 1, 1)).error(),
            Errc::invalid_argument);
  EXPECT_EQ(run_now(diff_trees(pages, Address(), Address(), Lbn(1), kIndexBlocks)).error(),
            Errc::invalid_argument);
  EXPECT_EQ(run_now(build_in_memory(pages, Address(), RunMap(), kIndexBlocks + 1, true)).error(),
            Errc::invalid_argument);
}

TEST(Index, LastBlockOfTheLargestDiskCanBeMapped) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(kIndexBlocks - 1, 1, 3)});
  EXPECT_EQ(*run_now(lookup(pages, top, Lbn(kIndexBlocks - 1))), test_address(16, 3));
  EXPECT_EQ(*run_now(lookup(pages, top, Lbn(kIndexBlocks - 2))), Address());
  const auto extents = run_now(map_range(pages, top, Lbn(0), kIndexBlocks, 10));
  EXPECT_EQ(*extents,
            (std::vector<Extent>{zeros(0, kIndexBlocks - 1), mapped(kIndexBlocks - 1, 1, 3)}));
}

TEST(Index, I5_lookup_reads_at_most_four_pages_after_any_history) {
  MemoryPages pages;
  Random random(5);
  Address top;
  std::vector<Address> snapshots;
  for (int i = 0; i < 300; ++i) {
    top = write(pages, top, {mapped(random.below(1 << 24), 1 + random.below(600), 7)});
    snapshots.push_back(top);
    const Lbn lbn(random.below(1 << 24));
    pages.load_count = 0;
    ASSERT_TRUE(run_now(lookup(pages, snapshots[random.below(snapshots.size())], lbn)));
    ASSERT_LE(pages.load_count, kPageLevels);
  }
}

TEST(Index, MapRangeLoadsEachPageOnce) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(0, 4 * kLeafBlocks, 0)});
  pages.loads_of.clear();
  const auto extents = run_now(map_range(pages, top, Lbn(10), 3 * kLeafBlocks, kNoLimit));
  EXPECT_EQ(*extents, std::vector<Extent>{mapped(10, 3 * kLeafBlocks, 10)});
  for (const auto& [page, loads] : pages.loads_of) EXPECT_EQ(loads, 1U);
}

TEST(Index, MapRangeStopsAtTheLimitAndMakesProgress) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(1, 1, 0), mapped(3, 2, 90)});
  EXPECT_EQ(*run_now(map_range(pages, top, Lbn(0), 10, 1)), std::vector<Extent>{zeros(0, 1)});
  EXPECT_EQ(*run_now(map_range(pages, top, Lbn(1), 10, 2)),
            (std::vector<Extent>{mapped(1, 1, 0), zeros(2, 1)}));
  EXPECT_EQ(*run_now(map_range(pages, top, Lbn(3), 10, 2)),
            (std::vector<Extent>{mapped(3, 2, 90), zeros(5, 8)}));
}

TEST(Index, I9_a_page_that_cannot_be_read_is_never_empty) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(0, 2 * kLeafBlocks, 0)});
  const RunMap overlay = overlay_of({mapped(5, 1, 77), zeros(kLeafBlocks, kLeafBlocks)});
  for (const Address page : pages_below(pages, top)) {
    pages.fail_at = page;
    const bool is_second_leaf = pages.label(page) == std::pair(0U, Lbn(kLeafBlocks));
    const Lbn lbn(is_second_leaf ? kLeafBlocks : 0);
    EXPECT_EQ(run_now(lookup(pages, top, lbn)).error(), Errc::unavailable);
    EXPECT_EQ(run_now(map_range(pages, top, Lbn(0), 4096, kNoLimit)).error(), Errc::unavailable);
    EXPECT_EQ(run_now(diff_trees(pages, top, Address(), Lbn(0), 4096)).error(), Errc::unavailable);
    EXPECT_EQ(run_now(build_in_memory(pages, top, overlay, kIndexBlocks, true)).error(),
              Errc::unavailable);
    std::unordered_set<Address> seen;
    EXPECT_EQ(run_now(mark_tree(pages, top, seen, {})).error(), Errc::unavailable);
    EXPECT_FALSE(seen.contains(page));
    EXPECT_FALSE(seen.contains(top));
  }
}

// ---- checkpoint ----

TEST(Checkpoint, AnEmptyOverlayChangesNothing) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(0, 10, 0)});
  const BuiltPages same = checkpoint(pages, top, RunMap());
  EXPECT_TRUE(same.pages.empty());
  EXPECT_FALSE(same.empty);
  EXPECT_EQ(same.unchanged_top, top);
  const BuiltPages none = checkpoint(pages, Address(), RunMap());
  EXPECT_TRUE(none.empty);
  EXPECT_EQ(none.unchanged_top, Address());
}

TEST(Checkpoint, AnOverlayThatMapsTheSameBlocksChangesNothing) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(100, 1000, 0)});
  const BuiltPages same = checkpoint(pages, top, overlay_of({mapped(200, 500, 100), zeros(0, 50)}));
  EXPECT_TRUE(same.pages.empty());
  EXPECT_EQ(same.unchanged_top, top);
  EXPECT_TRUE(same.replaced_pages.empty());
  EXPECT_TRUE(same.replaced_blocks.empty());
}

TEST(Checkpoint, OneBlockMakesOnePathChildrenFirst) {
  MemoryPages pages;
  const Lbn lbn(std::uint64_t{123} << 28);
  const BuiltPages built = checkpoint(pages, Address(), overlay_of({mapped(lbn.value, 1, 0)}));
  ASSERT_EQ(built.pages.size(), kPageLevels);
  for (unsigned level = 0; level < kPageLevels; ++level) {
    EXPECT_EQ(built.pages[level].level, level);
    EXPECT_EQ(built.pages[level].first_lbn, page_first(lbn, level));
    EXPECT_EQ(built.pages[level].children.size(), level == 0 ? 0U : 1U);
  }
}

TEST(Checkpoint, ZeroingEverythingLeavesNoPage) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(7, 5000, 0)});
  for (const Extent& zero : {zeros(0, kIndexBlocks), zeros(7, 5000)}) {
    const BuiltPages built = checkpoint(pages, top, overlay_of({zero}));
    EXPECT_TRUE(built.empty);
    EXPECT_TRUE(built.pages.empty());
    EXPECT_EQ(built.replaced_blocks, std::vector<Extent>{mapped(7, 5000, 0)});
    EXPECT_EQ(built.replaced_pages.size(), pages_below(pages, top).size());
  }
}

TEST(Checkpoint, ZeroingAHugeEmptyRangeLoadsNothing) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(0, 1, 0)});
  pages.load_count = 0;
  const std::uint64_t ten_tib = (std::uint64_t{10} << 40) / kBlockBytes;
  const BuiltPages built = checkpoint(pages, top, overlay_of({zeros(1, ten_tib)}));
  EXPECT_EQ(built.unchanged_top, top);
  EXPECT_LE(pages.load_count, kPageLevels);
}

TEST(Checkpoint, DroppingSubtreesLoadsNoneOfThemUnlessTheyAreCollected) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(0, 64 * kLeafBlocks, 0)});
  pages.load_count = 0;
  const RunMap overlay = overlay_of({zeros(kLeafBlocks, kIndexBlocks - kLeafBlocks)});
  const BuiltPages built = checkpoint(pages, top, overlay, kIndexBlocks, false);
  EXPECT_EQ(pages.load_count, 3U);  // the path down to the leaves' parent
  EXPECT_EQ(built.pages.size(), 3U);
  EXPECT_EQ(read_tree(pages, pages.place(built)).size(), kLeafBlocks);
}

TEST(Checkpoint, S1_shrink_then_grow_reads_zeros) {
  MemoryPages pages;
  const Address top = write(pages, Address(), {mapped(0, 3000, 0)});
  const BuiltPages shrunk = checkpoint(pages, top, RunMap(), 1500);
  EXPECT_EQ(shrunk.replaced_blocks, std::vector<Extent>{mapped(1500, 1500, 1500)});
  const Address small = pages.place(shrunk);
  const Address grown = pages.place(checkpoint(pages, small, RunMap(), 3000));
  EXPECT_EQ(grown, small);
  EXPECT_EQ(*run_now(map_range(pages, grown, Lbn(0), 3000, 10)),
            (std::vector<Extent>{mapped(0, 1500, 0), zeros(1500, 1500)}));
}

TEST(Checkpoint, RunsBeyondTheSizeAreCut) {
  MemoryPages pages;
  const RunMap overlay = overlay_of({mapped(90, 20, 0), mapped(5000, 1, 50)});
  const Address top = pages.place(checkpoint(pages, Address(), overlay, 100));
  EXPECT_EQ(read_tree(pages, top).size(), 10U);
  const Address none = pages.place(checkpoint(pages, top, overlay, 0));
  EXPECT_EQ(none, Address());
}

TEST(CheckpointDeathTest, ABatchSlotInTheOverlayIsABug) {
  MemoryPages pages;
  const RunMap overlay = overlay_of({{Lbn(0), 1, Where::slot, 5}});
  EXPECT_DEATH(run_now(build_in_memory(pages, Address(), overlay, 10, false)).has_value(), "slot");
}

// ---- against the oracle ----

/// Sizes that begin and end inside, at and around pages of every level.
std::uint64_t random_size(Random& random) {
  switch (random.below(4)) {
    case 0:
      return 1 + random.below(3 * kLeafBlocks);
    case 1:
      return kLeafBlocks * (1 + random.below(1200));
    case 2:
      return kIndexBlocks - random.below(3);
    default:
      return 1 + random.below(std::uint64_t{1} << 30);
  }
}

Extent random_run(Random& random, std::uint64_t size) {
  // Most writes near a few places, so that they meet; some in the last corner of the disk.
  std::uint64_t lbn = random.below(std::min<std::uint64_t>(size, 4 * kLeafBlocks));
  if (random.one_in(4)) lbn = random.below(size);
  if (random.one_in(8)) lbn = size - 1 - random.below(std::min<std::uint64_t>(size, 600));
  if (random.one_in(3)) {
    std::uint64_t blocks = 1 + random.below(3 * kLeafBlocks);
    if (random.one_in(3)) blocks = random.u64() >> random.below(40);
    if (random.one_in(3)) lbn -= lbn % kLeafBlocks;
    return zeros(lbn, std::max<std::uint64_t>(1, std::min(blocks, size - lbn)));
  }
  const std::uint64_t blocks = 1 + random.below(random.one_in(5) ? 1300 : 9);
  const std::uint64_t block = random.one_in(3) ? lbn % 50000 : random.below(50000);
  return mapped(lbn, std::min(blocks, size - lbn), block);
}

void expect_replaced(const BuiltPages& built,
                     const BlockOracle& before,
                     const BlockOracle& after,
                     const std::set<Address>& pages_before,
                     const std::set<Address>& pages_after) {
  BlockOracle gone;
  for (const auto& [lbn, address] : before) {
    const auto now = after.find(lbn);
    if (now == after.end() || now->second != address) gone[lbn] = address;
  }
  BlockOracle reported;
  for (const Extent& extent : built.replaced_blocks) apply(reported, extent);
  EXPECT_EQ(reported, gone);
  for (std::size_t i = 1; i < built.replaced_blocks.size(); ++i) {
    EXPECT_FALSE(built.replaced_blocks[i].continues(built.replaced_blocks[i - 1]));
  }
  std::set<Address> gone_pages;
  std::set_difference(pages_before.begin(),
                      pages_before.end(),
                      pages_after.begin(),
                      pages_after.end(),
                      std::inserter(gone_pages, gone_pages.end()));
  EXPECT_EQ(std::set<Address>(built.replaced_pages.begin(), built.replaced_pages.end()),
            gone_pages);
  EXPECT_EQ(built.replaced_pages.size(), gone_pages.size());
}

void expect_shape(const BuiltPages& built) {
  for (std::size_t i = 0; i < built.pages.size(); ++i) {
    const NewPage& fresh = built.pages[i];
    EXPECT_FALSE(fresh.children.empty() && fresh.page.all_zero());
    EXPECT_EQ(fresh.first_lbn, page_first(fresh.first_lbn, fresh.level));
    for (const NewPage::Child& child : fresh.children) {
      ASSERT_LT(child.index, i);
      EXPECT_EQ(built.pages[child.index].level + 1, fresh.level);
      EXPECT_EQ(entry_index(built.pages[child.index].first_lbn, fresh.level), child.entry);
    }
  }
  if (!built.pages.empty()) {
    EXPECT_EQ(built.pages.back().level, kTopLevel);
  }
}

void run_history(std::uint64_t seed) {
  Random random(seed);
  MemoryPages pages;
  BlockOracle oracle;
  Address top;
  std::uint64_t size = random_size(random);
  for (int round = 0; round < 6; ++round) {
    RunMap overlay;
    const std::uint64_t writes = random.below(12);
    for (std::uint64_t i = 0; i < writes; ++i) overlay.put(random_run(random, size));
    if (random.one_in(3)) size = random_size(random);
    const BlockOracle before = oracle;
    const std::set<Address> pages_before = pages_below(pages, top);
    const bool collect = random.below(4) != 0;
    const BuiltPages built = checkpoint(pages, top, overlay, size, collect);
    apply(oracle, overlay, size);
    ASSERT_NO_FATAL_FAILURE(expect_shape(built));
    const Address next = pages.place(built);
    ASSERT_EQ(read_tree(pages, next), oracle);
    ASSERT_EQ(read_tree(pages, top), before);  // copy on write: the old tree is untouched (I4)
    const std::set<Address> pages_after = pages_below(pages, next);
    if (collect) expect_replaced(built, before, oracle, pages_before, pages_after);
    if (before == oracle && collect) {
      EXPECT_EQ(next, top);
    }
    top = next;
    for (int i = 0; i < 8; ++i) {
      const std::uint64_t lbn = random.below(size);
      const auto expected = oracle.find(lbn);
      ASSERT_EQ(*run_now(lookup(pages, top, Lbn(lbn))),
                expected == oracle.end() ? Address() : expected->second);
    }
  }
}

TEST(Checkpoint, AgreesWithAMapOfBlocksForManySeeds) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    run_history(seed);
    if (HasFailure()) return;
  }
}

TEST(Index, MapRangeInPiecesIsMapRangeAtOnce) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Random random(seed);
    MemoryPages pages;
    RunMap overlay;
    for (int i = 0; i < 40; ++i) overlay.put(random_run(random, 8 * kLeafBlocks));
    const Address top = pages.place(checkpoint(pages, Address(), overlay));
    const auto whole = run_now(map_range(pages, top, Lbn(3), 5000, kNoLimit));
    std::vector<Extent> joined;
    for (std::uint64_t at = 3; at < 5003;) {
      const std::size_t limit = 1 + random.below(3);
      const auto piece = run_now(map_range(pages, top, Lbn(at), 5003 - at, limit));
      ASSERT_TRUE(piece.has_value() && !piece->empty() && piece->size() <= limit);
      for (const Extent& extent : *piece) {
        ASSERT_EQ(extent.lbn.value, at);
        at += extent.blocks;
        if (!joined.empty() && extent.continues(joined.back())) {
          joined.back().blocks += extent.blocks;
        } else {
          joined.push_back(extent);
        }
      }
    }
    ASSERT_EQ(joined, *whole) << "seed " << seed;
  }
}

}  // namespace
}  // namespace vmstore::snapshot
