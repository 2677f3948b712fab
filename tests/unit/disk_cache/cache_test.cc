// SPDX-License-Identifier: Apache-2.0
// The block cache and the page cache: content, bounds, many threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "base/limits.h"
#include "base/random.h"
#include "disk/block_cache.h"
#include "disk/page_cache.h"

namespace vmstore::disk {
namespace {

constexpr std::uint64_t kMiB = limits::kMiB;

Address address(std::uint64_t number) {
  return *Address::make(*KeyId::make(16 + number % 5), BlockIndex{number});
}

using Block = std::array<std::byte, kBlockBytes>;

/// Every word of a block says which one it is: a torn or foreign copy is seen.
Block block_of(std::uint64_t number) {
  Block block;
  for (std::size_t i = 0; i < kBlockBytes; i += 8) std::memcpy(block.data() + i, &number, 8);
  return block;
}

snapshot::PagePtr page_of(std::uint64_t number) {
  auto page = std::make_shared<snapshot::Page>();
  page->entries.fill(address(number));
  return page;
}

// ---- blocks ----

TEST(BlockCache, GivesBackACopyOfWhatWasPut) {
  BlockCache cache(kMiB);
  Block into{};
  EXPECT_FALSE(cache.get(address(1), into));
  cache.put(address(1), block_of(1));
  ASSERT_TRUE(cache.get(address(1), into));
  EXPECT_EQ(into, block_of(1));
  EXPECT_FALSE(cache.get(address(2), into));
}

TEST(BlockCache, N7_full_in_every_shard_it_still_takes_blocks_and_keeps_its_bound) {
  BlockCache cache(kMiB);
  Block into{};
  for (std::uint64_t i = 0; i < 5000; ++i) {
    cache.put(address(i), block_of(i));
    ASSERT_TRUE(cache.get(address(i), into)) << i;  // all are used: nothing is easy to evict
    ASSERT_EQ(into, block_of(i));
    ASSERT_LE(cache.bytes(), kMiB);
  }
  EXPECT_EQ(cache.bytes(), kMiB);
}

TEST(BlockCache, KeepsNearlyAllOfASetThatFits) {
  BlockCache cache(kMiB);
  constexpr std::uint64_t kFits = kMiB / kBlockBytes * 3 / 4;
  for (std::uint64_t i = 0; i < kFits; ++i) cache.put(address(i), block_of(i));
  Block into{};
  std::uint64_t hits = 0;
  for (std::uint64_t i = 0; i < kFits; ++i) hits += cache.get(address(i), into) ? 1U : 0U;
  EXPECT_GE(hits * 20, kFits * 19);  // the shards are not filled quite evenly
}

TEST(BlockCache, WithoutRoomItHoldsNothing) {
  BlockCache cache(kBlockBytes - 1);
  Block into{};
  for (std::uint64_t i = 0; i < 100; ++i) {
    cache.put(address(i), block_of(i));
    EXPECT_FALSE(cache.get(address(i), into));
  }
  EXPECT_EQ(cache.bytes(), 0U);
}

TEST(BlockCache, ClearedItHoldsNothing) {
  BlockCache cache(kMiB);
  for (std::uint64_t i = 0; i < 1000; ++i) cache.put(address(i), block_of(i));
  cache.clear();
  EXPECT_EQ(cache.bytes(), 0U);
  Block into{};
  for (std::uint64_t i = 0; i < 1000; ++i) EXPECT_FALSE(cache.get(address(i), into));
  cache.put(address(1), block_of(1));
  EXPECT_TRUE(cache.get(address(1), into));
}

// An address never changes its bytes, so the first ones stay; a second put is no error.
TEST(BlockCache, PuttingABlockAgainKeepsTheFirstCopy) {
  BlockCache cache(kMiB);
  cache.put(address(1), block_of(1));
  cache.put(address(1), block_of(2));
  Block into{};
  ASSERT_TRUE(cache.get(address(1), into));
  EXPECT_EQ(into, block_of(1));
  EXPECT_EQ(cache.bytes(), kBlockBytes);
}

TEST(BlockCache, ManyThreadsNeverSeeATornOrForeignBlock) {
  BlockCache cache(64 * kBlockBytes);
  constexpr int kThreads = 4;
  constexpr int kSteps = 20000;
  std::atomic<std::uint64_t> hits{0};
  const auto work = [&](std::uint64_t seed) {
    Random random(seed);
    Block into{};
    for (int step = 0; step < kSteps; ++step) {
      const std::uint64_t number = random.below(120);
      if (!cache.get(address(number), into)) {
        cache.put(address(number), block_of(number));
        continue;
      }
      ++hits;
      ASSERT_EQ(into, block_of(number));
      if (step == kSteps / 2) cache.clear();
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t i = 1; i <= kThreads; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(hits.load(), 0U);
  EXPECT_LE(cache.bytes(), 64 * kBlockBytes);
}

// ---- pages ----

TEST(PageCache, GivesBackThePageAndItsEntries) {
  PageCache cache(kMiB);
  EXPECT_EQ(cache.get(address(1)), nullptr);
  EXPECT_EQ(cache.entry(address(1), 0), std::nullopt);
  const auto page = page_of(7);
  cache.put(address(1), page);
  EXPECT_EQ(cache.get(address(1)), page);
  EXPECT_EQ(cache.entry(address(1), 511), address(7));
}

TEST(PageCache, N7_pages_held_by_readers_do_not_keep_new_ones_out) {
  PageCache cache(64 * PageCache::kPageCost);
  std::vector<snapshot::PagePtr> held;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    cache.put(address(i), page_of(i));
    held.push_back(cache.get(address(i)));
    ASSERT_NE(held.back(), nullptr) << i;
    ASSERT_LE(cache.bytes(), 64 * PageCache::kPageCost);
  }
  for (std::uint64_t i = 0; i < held.size(); ++i) {
    EXPECT_EQ(held[i]->entries[i % 512], address(i));  // evicted pages live on with their readers
  }
}

TEST(PageCache, EvictedPagesAreFreed) {
  PageCache cache(64 * PageCache::kPageCost);
  std::vector<std::weak_ptr<const snapshot::Page>> seen;
  for (std::uint64_t i = 0; i < 500; ++i) {
    const auto page = page_of(i);
    seen.push_back(page);
    cache.put(address(i), page);
  }
  const auto alive = [&] {
    return std::count_if(
        seen.begin(), seen.end(), [](const auto& page) { return !page.expired(); });
  };
  EXPECT_EQ(static_cast<std::uint64_t>(alive()) * PageCache::kPageCost, cache.bytes());
  cache.clear();
  EXPECT_EQ(alive(), 0);
  EXPECT_EQ(cache.bytes(), 0U);
}

TEST(PageCache, TheTopPageStaysWhileLeavesComeAndGo) {
  PageCache cache(64 * PageCache::kPageCost);
  cache.put(address(0), page_of(0));
  for (std::uint64_t i = 1; i < 5000; ++i) {
    ASSERT_TRUE(cache.entry(address(0), 5).has_value()) << i;
    cache.put(address(i), page_of(i));
  }
}

TEST(PageCache, ManyThreadsNeverSeeAForeignPage) {
  PageCache cache(48 * PageCache::kPageCost);
  constexpr int kSteps = 8000;
  const auto work = [&](std::uint64_t seed) {
    Random random(seed);
    snapshot::PagePtr kept;
    std::uint64_t kept_number = 0;
    for (int step = 0; step < kSteps; ++step) {
      const std::uint64_t number = random.below(100);
      if (const auto entry = cache.entry(address(number), static_cast<std::size_t>(step % 512))) {
        ASSERT_EQ(*entry, address(number));
      }
      auto page = cache.get(address(number));
      if (page == nullptr) {
        cache.put(address(number), page_of(number));
        continue;
      }
      ASSERT_EQ(page->entries[511], address(number));
      if (kept != nullptr) {
        ASSERT_EQ(kept->entries[0], address(kept_number));
      }
      kept = std::move(page);
      kept_number = number;
      if (step == kSteps / 2) cache.clear();
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t i = 1; i <= 4; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(cache.bytes(), 48 * PageCache::kPageCost);
}

}  // namespace
}  // namespace vmstore::disk
