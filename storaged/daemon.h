// SPDX-License-Identifier: Apache-2.0
// Daemon: a Node with the production seams: event loop, worker threads, files, RocksDB, sockets.
// Thin on purpose: what decides anything is in Node, which the simulator runs.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "storaged/config.h"

namespace vmstore::storaged {

/// THREADS: made, started, stopped and destroyed by one thread, which blocks SIGTERM and SIGINT
/// before it makes one. OWNS: every thread of the process but that one.
class Daemon {
 public:
  explicit Daemon(Config config);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon();

  /// Takes the folder, replays, listens. Whatever went wrong was logged.
  [[nodiscard]] Result<void> start();
  /// Ends service in order: nothing new, sessions, rounds, journal, catalogue. Idempotent.
  void stop();

  /// Where it serves, for people and scripts.
  [[nodiscard]] const std::string& endpoint() const noexcept;
  /// Where /metrics is; empty when there is none.
  [[nodiscard]] std::string http() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vmstore::storaged
