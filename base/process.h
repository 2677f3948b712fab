// SPDX-License-Identifier: Apache-2.0
// What the kernel says of a process, in /proc/PID/stat (proc(5)).
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace vmstore {

/// Times in clock ticks (sysconf(_SC_CLK_TCK) a second).
struct ProcessStat {
  std::uint64_t user_ticks = 0;
  std::uint64_t system_ticks = 0;
  std::uint64_t start_ticks = 0;  // since the boot: a number used again is another process
  /// Ended, or on its way out: its first thread runs nothing of the program any more.
  bool is_over = false;
};

/// `not_found`: there is no such process, or its /proc is of another space of process ids.
/// `unknown`: the text is none that a kernel writes. Other errors of the file. THREADS: any.
[[nodiscard]] Result<ProcessStat> read_process_stat(std::uint64_t pid);
/// The text of the file.
[[nodiscard]] Result<ProcessStat> parse_process_stat(std::string_view text);

}  // namespace vmstore
