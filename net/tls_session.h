// SPDX-License-Identifier: Apache-2.0
// TlsSession: one end of a TLS connection, as bytes in and bytes out. Names no socket.
//
// Invariants: nothing is decrypted or encrypted for the user before the handshake ended with a peer
// whom the store's authority signed, for the role and the store expected here; a session that
// failed stays failed; no buffer of it grows but by what the caller puts in.
#pragma once

#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "net/tls_context.h"

namespace vmstore::net {

/// THREADS: one.
class TlsSession {
 public:
  /// The end that was dialled: takes every role of its own store.
  [[nodiscard]] static TlsSession accepting(std::shared_ptr<const TlsContext> context);
  /// The end that dials: takes only a node, of its own store, whose certificate names `host` (a
  /// name or an IP address).
  [[nodiscard]] static TlsSession dialling(std::shared_ptr<const TlsContext> context,
                                           std::string host);
  TlsSession(TlsSession&& other) noexcept;
  TlsSession& operator=(TlsSession&&) = delete;
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;
  ~TlsSession();

  // All three look at what came and may leave bytes to send, also when they fail (an alert tells
  // the peer why). `busy`: more bytes are needed. `permission`: one end does not take the other's
  // certificate; `bad_frame`: this is no TLS, or not such as is spoken here; `disconnected`: the
  // peer ended the session in order. problem() says more.
  [[nodiscard]] Result<void> handshake();
  /// At least one byte of plaintext. REQUIRES: handshake() succeeded, for write() as well.
  [[nodiscard]] Result<std::size_t> read(MutableBytes into);
  /// Encrypts all of it. At most 16 KiB make one record, which adds 22 bytes. `busy`: a message
  /// of the peer's is here in part; the same again after the next read().
  [[nodiscard]] Result<void> write(ByteSpan bytes);
  /// The records to come get a new key; write() does it by itself in time.
  void renew_key();

  /// What came from the network; looked at, and taken from, by the calls above.
  void put_received(ByteSpan bytes) noexcept;
  [[nodiscard]] std::size_t received_left() const noexcept;
  /// What is to be sent. Valid until the next call.
  [[nodiscard]] ByteSpan outgoing() const noexcept;
  void sent(std::size_t bytes) noexcept;

  /// Who the peer is. REQUIRES: handshake() succeeded.
  [[nodiscard]] const std::shared_ptr<const CertificateName>& peer() const noexcept;
  /// Why it failed, for people.
  [[nodiscard]] const std::string& problem() const noexcept;

 private:
  struct State;
  explicit TlsSession(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace vmstore::net
