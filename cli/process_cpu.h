// SPDX-License-Identifier: Apache-2.0
// CPU time of processes, from /proc.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>

namespace vmstore::cli {

/// User and system time of the process and its ended threads; empty when there is
/// no such process.
[[nodiscard]] std::optional<std::chrono::microseconds> cpu_time_of(pid_t pid);

}  // namespace vmstore::cli
