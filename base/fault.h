// SPDX-License-Identifier: Apache-2.0
// Named fault points, compiled in always, off unless a test turns one on.
//
// A point stands before and after each durable step: VMS_FAULT("journal.after_sync"). Real
// processes obey the environment variable VMSTORE_FAULT="point[:hits]=kill" and kill themselves at
// the n-th hit (default 1); the simulator installs a handler that freezes the node's files and
// network at that instant.
#pragma once

#include <atomic>
#include <functional>
#include <string_view>

namespace vmstore::fault {

using Handler = std::function<void(std::string_view point)>;

/// Installs the process-wide handler; an empty one turns faults off. THREADS: before others start,
/// or from the simulator's only thread.
void set_handler(Handler handler);
/// Reads VMSTORE_FAULT; a malformed value ends the process with a message.
void install_from_environment();

namespace detail {
extern std::atomic<bool> armed;
void reached(std::string_view point);
}  // namespace detail

inline void hit(std::string_view point) {
  if (detail::armed.load(std::memory_order_relaxed)) detail::reached(point);
}

}  // namespace vmstore::fault

#define VMS_FAULT(point) ::vmstore::fault::hit(point)
