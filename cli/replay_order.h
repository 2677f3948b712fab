// SPDX-License-Identifier: Apache-2.0
// In which order, and when, a replay of a boot may send its requests. Pure: it is told the time.
//
// Invariants: a request is sent after every request that had ended when it began, and after the one
// before it in the trace; so never more are under way than were recorded, and there is always one
// to send or one to wait for.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

#include "cli/boot_trace.h"

namespace vmstore::cli {

/// What all replays of one trace share. Points into the trace.
struct ReplayPlan {
  explicit ReplayPlan(const BootTrace& from);
  const BootTrace* trace;
  std::vector<std::size_t> by_end;  // indices of requests, by their recorded end
  std::vector<std::size_t> rank;    // of each request in by_end
  std::vector<std::size_t> needs;   // of each request: so many of by_end, the first ones
};

class ReplayOrder {
 public:
  using Elapsed = std::chrono::nanoseconds;  // since the replay's start

  /// `paced`: not before the recorded time, moved by what the replay is late.
  ReplayOrder(const ReplayPlan& plan, bool paced);

  struct Due {
    std::size_t index = 0;
    Elapsed not_before{0};
  };
  /// The next request to send; empty when an answer must come first, or all are sent.
  [[nodiscard]] std::optional<Due> next();
  /// The request next() gave is on its way.
  void sent();
  void answered(std::size_t index, Elapsed at);
  /// Everything is answered.
  [[nodiscard]] bool is_over() const noexcept;

 private:
  const ReplayPlan& plan_;
  bool paced_;
  std::size_t next_ = 0;          // first request not sent yet
  std::size_t done_ = 0;          // so many of by_end are answered, without a gap
  std::size_t counted_ = 0;       // of these, taken into late_
  Elapsed late_{0};               // the most that what is counted was answered after its time
  std::vector<Elapsed> answers_;  // by rank; negative: none yet
};

}  // namespace vmstore::cli
