// SPDX-License-Identifier: Apache-2.0
// PageCache: index pages by address, bounded in bytes, shared by the disks of a process.
//
// Pages are immutable and addresses are never reused, so nothing is ever invalidated.
// Invariants: the bytes held never exceed the bound (pages that only readers still hold do not
// count); a page handed out lives as long as its reader, so eviction never waits for anybody (N7).
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "disk/clock_table.h"
#include "snapshot/page.h"

namespace vmstore::disk {

/// THREADS: any. One of the locks of disk/ (docs/threads.md), sharded; nothing is called and no
/// page is freed under it.
class PageCache {
 public:
  /// What one page costs: its content, the count beside it, its place in the table.
  static constexpr std::uint64_t kPageCost = sizeof(snapshot::Page) + 80;

  explicit PageCache(std::uint64_t bytes_max);
  [[nodiscard]] snapshot::PagePtr get(Address address);
  /// One entry of the page at `address`, without the cost of sharing the page: counting its users
  /// up and down is what the readers of a hot top page would contend for. Empty: not here.
  [[nodiscard]] std::optional<Address> entry(Address address, std::size_t index);
  /// Keeps what is there: a page never changes.
  void put(Address address, snapshot::PagePtr page);
  void clear();
  [[nodiscard]] std::uint64_t bytes() const;

 private:
  static constexpr std::size_t kShards = 16;
  static constexpr std::size_t kCacheLine = 64;
  struct alignas(kCacheLine) Shard {
    mutable std::mutex mutex;
    ClockTable table{0};
    std::vector<snapshot::PagePtr> pages;  // by place
  };
  [[nodiscard]] Shard& shard_of(Address address) noexcept;
  std::array<Shard, kShards> shards_;
};

}  // namespace vmstore::disk
