// SPDX-License-Identifier: Apache-2.0
// Connection, Listener, Dialer: the transport seam, whole frames in order.
// Production: Asio over unix sockets, and TLS over TCP.
// Simulation: tests/support/sim_network.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/scheduler.h"
#include "base/task.h"
#include "net/certificate_name.h"
#include "wire/frame.h"

namespace vmstore::net {

struct PeerCredentials {
  bool same_host = false;  // unix socket
  std::uint32_t pid = 0;
  std::uint32_t uid = 0;
  std::shared_ptr<const CertificateName> certificate;  // TLS: who the store's authority says it is
};

/// THREADS: the scheduler's. At most one send and one receive at a time (RpcPeer sees to it).
class Connection {
 public:
  Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  virtual ~Connection() = default;

  /// Sends one sealed frame; its payload is gathered (writev), never copied. `disconnected` when
  /// the peer is gone. Returns when the kernel has taken it all: a peer that does not read pauses
  /// us.
  [[nodiscard]] virtual Task<Result<void>> send(const wire::Frame& frame) = 0;
  /// The next frame, checked. `bad_frame` / `disconnected` end the connection. Small control
  /// messages and payloads are read with as few system calls as possible.
  [[nodiscard]] virtual Task<Result<wire::Frame>> receive() = 0;
  /// Ends both directions; pending calls return `closing`. Idempotent.
  virtual void close() noexcept = 0;
  [[nodiscard]] virtual PeerCredentials peer() const noexcept = 0;
  /// The process at the other end certainly runs no more: it did not just close its end. False when
  /// that cannot be told, as over a network.
  [[nodiscard]] virtual bool is_peer_gone() const noexcept { return false; }
};

/// "unix:/path", "/path", "address:port" or "tcp://address:port".
struct Endpoint {
  std::string text;
};

class Dialer {
 public:
  virtual ~Dialer() = default;
  [[nodiscard]] virtual Task<Result<std::unique_ptr<Connection>>> dial(Endpoint endpoint) = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  [[nodiscard]] virtual Task<Result<std::unique_ptr<Connection>>> accept() = 0;
  virtual void close() noexcept = 0;
};

}  // namespace vmstore::net
