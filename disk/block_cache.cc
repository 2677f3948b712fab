// SPDX-License-Identifier: Apache-2.0
#include "disk/block_cache.h"

#include <cstring>
#include <functional>

#include "base/assert.h"

namespace vmstore::disk {

BlockCache::BlockCache(std::uint64_t bytes_max) {
  const std::uint64_t blocks_max = bytes_max / kBlockBytes;
  for (std::size_t i = 0; i < kShards; ++i) {
    const std::uint64_t share = blocks_max / kShards + (i < blocks_max % kShards ? 1 : 0);
    shards_[i].table = ClockTable(static_cast<std::uint32_t>(share));
  }
}

BlockCache::Shard& BlockCache::shard_of(Address address) noexcept {
  constexpr unsigned kShardShift = 48;  // bits that the table of a shard does not use
  return shards_[(std::hash<Address>()(address) >> kShardShift) % kShards];
}

bool BlockCache::get(Address address, MutableBytes into) {
  VMS_ASSERT(into.size() == kBlockBytes);
  Shard& shard = shard_of(address);
  const std::lock_guard lock(shard.mutex);
  const auto place = shard.table.use(address);
  if (!place) return false;
  std::memcpy(into.data(), shard.blocks.get() + *place * kBlockBytes, kBlockBytes);
  return true;
}

void BlockCache::put(Address address, ByteSpan block) {
  VMS_ASSERT(block.size() == kBlockBytes);
  Shard& shard = shard_of(address);
  const std::lock_guard lock(shard.mutex);
  if (shard.table.capacity() == 0 || shard.table.contains(address)) return;
  if (shard.blocks == nullptr) {
    // Not zeroed: a page of memory is taken when the first block comes to lie in it.
    shard.blocks =
        std::make_unique_for_overwrite<std::byte[]>(shard.table.capacity() * kBlockBytes);
  }
  const std::uint32_t place = shard.table.insert(address);
  std::memcpy(shard.blocks.get() + place * kBlockBytes, block.data(), kBlockBytes);
}

void BlockCache::clear() {
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    shard.table.clear();
    shard.blocks.reset();
  }
}

std::uint64_t BlockCache::bytes() const {
  std::uint64_t total = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    total += shard.table.size() * kBlockBytes;
  }
  return total;
}

}  // namespace vmstore::disk
