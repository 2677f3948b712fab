// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/tcp_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "base/assert.h"

namespace vmstore {
namespace {

constexpr int kLookMs = 5;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool is_readable(int fd) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, 0) > 0;
}

/// What is there goes on to `to`; false at the end of the connection.
bool forward(int from, int to) {
  std::array<char, 65536> bytes{};
  const ssize_t got = ::recv(from, bytes.data(), bytes.size(), 0);
  if (got <= 0) return false;
  return ::send(to, bytes.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) == got;
}

}  // namespace

TcpProxy::TcpProxy(std::uint16_t server_port) : server_port_(server_port) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof(address);
  VMS_ASSERT(::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) == 0);
  VMS_ASSERT(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  VMS_ASSERT(::listen(listener_, 64) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

TcpProxy::~TcpProxy() {
  ended_ = true;
  thread_.join();
  for (const Link& link : links_) close(link);
  ::close(listener_);
}

void TcpProxy::close(const Link& link) {
  ::close(link.client);
  ::close(link.server);
}

void TcpProxy::run() {
  while (!ended_) {
    std::vector<pollfd> wanted{{listener_, POLLIN, 0}};
    for (const Link& link : links_) {
      wanted.push_back({link.client, POLLIN, 0});
      if (!mute_) wanted.push_back({link.server, POLLIN, 0});
    }
    ::poll(wanted.data(), wanted.size(), kLookMs);
    if (is_readable(listener_)) accept();
    for (auto link = links_.begin(); link != links_.end();) {
      const bool goes_on = !cut_ && pass(*link);
      if (!goes_on) close(*link);
      link = goes_on ? std::next(link) : links_.erase(link);
    }
  }
}

void TcpProxy::accept() {
  Link link;
  link.client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (link.client < 0) return;
  link.server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(server_port_);
  const bool through =
      !cut_ &&
      ::connect(link.server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  if (!through) return close(link);
  ++connections_;
  links_.push_back(link);
}

bool TcpProxy::pass(const Link& link) {
  if (is_readable(link.client) && !forward(link.client, link.server)) return false;
  if (mute_ || !is_readable(link.server)) return true;
  if (lose_in_ > 0 && --lose_in_ == 0) return false;
  return forward(link.server, link.client);
}

}  // namespace vmstore
