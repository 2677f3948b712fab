// SPDX-License-Identifier: Apache-2.0
// HolderLease: until when a session answers for a disk from what it has in memory. DESIGN 6, C3.
//
// A write is safe without it: a fence refuses it. A read meets no fence, so whoever holds a disk
// answers one only while a newer owner must still ask it first. Counted from before the node was
// asked, and a fifth shorter than the node counts, for clocks that run at different rates.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/limits.h"
#include "base/time.h"

namespace vmstore::disk {

/// THREADS: runs() any; the rest the scheduler's.
class HolderLease {
 public:
  /// A question to the node that is under way.
  struct Renewal {
    TimePoint sent;
    std::uint64_t round = 0;
  };

  [[nodiscard]] Renewal begin(TimePoint now) const noexcept { return {now, round_}; }
  /// Not dropped since.
  [[nodiscard]] bool is_current(const Renewal& renewal) const noexcept {
    return renewal.round == round_;
  }
  /// The node answered that the disk is held. Nothing when the lease was dropped meanwhile.
  void extend(const Renewal& renewal) noexcept {
    if (!is_current(renewal) || is_over_) return;
    until_ns_ = (renewal.sent + kTrusted).time_since_epoch().count();
  }
  /// extend() for a node that looked at the disk's record: there was no newer owner.
  void prove(const Renewal& renewal) noexcept {
    if (is_current(renewal) && !is_over_) is_proven_ = true;
    extend(renewal);
  }
  /// Ends now, and no question asked before counts any more. The next one has to be answered out of
  /// the record.
  void drop() noexcept {
    ++round_;
    is_proven_ = false;
    until_ns_ = 0;
  }
  /// The disk is given back: it runs no more before the next start().
  void end() noexcept {
    drop();
    is_over_ = true;
  }
  /// Of a new hold.
  void start() noexcept { is_over_ = false; }
  [[nodiscard]] bool is_over() const noexcept { return is_over_; }

  [[nodiscard]] bool runs(TimePoint now) const noexcept {
    return now.time_since_epoch().count() < until_ns_.load(std::memory_order_acquire);
  }
  [[nodiscard]] bool is_proven() const noexcept { return is_proven_; }

 private:
  static constexpr Duration kTrusted = Duration(limits::kLeaseTime) * 4 / 5;
  std::atomic<std::int64_t> until_ns_{0};
  std::uint64_t round_ = 0;
  bool is_proven_ = false;
  bool is_over_ = false;
};

}  // namespace vmstore::disk
