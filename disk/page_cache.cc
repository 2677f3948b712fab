// SPDX-License-Identifier: Apache-2.0
#include "disk/page_cache.h"

#include <functional>
#include <utility>

#include "base/assert.h"

namespace vmstore::disk {

PageCache::PageCache(std::uint64_t bytes_max) {
  const std::uint64_t pages_max = bytes_max / kPageCost;
  for (std::size_t i = 0; i < kShards; ++i) {
    const std::uint64_t share = pages_max / kShards + (i < pages_max % kShards ? 1 : 0);
    shards_[i].table = ClockTable(static_cast<std::uint32_t>(share));
  }
}

PageCache::Shard& PageCache::shard_of(Address address) noexcept {
  constexpr unsigned kShardShift = 48;  // bits that the table of a shard does not use
  return shards_[(std::hash<Address>()(address) >> kShardShift) % kShards];
}

snapshot::PagePtr PageCache::get(Address address) {
  Shard& shard = shard_of(address);
  const std::lock_guard lock(shard.mutex);
  const auto place = shard.table.use(address);
  if (!place) return nullptr;
  return shard.pages[*place];
}

std::optional<Address> PageCache::entry(Address address, std::size_t index) {
  Shard& shard = shard_of(address);
  const std::lock_guard lock(shard.mutex);
  const auto place = shard.table.use(address);
  if (!place) return std::nullopt;
  return shard.pages[*place]->entries[index];
}

void PageCache::put(Address address, snapshot::PagePtr page) {
  VMS_ASSERT(page != nullptr);
  Shard& shard = shard_of(address);
  snapshot::PagePtr evicted;  // freed after the lock
  const std::lock_guard lock(shard.mutex);
  if (shard.table.capacity() == 0 || shard.table.contains(address)) return;
  const std::uint32_t place = shard.table.insert(address);
  if (place == shard.pages.size()) shard.pages.emplace_back();
  evicted = std::exchange(shard.pages[place], std::move(page));
}

void PageCache::clear() {
  for (Shard& shard : shards_) {
    std::vector<snapshot::PagePtr> evicted;
    const std::lock_guard lock(shard.mutex);
    shard.table.clear();
    evicted.swap(shard.pages);
  }
}

std::uint64_t PageCache::bytes() const {
  std::uint64_t total = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    total += shard.table.size() * kPageCost;
  }
  return total;
}

}  // namespace vmstore::disk
