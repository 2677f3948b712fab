// SPDX-License-Identifier: Apache-2.0
// Leases: which session holds which disk, and until when. Pure bookkeeping, no waiting.
//
// A lease says how the holder is reached and when a takeover may begin; safety is the fence
// (DESIGN 6, RELIABILITY promise 6). So nothing here is written down: after a start of the node
// every disk whose record says that it is held counts as held for one full term [R17], and a holder
// that registers again has its own back at once.
//
// Invariants: at most one hold of a disk; a hold of a higher epoch replaces a lower one, never the
// other way round; an epoch belongs to one owner, so the same epoch from another session is the
// same owner with a new connection.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"

namespace vmstore::storaged {

/// THREADS: one.
class Leases {
 public:
  /// `started`: when the node began to serve.
  Leases(TimePoint started, Duration term) : started_(started), term_(term) {}

  struct Hold {
    Epoch epoch;
    SessionId session;
    TimePoint renewed;      // newest frame of the session
    bool connected = true;  // false: its connection is gone, the lease runs out
  };

  /// `stale_token`: a newer epoch holds it.
  [[nodiscard]] Result<void> hold(DiskId disk, Epoch epoch, SessionId session, TimePoint now);
  /// Gives up a hold of this session and epoch; another one's is left alone.
  void release(DiskId disk, Epoch epoch, SessionId session) noexcept;
  /// A frame of the session arrived at `when`: its leases begin again.
  void renew(SessionId session, TimePoint when) noexcept;
  /// The session's connection ended. `is_gone`: so did its process; else the leases run out by
  /// themselves, because it may go on answering for its disks from what it has.
  void end_session(SessionId session, bool is_gone) noexcept;
  /// The disks of `asked` that `session` does not hold.
  [[nodiscard]] std::vector<DiskId> lost(SessionId session, const std::vector<DiskId>& asked) const;

  /// Forgets leases without a connection that have run out.
  void expire(TimePoint now) noexcept;

  /// The hold, its lease run out or not.
  [[nodiscard]] std::optional<Hold> find(DiskId disk) const;
  /// The hold if its lease has not run out.
  [[nodiscard]] std::optional<Hold> holder(DiskId disk, TimePoint now) const;
  [[nodiscard]] Duration left(const Hold& hold, TimePoint now) const noexcept;
  /// What is left of the term that unregistered holders have after a start; zero when it is over.
  [[nodiscard]] Duration grace_left(TimePoint now) const noexcept;

  [[nodiscard]] std::size_t count() const noexcept { return holds_.size(); }
  [[nodiscard]] std::size_t count(SessionId session) const noexcept;

 private:
  TimePoint started_;
  Duration term_;
  std::unordered_map<DiskId, Hold> holds_;
  std::unordered_map<SessionId, std::vector<DiskId>> by_session_;
  void forget_of_session(SessionId session, DiskId disk) noexcept;
};

}  // namespace vmstore::storaged
