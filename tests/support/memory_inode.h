// SPDX-License-Identifier: Apache-2.0
// MemoryInode: the content of one simulated file: sparse 4 KiB pages, the space they take, and
// every change that was not synced yet, so that a power cut can keep, drop or tear it.
//
// Invariants: read() shows every change made; after sync() the next power cut keeps what is there;
// a change that was not synced is kept or dropped by each 512-byte sector on its own, but a punched
// page, a truncation and an allocation are each kept or dropped as a whole; the size after a power
// cut is the synced one, the present one, or on the way between them.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/random.h"

namespace vmstore::sim {

/// Disjoint half-open ranges of numbers.
class RangeSet {
 public:
  void add(std::uint64_t begin, std::uint64_t end);
  void remove(std::uint64_t begin, std::uint64_t end);
  [[nodiscard]] bool contains(std::uint64_t number) const;
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t count_in(std::uint64_t begin, std::uint64_t end) const;

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;  // begin → end
  std::uint64_t count_ = 0;
};

/// THREADS: externally synchronised.
class MemoryInode {
 public:
  static constexpr std::uint64_t kPageBytes = 4096;
  static constexpr std::uint64_t kSector = 512;
  static constexpr std::uint64_t kSectorsPerPage = kPageBytes / kSector;

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint64_t allocated_pages() const noexcept {
    return reserved_.count() + loose_;
  }
  /// Pages that [offset, offset+length) would take in addition.
  [[nodiscard]] std::uint64_t missing_pages(std::uint64_t offset, std::uint64_t length) const;
  /// How many bytes from `offset` on can be written with `pages` more pages.
  [[nodiscard]] std::uint64_t writable_bytes(std::uint64_t offset,
                                             std::uint64_t length,
                                             std::uint64_t pages) const;

  std::size_t read(std::uint64_t offset, MutableBytes into) const;
  void write(std::uint64_t offset, ByteSpan bytes);
  void allocate(std::uint64_t offset, std::uint64_t length);
  void punch(std::uint64_t offset, std::uint64_t length);
  void truncate(std::uint64_t size);

  void sync();
  /// What O_DSYNC promises for one write.
  void sync_range(std::uint64_t offset, std::uint64_t length);
  /// Keeps or drops each change that was not synced; then all is clean. A power cut, and what a
  /// failed sync leaves behind.
  void settle(Random& random);
  [[nodiscard]] bool is_dirty() const noexcept;

  /// Flips one bit where the file has data; false in a hole.
  bool flip_bit(std::uint64_t offset, unsigned bit);

 private:
  using PageBytes = std::array<std::byte, kPageBytes>;
  enum class ChangeKind : std::uint8_t { write, punch, truncate };
  /// What some sectors of a page held before a change.
  struct Change {
    ChangeKind kind = ChangeKind::write;
    std::uint8_t sectors = 0;
    std::uint64_t truncation = 0;
    std::unique_ptr<PageBytes> old;  // null: zeros
  };
  struct Page {
    std::unique_ptr<PageBytes> data;  // null: reads as zeros
    std::vector<Change> changes;      // oldest first
  };
  struct SizeChange {
    std::uint64_t old_size = 0;
    std::uint64_t truncation = 0;  // 0: grown by a write
  };
  using Pages = std::map<std::uint64_t, Page>;

  static constexpr std::size_t kChangesPerPageMax = 8;
  static constexpr std::size_t kSizeChangesMax = 64;

  Page& page_to_change(std::uint64_t number);
  void remember(Page& page, Change change);
  void write_in_page(std::uint64_t number, std::uint64_t at, ByteSpan bytes);
  void zero_in_page(std::uint64_t number,
                    std::uint64_t from,
                    std::uint64_t to,
                    ChangeKind kind,
                    std::uint64_t truncation);
  void drop_pages(std::uint64_t first,
                  std::uint64_t end,
                  ChangeKind kind,
                  std::uint64_t truncation);
  void note_size(std::uint64_t truncation);
  [[nodiscard]] std::uint64_t settled_size(Random& random, std::map<std::uint64_t, bool>& kept);
  void settle_page(Page& page, Random& random, std::map<std::uint64_t, bool>& kept);
  void cut_content(std::uint64_t size);
  void recount();

  std::uint64_t size_ = 0;
  Pages pages_;
  RangeSet reserved_;        // page numbers with space from allocate(), with or without data
  std::uint64_t loose_ = 0;  // pages with data outside reserved_
  std::vector<std::uint64_t> dirty_pages_;
  std::vector<SizeChange> size_changes_;  // oldest first
  std::optional<RangeSet> reserved_before_;
  std::uint64_t truncations_ = 0;
};

}  // namespace vmstore::sim
