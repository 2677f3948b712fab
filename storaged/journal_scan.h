// SPDX-License-Identifier: Apache-2.0
// JournalScan: finds what a ring holds after a stop of any kind, and what of it is damaged.
//
// Invariants [R11]: one group is in flight at a time, so a group that cannot be read is the torn
// end only if no group with a higher number begins anywhere in the ring; else it is damage, and the
// keys it touched are named by its own directory or by its successor's list. If neither can be
// read, nobody knows what was lost and the scan refuses (`corrupt`). A read error is an error,
// never the end (F5).
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "storaged/aligned_buffer.h"
#include "storaged/journal_format.h"

namespace vmstore::storaged {

struct GroupPlace {
  std::uint64_t offset = 0;
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;
};

struct JournalContent {
  std::vector<GroupPlace> groups;  // in order, to be replayed
  std::set<KeyId> damaged_keys;    // an entry of these is lost: they are `unknown`, never cut
  std::set<KeyId> removed_keys;
  std::uint64_t end_offset = kRingStart;  // where the next group may be written
  std::uint64_t next_number = 1;          // higher than any number in the ring
};

/// THREADS: one; blocks.
class JournalScan {
 public:
  /// `file` outlives the scan; it may be open with O_DIRECT.
  JournalScan(File& file, const RingHead& head);
  [[nodiscard]] Result<JournalContent> run();
  /// Reads and decodes one group again.
  [[nodiscard]] Result<DecodedGroup> read_group(const GroupPlace& place);

 private:
  /// At least `bytes` of the ring from `offset` on, fewer only at its end.
  Result<ByteSpan> view(std::uint64_t offset, std::uint64_t bytes);
  /// `not_found` or `corrupt` when the group does not begin at `offset` or is damaged.
  Result<DecodedGroup> group_at(std::uint64_t offset, std::uint64_t number);
  /// The group where it must lie: at `offset`, or at the start of the ring if it did not fit there.
  Result<DecodedGroup> find_group(std::uint64_t* offset, std::uint64_t number);
  /// The lowest group start above `number` in the whole ring; `not_found` if there is none.
  Result<GroupPlace> search_above(std::uint64_t number);
  void take(JournalContent& content, std::uint64_t offset, const DecodedGroup& group) const;
  /// The group at `content.end_offset` cannot be read. `not_found`: it is the torn end.
  Result<void> step_over(JournalContent& content);

  File& file_;
  RingHead head_;
  AlignedBuffer window_;
  std::uint64_t window_offset_ = 0;
  std::size_t window_bytes_ = 0;
};

}  // namespace vmstore::storaged
