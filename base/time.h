// SPDX-License-Identifier: Apache-2.0
// Time types. Steady time decides; wall time is only written down, never compared for safety.
#pragma once

#include <chrono>

namespace vmstore {

using Duration = std::chrono::nanoseconds;
/// Steady time of one process; its zero means nothing.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;
/// Nanoseconds since 1970 UTC.
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

using namespace std::chrono_literals;  // NOLINT: units are the point

}  // namespace vmstore
