// SPDX-License-Identifier: Apache-2.0
// PageCache: index pages by address, bounded in bytes, shared by the disks of a process.
//
// Pages are immutable and addresses are never reused, so nothing is ever invalidated; eviction is
// CLOCK (Corbató 1968): a page read since the hand came by stays for another round.
// Invariants: bytes in use never exceed the bound; a page handed out lives as long as its reader.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "snapshot/page.h"

namespace vmstore::disk {

/// THREADS: any. One of the locks of disk/ (docs/threads.md), sharded; nothing is called under it.
class PageCache {
 public:
  explicit PageCache(std::uint64_t bytes_max);
  [[nodiscard]] snapshot::PagePtr get(Address address);
  void put(Address address, snapshot::PagePtr page);
  void clear();
  [[nodiscard]] std::uint64_t bytes() const;

 private:
  struct Entry {
    Address address;
    snapshot::PagePtr page;  // null: the place is free
    bool referenced = false;
  };
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<Address, std::size_t> places;
    std::vector<Entry> entries;
    std::size_t hand = 0;
  };
  static constexpr std::size_t kShards = 8;
  [[nodiscard]] Shard& shard_of(Address address);
  std::size_t entries_per_shard_;
  std::array<Shard, kShards> shards_;
};

}  // namespace vmstore::disk
