// SPDX-License-Identifier: Apache-2.0
// Replays of a recorded boot over NBD connections: one connection and one thread each, all started
// at the same moment.
//
// What is written is noise that differs from replay to replay; what is read is thrown away.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cli/failure.h"
#include "cli/replay_order.h"

namespace vmstore::cli {

/// Where a boot is replayed.
struct ReplayTarget {
  std::string name;  // for people
  std::string uri;   // NBD
};

struct ReplayedRequest {
  TraceOp op = TraceOp::read;
  std::chrono::nanoseconds took{0};
};

struct ReplayedBoot {
  std::chrono::nanoseconds took{0};  // from the common start to the last answer
  std::vector<ReplayedRequest> requests;
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  std::uint64_t skipped = 0;  // requests of a kind that the server does not offer
};

struct ReplayHooks {
  std::function<void()> before;  // all are connected, nothing is sent yet
  std::function<void()> after;   // everything is answered, all are still connected
};

/// What is said of a disk on which the trace has no room.
[[nodiscard]] Failure too_small_for(const BootTrace& trace, const std::string& name);

/// One boot per target; the first failure of any, once all have ended. `integrity` when a target is
/// smaller than the trace's disk.
[[nodiscard]] Answer<std::vector<ReplayedBoot>> replay_boots(
    const BootTrace& trace,
    bool paced,
    const std::vector<ReplayTarget>& targets,
    const ReplayHooks& hooks);

}  // namespace vmstore::cli
