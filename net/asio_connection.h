// SPDX-License-Identifier: Apache-2.0
// AsioConnection: whole frames over a stream socket. Made by the dialer and the listener.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <deque>
#include <optional>

#include "net/asio_socket.h"
#include "net/connection.h"
#include "net/frame_reader.h"

namespace vmstore::net {

/// Tries the system call first and waits only when it would block; after a short read it waits at
/// once, because nothing more can be there.
class AsioConnection final : public Connection {
 public:
  explicit AsioConnection(AsioSocket socket);
  ~AsioConnection() override;

  [[nodiscard]] Task<Result<void>> send(const wire::Frame& frame) override;
  [[nodiscard]] Task<Result<wire::Frame>> receive() override;
  void close() noexcept override;
  [[nodiscard]] PeerCredentials peer() const noexcept override { return peer_; }
  [[nodiscard]] bool is_peer_gone() const noexcept override;

 private:
  class Cursor;
  [[nodiscard]] Result<std::size_t> send_some(Cursor& cursor, const std::vector<int>& descriptors);
  [[nodiscard]] Result<void> receive_some();
  [[nodiscard]] Result<void> keep_descriptors(const msghdr& message);
  [[nodiscard]] Result<void> complete(wire::Frame& frame);
  void close_descriptors() noexcept;

  AsioSocket socket_;
  PeerCredentials peer_;
  std::optional<std::uint64_t> peer_start_;  // when its process began; none: /proc does not show it
  FrameReader reader_;
  std::deque<int> descriptors_;  // came, and belong to frames not complete yet
  bool drained_ = false;
};

/// What a failed socket call means for a connection.
[[nodiscard]] Error connection_error(int os_errno) noexcept;

}  // namespace vmstore::net
