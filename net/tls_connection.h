// SPDX-License-Identifier: Apache-2.0
// TlsConnection: whole frames over TLS over a TCP socket. Made by AsioDialer and TlsListener.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
#include "net/asio_socket.h"
#include "net/connection.h"
#include "net/frame_reader.h"
#include "net/tls_session.h"

namespace vmstore::net {

/// Encrypts into memory and sends some records with one system call; a payload is decrypted to
/// where it stays. Carries no descriptors. An idle one holds no buffer.
class TlsConnection final : public Connection {
 public:
  TlsConnection(AsioSocket socket, TlsSession session);
  ~TlsConnection() override;

  /// Once, before anything else. The errors of TlsSession, and `timed_out` when it is not done
  /// within limits::kHandshakeTimeout. Then the peer may still be told why: see bid_farewell().
  [[nodiscard]] Task<Result<void>> handshake();
  /// After a handshake that failed: gives the peer a moment to read why, then closes. A socket
  /// closed with unread bytes would take back what was sent.
  [[nodiscard]] Task<void> bid_farewell();
  [[nodiscard]] const std::string& problem() const noexcept { return session_.problem(); }

  [[nodiscard]] Task<Result<void>> send(const wire::Frame& frame) override;
  [[nodiscard]] Task<Result<wire::Frame>> receive() override;
  void close() noexcept override;
  [[nodiscard]] PeerCredentials peer() const noexcept override;

 private:
  class Records;
  [[nodiscard]] Task<Result<void>> encrypt(ByteSpan bytes);
  [[nodiscard]] Task<Result<void>> flush();
  [[nodiscard]] Result<void> send_some();
  [[nodiscard]] Result<void> fetch();
  [[nodiscard]] Result<void> decrypt_some();
  [[nodiscard]] Task<Result<void>> await_more();

  AsioSocket socket_;
  TlsSession session_;
  FrameReader reader_;
  ReadBuffers::Buffer ciphertext_;  // what came and is not decrypted yet
  Event heard_;                     // something was read
  bool drained_ = false;
};

/// The dialling end's connection over a connected socket, after its handshake. `permission`: one
/// end does not take the other's certificate; `unsupported`: no TLS 1.3 there; `unavailable`: the
/// peer ended the handshake, or says nothing. The log tells more.
[[nodiscard]] Task<Result<std::unique_ptr<Connection>>> connect_tls(
    AsioSocket socket, std::shared_ptr<const TlsContext> context, std::string host);

}  // namespace vmstore::net
