// SPDX-License-Identifier: Apache-2.0
// BlockCache: 4 KiB blocks by address, bounded in bytes: what came over the socket. Blocks that the
// local short cut can read are in the page cache of the kernel and not kept here.
//
// Invariants as in PageCache: immutable content, CLOCK eviction, the bound is never exceeded.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"

namespace vmstore::disk {

/// THREADS: any. One of the locks of disk/ (docs/threads.md), sharded; only a copy of 4 KiB is made
/// under it.
class BlockCache {
 public:
  explicit BlockCache(std::uint64_t bytes_max);
  /// Copies the block into `into` (4 KiB); false when it is not here.
  [[nodiscard]] bool get(Address address, MutableBytes into);
  /// REQUIRES: 4 KiB.
  void put(Address address, ByteSpan block);
  void clear();
  [[nodiscard]] std::uint64_t bytes() const;

 private:
  struct Place {
    Address address;
    bool referenced = false;
  };
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<Address, std::size_t> places;
    std::vector<Place> entries;
    std::vector<std::byte> bytes;  // entries.size() blocks
    std::size_t hand = 0;
  };
  static constexpr std::size_t kShards = 8;
  [[nodiscard]] Shard& shard_of(Address address);
  std::size_t entries_per_shard_;
  std::array<Shard, kShards> shards_;
};

}  // namespace vmstore::disk
