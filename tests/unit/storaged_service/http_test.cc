// SPDX-License-Identifier: Apache-2.0
// The HTTP server over real loopback sockets.
#include "storaged/http.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>

namespace vmstore::storaged {
namespace {

/// Sends `request` to 127.0.0.1:PORT and returns everything that comes until the server closes.
std::string http_exchange(const std::string& where, const std::string& request) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::uint16_t port = 0;
  const auto colon = where.rfind(':');
  std::from_chars(where.data() + colon + 1, where.data() + where.size(), port);
  address.sin_port = htons(port);
  EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  std::size_t sent = 0;
  while (sent < request.size()) {
    const auto n = ::send(fd, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) break;
    sent += static_cast<std::size_t>(n);
  }
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return answer;
}

std::string get(const std::string& where, const std::string& target) {
  return http_exchange(where, "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n");
}

class HttpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HttpPages pages;
    pages.metrics = [this]() -> std::optional<std::string> {
      if (!alive_) return std::nullopt;
      return "vmstore_up 1\n";
    };
    pages.healthy = [this] { return alive_; };
    pages.ready = [this] { return ready_; };
    auto started = HttpServer::start("127.0.0.1:0", std::move(pages));
    ASSERT_TRUE(started) << to_string(started.error());
    server_ = std::move(*started);
  }
  bool alive_ = true;
  bool ready_ = true;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpTest, PagesAnswer) {
  EXPECT_TRUE(get(server_->where(), "/healthz").starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(get(server_->where(), "/readyz").starts_with("HTTP/1.1 200"));
  const std::string metrics = get(server_->where(), "/metrics");
  EXPECT_TRUE(metrics.starts_with("HTTP/1.1 200"));
  EXPECT_NE(metrics.find("text/plain; version=0.0.4"), std::string::npos);
  EXPECT_TRUE(metrics.ends_with("\r\n\r\nvmstore_up 1\n"));
  EXPECT_TRUE(get(server_->where(), "/").starts_with("HTTP/1.1 404"));
}

TEST_F(HttpTest, NodeThatDoesNotAnswerIsUnavailable) {
  alive_ = false;
  ready_ = false;
  for (const char* target : {"/healthz", "/readyz", "/metrics"}) {
    EXPECT_TRUE(get(server_->where(), target).starts_with("HTTP/1.1 503")) << target;
  }
}

TEST_F(HttpTest, OtherMethodsAreRefused) {
  EXPECT_TRUE(http_exchange(server_->where(), "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                  .starts_with("HTTP/1.1 405"));
  const std::string head =
      http_exchange(server_->where(), "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
}

TEST_F(HttpTest, OversizeAndBrokenRequestsEndTheConnectionOnly) {
  http_exchange(server_->where(), "GET /" + std::string(100000, 'a') + " HTTP/1.1\r\n\r\n");
  http_exchange(server_->where(), "GET / HTTP/1.1\r\nX: " + std::string(100000, 'a') + "\r\n\r\n");
  http_exchange(server_->where(), "\x16\x03\x01garbage\r\n\r\n");
  http_exchange(server_->where(),
                "GET / HTTP/1.1\r\nContent-Length: 4294967295\r\n\r\n" + std::string(100000, 'a'));
  EXPECT_TRUE(get(server_->where(), "/healthz").starts_with("HTTP/1.1 200"));
}

TEST(HttpServer, OnlyLoopbackAndUnixSockets) {
  for (const char* where : {"0.0.0.0:0",
                            "8.8.8.8:80",
                            "localhost",
                            "127.0.0.1:70000",
                            "127.0.0.1:x",
                            "",
                            "unix:",
                            "[::]:0"}) {
    EXPECT_EQ(HttpServer::start(where, HttpPages()).error(), Errc::invalid_argument) << where;
  }
}

TEST(HttpServer, UnixSocketIsRemovedAtTheEnd) {
  const std::string path = "/tmp/vmstored-http-test-" + std::to_string(::getpid()) + ".sock";
  {
    const auto server = HttpServer::start("unix:" + path, HttpPages());
    ASSERT_TRUE(server) << to_string(server.error());
    EXPECT_EQ(::access(path.c_str(), F_OK), 0);
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace vmstore::storaged
