// SPDX-License-Identifier: Apache-2.0
// Salvage: a sync of a key's data file failed. What was answered is made sure once more, without
// that file: its blocks go into a new one and the key is sealed at its length.
//
// What is in doubt after a failed sync: blocks that were written and that no earlier sync covered;
// the page cache may call them clean and still lose them. Of these the answered ones are in the
// ring (a large append is answered only after a sync that covers it), and until the tail moves
// behind them they can be taken from there. Log and sums never failed: they are synced as always.
//
// Invariants: the failed file is never synced again; the new one has its name only when it is
// synced; the head says "sealed" only after that; any doubt (a read error, a second failure) ends
// it, and the key is lost as it was before. A death in between leaves a key that the ring still
// describes: its replay begins anew.
#pragma once

#include <vector>

#include "base/files.h"
#include "storaged/journal_scan.h"
#include "storaged/key_files.h"

namespace vmstore::storaged {

struct SalvageWork {
  LogHead head;      // to be written: sealed, of the next generation
  bool copy = true;  // false: every answered block is synced, the file as it is will do
  std::vector<GroupPlace> groups;  // all that the ring holds
};

/// THREADS: one; blocks. `old`: the files as they were when the sync failed.
[[nodiscard]] Result<void> salvage(Files& files,
                                   KeyFiles& old,
                                   JournalScan& ring,
                                   const SalvageWork& work);

}  // namespace vmstore::storaged
