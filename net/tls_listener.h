// SPDX-License-Identifier: Apache-2.0
// TlsListener: hands out connections whose peer has shown a certificate of the store.
//
// Invariants: a peer in its handshake keeps nobody waiting and costs one socket for at most
// limits::kHandshakeTimeout (and a moment to read why it was refused); of more than kHandshakesMax
// the oldest is dropped, so that peers that stall cannot shut out those that do not.
#pragma once

#include <memory>

#include "net/connection.h"
#include "net/io_thread.h"
#include "net/tls_context.h"

namespace vmstore::net {

inline constexpr std::size_t kHandshakesMax = 256;

/// THREADS: of `io`, but for listen(); destroyed on the thread of `io` or after its end.
class TlsListener final : public Listener {
 public:
  /// At a TCP address, any of this host's. Errors as AsioListener::listen(). THREADS: any.
  [[nodiscard]] static Result<std::unique_ptr<TlsListener>> listen(
      IoThread& io, const Endpoint& endpoint, std::shared_ptr<const TlsContext> context);
  ~TlsListener() override;

  /// The next peer whose handshake succeeded.
  [[nodiscard]] Task<Result<std::unique_ptr<Connection>>> accept() override;
  /// Ends handshakes under way, too.
  void close() noexcept override;
  /// Where it listens, with the port the system picked.
  [[nodiscard]] const Endpoint& endpoint() const noexcept;

 private:
  struct State;
  explicit TlsListener(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // shared with the tasks of handshakes
};

}  // namespace vmstore::net
