// SPDX-License-Identifier: Apache-2.0
// StopSignal: SIGUSR1 asks for a planned stop. The work is done on a thread, never in a handler.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "base/result.h"

namespace vmstore::nbd_plugin {

/// THREADS: any. OWNS: a thread.
class StopSignal {
 public:
  /// From now on the signal waits for watch() and does not end the process. THREADS: the first one,
  /// before any other starts: they inherit it.
  static void block() noexcept;
  /// `on_stop` runs at most once, on a thread of its own. REQUIRES: block().
  [[nodiscard]] static Result<std::unique_ptr<StopSignal>> watch(std::function<void()> on_stop);
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  /// Ends the watch; waits for on_stop if it runs.
  ~StopSignal();

 private:
  StopSignal(int signal_fd, int end_fd, std::function<void()> on_stop)
      : signal_fd_(signal_fd), end_fd_(end_fd), on_stop_(std::move(on_stop)) {}
  void run();

  const int signal_fd_;
  const int end_fd_;
  const std::function<void()> on_stop_;
  std::thread thread_;
};

}  // namespace vmstore::nbd_plugin
