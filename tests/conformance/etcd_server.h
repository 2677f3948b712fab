// SPDX-License-Identifier: Apache-2.0
// EtcdServer: a real etcd of one member on free loopback ports, in a folder of its own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "tests/conformance/temp_folder.h"

namespace vmstore {

/// THREADS: one. OWNS: the process, which ends with the object, and with the test at the latest.
class EtcdServer {
 public:
  /// Starts it and waits until it says that it is healthy.
  EtcdServer();
  EtcdServer(const EtcdServer&) = delete;
  EtcdServer& operator=(const EtcdServer&) = delete;
  ~EtcdServer();

  /// Starts it again on its ports and its data.
  void start();
  /// Asks it to end and waits.
  void stop();
  void kill();
  /// It keeps its connections and answers nothing.
  void pause();
  void resume();

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] std::string endpoint() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  [[nodiscard]] bool try_start();
  [[nodiscard]] bool is_healthy() const;
  void end(int signal);

  TempFolder folder_;
  std::uint16_t port_ = 0;
  std::uint16_t peer_port_ = 0;
  pid_t pid_ = -1;
};

/// A port of the loopback device that nobody listens at now.
[[nodiscard]] std::uint16_t free_port();

}  // namespace vmstore
