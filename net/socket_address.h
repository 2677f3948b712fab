// SPDX-License-Identifier: Apache-2.0
// Endpoint texts as socket addresses: "unix:/path", "/path", "127.0.0.1:1", "[::1]:1",
// "localhost:1", each TCP address also behind "tcp://".
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

/// How far away a TCP address may be: without TLS no further than this host.
enum class Reach { loopback, everywhere };

/// `unsupported`, with a line in the log, for a TCP address that is out of reach, or a name that
/// would have to be looked up. `invalid_argument` for anything that is no address or a path too
/// long for a socket.
[[nodiscard]] Result<SocketAddress> parse_endpoint(const Endpoint& endpoint,
                                                   Reach reach = Reach::loopback);
/// The text of a TCP address, with its port.
[[nodiscard]] Endpoint endpoint_of(const SocketAddress& address);
/// The same without the port, as a certificate names it. REQUIRES: a TCP address.
[[nodiscard]] std::string host_of(const SocketAddress& address);

}  // namespace vmstore::net
