// SPDX-License-Identifier: Apache-2.0
// CPU time of processes, from /proc.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string_view>

namespace vmstore::cli {

/// User and system time in the text of a /proc/PID/stat whose unit is `ticks_per_second`; empty
/// when it is none.
[[nodiscard]] std::optional<std::chrono::microseconds> parse_cpu_time(
    std::string_view stat, std::uint64_t ticks_per_second);
/// Of the process and its ended threads; empty when there is no such process.
[[nodiscard]] std::optional<std::chrono::microseconds> cpu_time_of(pid_t pid);

}  // namespace vmstore::cli
