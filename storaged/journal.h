// SPDX-License-Identifier: Apache-2.0
// Journal: the ring file. Pre-written, O_DIRECT|O_DSYNC, one group in flight at a time.
// docs/format/journal.md is the byte layout.
//
// Invariants: the space of a group is given to another only after a head with a tail behind it is
// on stable storage; a head is only written over the older of the two; a ring that is not there
// while keys are is damage, never a new store.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "storaged/aligned_buffer.h"
#include "storaged/journal_scan.h"
#include "storaged/ring_space.h"

namespace vmstore::storaged {

/// THREADS: blocking calls on a worker, one at a time each; the rest on the scheduler's.
class Journal {
 public:
  static constexpr std::string_view kPath = "journal";
  static constexpr std::string_view kNewPath = "journal.new";
  static constexpr std::uint64_t kBytesMin = limits::kMiB;

  /// Makes and pre-writes a ring of `bytes`; durable, and only then under its name. Blocks.
  [[nodiscard]] static Result<void> create(Files& files,
                                           std::uint64_t bytes,
                                           Incarnation incarnation);
  /// Opens and locks the ring and reads its head. `not_found`: there is none. `busy`: another
  /// process has it. `foreign_store`, `newer_format`, `corrupt`. Blocks.
  [[nodiscard]] static Result<std::unique_ptr<Journal>> open(Files& files);

  /// What must be replayed. Blocks.
  [[nodiscard]] Result<JournalContent> scan();
  /// Reads groups of the content again. The journal outlives it.
  [[nodiscard]] JournalScan reader() { return JournalScan(*file_, head_); }
  /// Everything of `content` is in the key files: begins anew behind it. Blocks.
  [[nodiscard]] Result<void> begin(const JournalContent& content, Incarnation incarnation);

  /// Encodes the next group into the buffer. REQUIRES: the previous one has ended; it has a place.
  [[nodiscard]] GroupPlace prepare(std::span<const OutgoingEntry> entries, std::uint64_t offset);
  /// Writes what prepare() encoded. Blocks.
  [[nodiscard]] Result<void> write_prepared(const GroupPlace& place);
  /// Size of the group that prepare() would make of these.
  [[nodiscard]] std::uint64_t next_group_bytes(
      std::span<const OutgoingEntry> entries) const noexcept;
  /// Bytes of entries (entry_bytes) that fit one group for sure.
  [[nodiscard]] std::uint64_t entries_bytes_max() const noexcept;

  /// Moves the tail behind group `number` on stable storage. Blocks; `head` from next_head().
  [[nodiscard]] Result<void> write_head(const RingHead& head);
  [[nodiscard]] RingHead next_head(std::uint64_t released_number, bool clean) const;
  /// After write_head(): the space is free. On the scheduler's thread.
  void head_written(const RingHead& head);

  [[nodiscard]] RingSpace& space() noexcept { return space_; }
  [[nodiscard]] const RingSpace& space() const noexcept { return space_; }
  [[nodiscard]] std::uint64_t last_number() const noexcept { return next_number_ - 1; }

 private:
  explicit Journal(std::unique_ptr<File> file) : file_(std::move(file)) {}
  std::unique_ptr<File> file_;
  RingHead head_;
  bool other_head_bad_ = false;
  RingSpace space_;
  AlignedBuffer buffer_;
  AlignedBuffer head_buffer_{kJournalUnitBytes};
  std::uint64_t next_number_ = 1;
  std::vector<KeyId> previous_keys_;  // of the newest group
};

}  // namespace vmstore::storaged
