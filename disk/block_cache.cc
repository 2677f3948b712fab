// SPDX-License-Identifier: Apache-2.0
#include "disk/block_cache.h"

#include <algorithm>
#include <functional>

#include "base/assert.h"

namespace vmstore::disk {

BlockCache::BlockCache(std::uint64_t bytes_max)
    : entries_per_shard_(std::max<std::uint64_t>(1, bytes_max / kBlockBytes / kShards)) {}

BlockCache::Shard& BlockCache::shard_of(Address address) {
  return shards_[(std::hash<Address>()(address) >> 32) % kShards];
}

bool BlockCache::get(Address address, MutableBytes into) {
  VMS_ASSERT(into.size() == kBlockBytes);
  Shard& shard = shard_of(address);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.places.find(address);
  if (found == shard.places.end()) return false;
  shard.entries[found->second].referenced = true;
  const auto* const from = shard.bytes.data() + found->second * kBlockBytes;
  std::copy_n(from, kBlockBytes, into.begin());
  return true;
}

void BlockCache::put(Address address, ByteSpan block) {
  VMS_ASSERT(block.size() == kBlockBytes);
  Shard& shard = shard_of(address);
  const std::lock_guard lock(shard.mutex);
  if (shard.places.contains(address)) return;
  std::size_t place = shard.entries.size();
  if (place < entries_per_shard_) {
    shard.entries.push_back({address, false});
    shard.bytes.resize(shard.bytes.size() + kBlockBytes);
  } else {
    while (shard.entries[shard.hand].referenced) {
      shard.entries[shard.hand].referenced = false;
      shard.hand = (shard.hand + 1) % shard.entries.size();
    }
    place = shard.hand;
    shard.hand = (shard.hand + 1) % shard.entries.size();
    shard.places.erase(shard.entries[place].address);
    shard.entries[place] = {address, false};
  }
  shard.places[address] = place;
  std::copy(block.begin(), block.end(),
            shard.bytes.begin() + static_cast<std::ptrdiff_t>(place * kBlockBytes));
}

void BlockCache::clear() {
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    shard.places.clear();
    shard.entries.clear();
    shard.bytes.clear();
    shard.hand = 0;
  }
}

std::uint64_t BlockCache::bytes() const {
  std::uint64_t total = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    total += shard.bytes.size();
  }
  return total;
}

}  // namespace vmstore::disk
