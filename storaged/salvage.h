// SPDX-License-Identifier: Apache-2.0
// Salvage: a sync of one of a key's files failed. What was answered is made sure once more, without
// that file: what it held goes into a new one and the key is sealed at its length.
//
// What is in doubt after a failed sync: what was written and no earlier sync covered; the page
// cache may call it clean and still lose it. All of that which was answered is in the ring until
// the tail moves behind it: records with their sums, punches, and small blocks (a large append is
// answered only after a sync of its blocks, and its header is in the ring). So each new file is the
// old one as far as it goes, and over it what the ring holds. When data failed, log and sums are
// synced as always; when one of those failed, both are written anew.
//
// Invariants: the failed file is never synced again; a new one has its name only when it is synced,
// the log last; the head says "sealed" only after that; any doubt (a read error, a second failure)
// ends it, and the key is lost as it was before. A death in between leaves a key that the ring
// still describes, in old files and new ones alike: its replay begins anew.
#pragma once

#include <vector>

#include "base/files.h"
#include "storaged/journal_scan.h"
#include "storaged/key_files.h"

namespace vmstore::storaged {

struct SalvageWork {
  LogHead head;          // to be written: sealed, of the next generation
  bool copy = true;      // false: every answered block is synced, the file as it is will do
  bool records = false;  // log and sums are in doubt, too
  std::vector<GroupPlace> groups;  // all that the ring holds
};

/// THREADS: one; blocks. `old`: the files as they were when the sync failed.
[[nodiscard]] Result<void> salvage(Files& files,
                                   KeyFiles& old,
                                   JournalScan& ring,
                                   const SalvageWork& work);

}  // namespace vmstore::storaged
