// SPDX-License-Identifier: Apache-2.0
// CrashPoints: kills a simulated process at the n-th time it reaches a VMS_FAULT point, and counts
// which points were reached.
//
// Invariant: at most one CrashPoints exists; what other processes reach is counted apart and never
// kills the victim.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "tests/support/virtual_scheduler.h"

namespace vmstore::sim {

/// THREADS: the world's. While it lives it is the process-wide handler of vmstore::fault.
class CrashPoints {
 public:
  explicit CrashPoints(World& world);
  CrashPoints(const CrashPoints&) = delete;
  CrashPoints& operator=(const CrashPoints&) = delete;
  ~CrashPoints();

  /// Freezes `victim` at its `nth` hit (1 = the next) of `point`, or of any point when it is empty.
  /// Arming again replaces what was armed. `victim` outlives it or disarm().
  void arm(VirtualScheduler& victim, std::string point, std::uint64_t nth);
  void disarm() noexcept { victim_ = nullptr; }
  [[nodiscard]] bool is_armed() const noexcept { return victim_ != nullptr; }
  /// The point at which the last victim died; empty when none did.
  [[nodiscard]] const std::string& fired_at() const noexcept { return fired_at_; }
  /// How often each point was reached, by all processes.
  [[nodiscard]] const std::map<std::string, std::uint64_t, std::less<>>& hits() const noexcept {
    return hits_;
  }

 private:
  void reached(std::string_view point);
  World& world_;
  VirtualScheduler* victim_ = nullptr;
  std::string point_;
  std::uint64_t left_ = 0;
  std::string fired_at_;
  std::map<std::string, std::uint64_t, std::less<>> hits_;
};

}  // namespace vmstore::sim
