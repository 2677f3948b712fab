// SPDX-License-Identifier: Apache-2.0
// Repair of a key's only copy, with loss: its log is cut at the damage, what was cut is kept.
//
// The prefix that is kept is the longest whose records are whole, of this key, and follow each
// other; in a key that is damaged, not only its log, their blocks must match their sums too. Only
// the log is cut: the blocks behind it stay, because pages and snapshots that are older than the
// damage may lie there, and each is checked by its own sum when it is read.
//
// Invariants: what is cut is on stable storage under its own name before anything is changed; the
// key gets new files (nothing is synced a second time on a file whose sync failed), the log last,
// whose head says "sealed"; the mark of a failed sync goes only after that. A death in between is
// mended by doing all of it again.
#pragma once

#include <optional>
#include <string>

#include "base/files.h"
#include "storaged/key_files.h"
#include "wire/record.h"

namespace vmstore::storaged {

/// Where the part of the log begins that is still needed: what lies before it is in pages.
struct RepairFrom {
  std::uint64_t log_offset = 0;  // 0: the key's first record
  Sequence sequence;             // of the record there
};

struct LogFinding {
  KeyId key;
  KeyLength known;                // as far as the key is said to reach
  KeyLength kept;                 // the longest prefix that is whole
  std::uint64_t last_record = 0;  // newest record of it; 0: none, or before `from`
  DiskId disk;
  WallTime kept_time;  // when the newest record kept was written
  [[nodiscard]] bool is_cut() const noexcept {
    return kept.last_sequence < known.last_sequence || kept.log_bytes < known.log_bytes;
  }
};

/// How much of the key is whole. `head_known`: its length can be believed; else it ends where its
/// records do. `check_blocks`: see above. `corrupt`: not even the first record is. Blocks.
[[nodiscard]] Result<LogFinding> inspect_log(
    KeyFiles& files, const LogHead& head, bool head_known, RepairFrom from, bool check_blocks);

/// "cut/0000000ab-17": with ".log" what was cut of the log, with ".data" the blocks it names. 17 is
/// the last sequence that was kept.
[[nodiscard]] std::string cut_path(KeyId key, Sequence kept);

/// Keeps what is cut, then makes `key` what `head` says: `head.length` is what is kept, and
/// `head.generation` the second of two that are free. Blocks.
[[nodiscard]] Result<void> cut_key(Files& files,
                                   KeyFiles& old,
                                   const LogHead& head,
                                   const LogFinding& finding);

}  // namespace vmstore::storaged
