// SPDX-License-Identifier: Apache-2.0
// Logging: one line to stderr with a journald priority when stderr is the journal. Errors are
// logged once, where they are born, with ids; block data and secrets never.
#pragma once

#include <sstream>
#include <string_view>

namespace vmstore {

enum class LogLevel { debug, info, warning, error };

/// Lines below this level are dropped. THREADS: any.
void set_log_level(LogLevel level) noexcept;
[[nodiscard]] bool log_enabled(LogLevel level) noexcept;
/// THREADS: any; lines never interleave.
void log_line(LogLevel level, std::string_view area, std::string_view text);

}  // namespace vmstore

/// VMS_LOG(warning, "journal", "group " << n << " is damaged");
#define VMS_LOG(level, area, stream)                                             \
  do {                                                                           \
    if (::vmstore::log_enabled(::vmstore::LogLevel::level)) {                    \
      std::ostringstream vms_log_text;                                           \
      vms_log_text << stream; /* NOLINT */                                       \
      ::vmstore::log_line(::vmstore::LogLevel::level, area, vms_log_text.str()); \
    }                                                                            \
  } while (false)
