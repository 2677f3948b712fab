// SPDX-License-Identifier: Apache-2.0
// Trash: removed disks are kept for a day, then they are gone for good.
//
// Why a wrong clock does not take a disk away early: the catalogue says when a disk was removed by
// the wall clock of then, so an entry counts as old only when this process has seen it as old for
// kTrashDoubt of its own steady clock; a clock that was set ahead and is put right in that time
// removes nothing.
#pragma once

#include <cstdint>
#include <map>

#include "base/ids.h"
#include "base/result.h"
#include "base/scheduler.h"
#include "base/task.h"
#include "base/time.h"
#include "meta/meta_store.h"
#include "meta/records.pb.h"

namespace vmstore::storaged {

inline constexpr Duration kTrashTime = std::chrono::hours(24);
inline constexpr Duration kTrashDoubt = std::chrono::hours(1);

/// THREADS: the scheduler's. Both outlive it.
class Trash {
 public:
  Trash(Scheduler& scheduler, meta::MetaStore& meta) : scheduler_(scheduler), meta_(meta) {}
  Trash(const Trash&) = delete;
  Trash& operator=(const Trash&) = delete;

  /// Removes what has been in the trash for long enough; their space comes back with the next round
  /// of garbage collection. The number of disks removed. A disk that is restored meanwhile stays.
  [[nodiscard]] Task<Result<std::uint64_t>> empty_old();

 private:
  [[nodiscard]] bool is_old(DiskId disk, std::uint64_t trashed_ns);
  [[nodiscard]] Task<Result<void>> remove(DiskId disk, std::uint64_t revision);

  Scheduler& scheduler_;
  meta::MetaStore& meta_;
  std::map<DiskId, TimePoint> old_since_;
};

}  // namespace vmstore::storaged
