// SPDX-License-Identifier: Apache-2.0
#include "disk/page_cache.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace vmstore::disk {

PageCache::PageCache(std::uint64_t bytes_max)
    : entries_per_shard_(std::max<std::uint64_t>(1, bytes_max / sizeof(snapshot::Page) / kShards)) {}

PageCache::Shard& PageCache::shard_of(Address address) {
  return shards_[(std::hash<Address>()(address) >> 32) % kShards];
}

snapshot::PagePtr PageCache::get(Address address) {
  Shard& shard = shard_of(address);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.places.find(address);
  if (found == shard.places.end()) return nullptr;
  Entry& entry = shard.entries[found->second];
  entry.referenced = true;
  return entry.page;
}

void PageCache::put(Address address, snapshot::PagePtr page) {
  Shard& shard = shard_of(address);
  const std::lock_guard lock(shard.mutex);
  if (shard.places.contains(address)) return;
  if (shard.entries.size() < entries_per_shard_) {
    shard.places[address] = shard.entries.size();
    shard.entries.push_back({address, std::move(page), false});
    return;
  }
  while (shard.entries[shard.hand].referenced) {
    shard.entries[shard.hand].referenced = false;
    shard.hand = (shard.hand + 1) % shard.entries.size();
  }
  Entry& victim = shard.entries[shard.hand];
  shard.places.erase(victim.address);
  victim = {address, std::move(page), false};
  shard.places[address] = shard.hand;
  shard.hand = (shard.hand + 1) % shard.entries.size();
}

void PageCache::clear() {
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    shard.places.clear();
    shard.entries.clear();
    shard.hand = 0;
  }
}

std::uint64_t PageCache::bytes() const {
  std::uint64_t total = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    total += shard.entries.size() * sizeof(snapshot::Page);
  }
  return total;
}

}  // namespace vmstore::disk
