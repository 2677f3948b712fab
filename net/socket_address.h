// SPDX-License-Identifier: Apache-2.0
// Endpoint texts as socket addresses: "unix:/path", "/path", "127.0.0.1:1", "[::1]:1",
// "localhost:1".
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "base/result.h"
#include "net/connection.h"

namespace vmstore::net {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  std::string path;  // of a unix socket, else empty
  [[nodiscard]] bool is_unix() const noexcept { return !path.empty(); }
  [[nodiscard]] const sockaddr* raw() const noexcept {
    return reinterpret_cast<const sockaddr*>(&storage);
  }
};

/// `unsupported`, with a line in the log, for a TCP address that is not loopback: it needs TLS.
/// `invalid_argument` for anything that is no address or a path too long for a socket.
[[nodiscard]] Result<SocketAddress> parse_endpoint(const Endpoint& endpoint);
/// The text of a TCP address, with its port.
[[nodiscard]] Endpoint endpoint_of(const SocketAddress& address);

}  // namespace vmstore::net
