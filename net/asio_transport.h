// SPDX-License-Identifier: Apache-2.0
// The production transport: unix sockets, and TCP: with TLS everywhere, without it on loopback only
// (tests and measurements). TlsListener is the listening end with TLS.
//
// Invariants: lengths are checked before memory is taken, and memory grows only with bytes that
// came; descriptors are close-on-exec, at most limits::kDescriptorsMax a frame, and closed when no
// frame announced them; an idle connection holds no buffer.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "net/connection.h"
#include "net/io_thread.h"
#include "net/socket_address.h"
#include "net/tls_context.h"

namespace vmstore::net {

/// A connection over a connected stream socket, which it owns. THREADS: of `io`, and it is
/// destroyed there.
[[nodiscard]] std::unique_ptr<Connection> adopt_socket(IoThread& io, int socket_fd);

/// THREADS: of `io`. Outlives the calls under way.
class AsioDialer final : public Dialer {
 public:
  /// With `tls`, every TCP connection is one of TLS.
  explicit AsioDialer(IoThread& io, std::shared_ptr<const TlsContext> tls = nullptr)
      : io_(io), tls_(std::move(tls)) {}
  /// `unavailable` when nobody listens there or nobody answers within limits::kConnectTimeout,
  /// `permission` when the socket may not be opened, `unsupported` for TCP beyond loopback without
  /// TLS; and the errors of connect_tls().
  [[nodiscard]] Task<Result<std::unique_ptr<Connection>>> dial(Endpoint endpoint) override;

 private:
  IoThread& io_;
  std::shared_ptr<const TlsContext> tls_;
};

struct ListenOptions {
  ::mode_t socket_mode = 0600;    // of a unix socket's file
  Reach reach = Reach::loopback;  // of a TCP address
};

/// THREADS: of `io`, but for listen(); destroyed on the thread of `io` or after its end.
class AsioListener final : public Listener {
 public:
  /// A unix socket's file that nobody listens at is replaced; `busy` when somebody does.
  /// `unsupported` for TCP beyond the options' reach. Port 0: the system picks one. THREADS: any.
  [[nodiscard]] static Result<std::unique_ptr<AsioListener>> listen(IoThread& io,
                                                                    const Endpoint& endpoint,
                                                                    const ListenOptions& options);
  ~AsioListener() override;

  /// Connections live on the listener's thread.
  [[nodiscard]] Task<Result<std::unique_ptr<Connection>>> accept() override;
  /// The same without a connection around it; the descriptor is the caller's.
  [[nodiscard]] Task<Result<int>> accept_socket();
  /// Removes the unix socket's file, too.
  void close() noexcept override;
  /// Where it listens, with the port the system picked.
  [[nodiscard]] const Endpoint& endpoint() const noexcept;

 private:
  struct State;
  explicit AsioListener(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace vmstore::net
