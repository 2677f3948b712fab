// SPDX-License-Identifier: Apache-2.0
// Ctrl-C, SIGTERM and --timeout: outside a KeepGoing scope they end the process at once; inside one
// the first only raises a flag, so that the work can stop at a safe point and clean up, and the
// second ends the process.
#pragma once

#include <chrono>

#include "cli/failure.h"

namespace vmstore::cli {

/// Installs the handlers. Called once, before threads start.
void install_interrupt_handlers();
/// From now on the process may take this long, then it is stopped with exit code 6.
void limit_time(std::chrono::milliseconds timeout);
/// Whether the work has to stop. THREADS: any.
[[nodiscard]] bool interrupted() noexcept;
/// Why: interrupted (130) or timed out (6). REQUIRES: interrupted().
[[nodiscard]] Failure interruption();

/// While one lives, an interrupt waits for the work to notice. Scopes may nest.
class KeepGoing {
 public:
  KeepGoing() noexcept;
  KeepGoing(const KeepGoing&) = delete;
  KeepGoing& operator=(const KeepGoing&) = delete;
  ~KeepGoing();
};

}  // namespace vmstore::cli
