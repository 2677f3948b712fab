// SPDX-License-Identifier: Apache-2.0
#include "net/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/log.h"

namespace vmstore::net {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::string_view kTcpPrefix = "tcp://";

template <class Address>
void store(SocketAddress& out, const Address& address, std::size_t length = sizeof(Address)) {
  std::memcpy(&out.storage, &address, sizeof(address));
  out.length = static_cast<socklen_t>(length);
}

Result<SocketAddress> unix_address(std::string_view path) {
  sockaddr_un address{};
  const bool fits = !path.empty() && path.front() == '/' && path.size() < sizeof(address.sun_path);
  if (!fits || path.find('\0') != std::string_view::npos) return Errc::invalid_argument;
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  SocketAddress result;
  store(result, address);
  result.path = path;
  return result;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
  return port;
}

Error needs_tls(std::string_view text) {
  VMS_LOG(error, "net", text << " is not a loopback address: that needs TLS");
  return Errc::unsupported;
}

/// A name could lead anywhere, and asking for it would block.
Error needs_number(std::string_view text) {
  VMS_LOG(error, "net", text << ": names are not looked up: give the IP address");
  return Errc::unsupported;
}

Result<SocketAddress> ipv6_address(const std::string& host,
                                   std::uint16_t port,
                                   Reach reach,
                                   std::string_view text) {
  sockaddr_in6 address{};
  if (inet_pton(AF_INET6, host.c_str(), &address.sin6_addr) != 1) return Errc::invalid_argument;
  const bool is_loopback = IN6_IS_ADDR_LOOPBACK(&address.sin6_addr);
  if (reach == Reach::loopback && !is_loopback) return needs_tls(text);
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  SocketAddress result;
  store(result, address);
  return result;
}

Result<SocketAddress> ipv4_address(const std::string& host,
                                   std::uint16_t port,
                                   Reach reach,
                                   std::string_view text) {
  constexpr std::uint32_t kLoopbackNet = 127;
  sockaddr_in address{};
  const std::string number = host == "localhost" ? "127.0.0.1" : host;
  if (inet_pton(AF_INET, number.c_str(), &address.sin_addr) != 1) return needs_number(text);
  const bool is_loopback = ntohl(address.sin_addr.s_addr) >> 24 == kLoopbackNet;
  if (reach == Reach::loopback && !is_loopback) return needs_tls(text);
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  SocketAddress result;
  store(result, address);
  return result;
}

}  // namespace

Result<SocketAddress> parse_endpoint(const Endpoint& endpoint, Reach reach) {
  std::string_view text = endpoint.text;
  if (text.starts_with(kUnixPrefix)) return unix_address(text.substr(kUnixPrefix.size()));
  if (text.starts_with('/')) return unix_address(text);
  if (text.starts_with(kTcpPrefix)) text.remove_prefix(kTcpPrefix.size());
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return Errc::invalid_argument;
  const auto port = parse_port(text.substr(colon + 1));
  if (!port) return Errc::invalid_argument;
  const std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    return ipv6_address(std::string(host.substr(1, host.size() - 2)), *port, reach, text);
  }
  return ipv4_address(std::string(host), *port, reach, text);
}

std::string host_of(const SocketAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> host{};
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 ipv6{};
    std::memcpy(&ipv6, &address.storage, sizeof(ipv6));
    inet_ntop(AF_INET6, &ipv6.sin6_addr, host.data(), host.size());
  } else {
    sockaddr_in ipv4{};
    std::memcpy(&ipv4, &address.storage, sizeof(ipv4));
    inet_ntop(AF_INET, &ipv4.sin_addr, host.data(), host.size());
  }
  return host.data();
}

Endpoint endpoint_of(const SocketAddress& address) {
  if (address.is_unix()) return {std::string(kUnixPrefix) + address.path};
  const std::string host = host_of(address);
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 ipv6{};
    std::memcpy(&ipv6, &address.storage, sizeof(ipv6));
    return {"[" + host + "]:" + std::to_string(ntohs(ipv6.sin6_port))};
  }
  sockaddr_in ipv4{};
  std::memcpy(&ipv4, &address.storage, sizeof(ipv4));
  return {host + ":" + std::to_string(ntohs(ipv4.sin_port))};
}

}  // namespace vmstore::net
