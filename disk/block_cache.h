// SPDX-License-Identifier: Apache-2.0
// BlockCache: 4 KiB blocks by address, bounded in bytes: what came over the socket. Blocks that the
// local short cut can read are in the page cache of the kernel and not kept here.
//
// Invariants as in PageCache: immutable content, the bound is never exceeded, nothing waits for
// anything. Blocks are copied in and out, so nobody ever looks at a place that is used again.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/bytes.h"
#include "base/ids.h"
#include "disk/clock_table.h"

namespace vmstore::disk {

/// THREADS: any. One of the locks of disk/ (docs/threads.md), sharded; only a copy of 4 KiB is made
/// under it.
class BlockCache {
 public:
  explicit BlockCache(std::uint64_t bytes_max);
  /// Copies the block into `into` (4 KiB); false when it is not here.
  [[nodiscard]] bool get(Address address, MutableBytes into);
  /// Keeps what is there: a block never changes. REQUIRES: 4 KiB.
  void put(Address address, ByteSpan block);
  void clear();
  [[nodiscard]] std::uint64_t bytes() const;

 private:
  static constexpr std::size_t kShards = 16;
  static constexpr std::size_t kCacheLine = 64;
  struct alignas(kCacheLine) Shard {
    mutable std::mutex mutex;
    ClockTable table{0};
    std::unique_ptr<std::byte[]>
        blocks;  // of the table's capacity, by place; from the first put on
  };
  [[nodiscard]] Shard& shard_of(Address address) noexcept;
  std::array<Shard, kShards> shards_;
};

}  // namespace vmstore::disk
