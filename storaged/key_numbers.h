// SPDX-License-Identifier: Apache-2.0
// The key numbers of a store: drawn from the catalogue's counter in ranges, handed out in pieces.
//
// Invariants: a number is handed out once in the life of a store: what is handed out was taken off
// the durable counter before; what a restart, a lost answer or too small a rest leaves over is
// never handed out. Only nodes write the counter, and it only rises. Those who ask take turns: of
// each one draw is in the queue, however many it has sent.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "base/ids.h"
#include "base/result.h"
#include "base/scheduler.h"
#include "base/sync.h"
#include "base/task.h"
#include "meta/meta_store.h"

namespace vmstore::storaged {

/// THREADS: the scheduler's.
class KeyNumbers {
 public:
  KeyNumbers(Scheduler& scheduler, meta::MetaStore& meta) noexcept
      : scheduler_(scheduler), meta_(meta), mutex_(scheduler) {}

  /// Somebody who draws: a session. Outlives its draws.
  class Asker {
   public:
    /// Once `is_gone` says so, its draws that wait are not carried out.
    Asker(Scheduler& scheduler, std::function<bool()> is_gone)
        : turn_(scheduler), is_gone_(std::move(is_gone)) {}

   private:
    friend class KeyNumbers;
    TaskMutex turn_;
    std::function<bool()> is_gone_;
  };

  /// The first of `count` numbers in a row that nobody had before and that are above all that this
  /// object handed out. `invalid_argument`: none, or more than limits::kKeyDrawMax; `no_space`:
  /// the numbers are used up; `unavailable`: the catalogue gives no answer; `disconnected`: nobody
  /// would get them.
  [[nodiscard]] Task<Result<std::uint64_t>> draw(Asker& asker, std::uint64_t count);

 private:
  /// A new range, of at least `least` numbers.
  [[nodiscard]] Task<Result<void>> take_range(std::uint64_t least);

  Scheduler& scheduler_;
  meta::MetaStore& meta_;
  TaskMutex mutex_;         // one takes a range, the others wait for it
  std::uint64_t next_ = 0;  // of the range
  std::uint64_t end_ = 0;
};

}  // namespace vmstore::storaged
