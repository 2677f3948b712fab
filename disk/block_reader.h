// SPDX-License-Identifier: Apache-2.0
// BlockReader: bytes of blocks by address: block cache, local short cut, node.
//
// Invariants: every block handed out was checked against its sum in this process or by the node and
// again here (I8); a mismatch in the short cut is only a miss: the node is asked, and only the node
// may declare corruption [H5]; `punched` and `not_found` are returned as they are, because the
// caller must look the block up again before it calls them damage.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/sync.h"
#include "disk/block_cache.h"
#include "disk/copies.h"
#include "disk/page_cache.h"
#include "snapshot/index.h"

namespace vmstore::disk {

/// One key's descriptors on this host. Closed with the last user.
class KeyFilesHandle {
 public:
  KeyFilesHandle(int data_fd, int sums_fd) noexcept : data_fd_(data_fd), sums_fd_(sums_fd) {}
  KeyFilesHandle(const KeyFilesHandle&) = delete;
  KeyFilesHandle& operator=(const KeyFilesHandle&) = delete;
  ~KeyFilesHandle();
  /// Reads and checks blocks; false when anything is missing or does not match. THREADS: any.
  [[nodiscard]] bool read(BlockIndex first, MutableBytes into) const;
  /// Whether it was read from since the last call.
  [[nodiscard]] bool take_used() noexcept { return used_.exchange(false); }

 private:
  mutable std::atomic<bool> used_{true};
  int data_fd_;
  int sums_fd_;
};

/// Contiguous blocks wanted: `into` is a multiple of 4 KiB.
struct BlockWant {
  Address address;
  MutableBytes into;
};

/// One per process. THREADS: try_read from any; the rest on the scheduler's.
class BlockReader {
 public:
  BlockReader(Copies& copies, PageCache& pages, BlockCache& blocks);
  BlockReader(const BlockReader&) = delete;
  BlockReader& operator=(const BlockReader&) = delete;

  /// Serves what the caches and the short cut have, on the calling thread, reading files if need
  /// be; false when the node must be asked. Never blocks on the network.
  [[nodiscard]] bool try_read(Address address, MutableBytes into);
  /// Reads everything wanted, asking the nodes for what the caches do not have. On `punched` or
  /// `not_found` nothing is guaranteed about `into`.
  [[nodiscard]] Task<Result<void>> read(std::vector<BlockWant> wants);
  /// The page at `address` through the page cache.
  [[nodiscard]] Task<Result<snapshot::PagePtr>> load_page(Address address);
  /// The page if it is in memory or can be read by the short cut; else null. THREADS: any.
  [[nodiscard]] snapshot::PagePtr try_page(Address address);
  /// Forgets the descriptors of every key (a new session: the node may have other files).
  void forget_files();
  /// Closes the descriptors of keys not read since the last call: a deleted key's space comes back
  /// only when nobody holds its files open.
  void close_unused_files();
  /// Drops every cached block and page.
  void evict();

 private:
  [[nodiscard]] std::shared_ptr<KeyFilesHandle> handle_of(KeyId key) const;
  [[nodiscard]] Task<void> want_handle(KeyId key);
  [[nodiscard]] Task<Result<void>> read_from_nodes(std::vector<BlockWant> wants);

  Copies& copies_;
  PageCache& pages_;
  BlockCache& blocks_;
  static constexpr std::size_t kHandlesMax = 256;
  mutable std::shared_mutex handles_mutex_;  // one of the locks of disk/, docs/threads.md
  std::unordered_map<KeyId, std::shared_ptr<KeyFilesHandle>> handles_;
  std::unordered_map<KeyId, bool> refused_;  // keys without a short cut; scheduler's thread only
};

/// The page source of the index functions.
class ReaderPages final : public snapshot::PageSource {
 public:
  explicit ReaderPages(BlockReader& reader) noexcept : reader_(reader) {}
  [[nodiscard]] Task<Result<snapshot::PagePtr>> load(Address address) override {
    return reader_.load_page(address);
  }

 private:
  BlockReader& reader_;
};

}  // namespace vmstore::disk
