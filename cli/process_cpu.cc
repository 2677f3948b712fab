// SPDX-License-Identifier: Apache-2.0
#include "cli/process_cpu.h"

#include <unistd.h>

#include <cstdint>
#include <limits>

#include "base/process.h"

namespace vmstore::cli {

std::optional<std::chrono::microseconds> cpu_time_of(pid_t pid) {
  constexpr std::uint64_t kMicros = 1'000'000;
  const long a_second = sysconf(_SC_CLK_TCK);
  if (pid <= 0 || a_second <= 0) return std::nullopt;
  const auto stat = read_process_stat(static_cast<std::uint64_t>(pid));
  if (!stat) return std::nullopt;
  const std::uint64_t ticks = stat->user_ticks + stat->system_ticks;
  if (ticks > std::numeric_limits<std::int64_t>::max() / kMicros) return std::nullopt;
  return std::chrono::microseconds(ticks * kMicros / static_cast<std::uint64_t>(a_second));
}

}  // namespace vmstore::cli
