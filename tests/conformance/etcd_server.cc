// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/etcd_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <vector>

#include "base/assert.h"

namespace vmstore {
namespace {

constexpr int kStartsMost = 5;  // another program may take a port between the look and the start
constexpr std::chrono::seconds kHealthyWithin{30};

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

std::vector<std::string> command_line(const std::string& folder,
                                      std::uint16_t port,
                                      std::uint16_t peer_port) {
  const std::string client = "http://127.0.0.1:" + std::to_string(port);
  const std::string peer = "http://127.0.0.1:" + std::to_string(peer_port);
  return {"etcd",
          "--name=test",
          "--data-dir=" + folder + "/data",
          "--listen-client-urls=" + client,
          "--advertise-client-urls=" + client,
          "--listen-peer-urls=" + peer,
          "--initial-advertise-peer-urls=" + peer,
          "--initial-cluster=test=" + peer,
          "--heartbeat-interval=20",
          "--election-timeout=200",
          "--logger=zap",
          "--log-outputs=" + folder + "/log"};
}

pid_t spawn(const std::vector<std::string>& words) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  VMS_ASSERT(pid >= 0);
  if (pid != 0) return pid;
  // It does not outlive a test that crashes.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  const int null = ::open("/dev/null", O_RDWR);
  for (const int fd : {0, 1, 2}) ::dup2(null, fd);
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof(address);
  VMS_ASSERT(::bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0);
  VMS_ASSERT(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  ::close(fd);
  return ntohs(address.sin_port);
}

EtcdServer::EtcdServer() {
  for (int i = 0; i < kStartsMost && pid_ < 0; ++i) {
    port_ = free_port();
    peer_port_ = free_port();
    if (!try_start()) end(SIGKILL);
  }
  VMS_ASSERT(pid_ >= 0);  // is etcd-server installed? scripts/install-deps
}

EtcdServer::~EtcdServer() {
  end(SIGKILL);
}

void EtcdServer::start() {
  VMS_ASSERT(pid_ < 0);
  VMS_ASSERT(try_start());
}

void EtcdServer::stop() {
  end(SIGTERM);
}

void EtcdServer::kill() {
  end(SIGKILL);
}

void EtcdServer::pause() {
  VMS_ASSERT(::kill(pid_, SIGSTOP) == 0);
}

void EtcdServer::resume() {
  VMS_ASSERT(::kill(pid_, SIGCONT) == 0);
}

void EtcdServer::end(int signal) {
  if (pid_ < 0) return;
  ::kill(pid_, signal);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

/// False when it ended by itself.
bool EtcdServer::try_start() {
  pid_ = spawn(command_line(folder_.path(), port_, peer_port_));
  const auto deadline = std::chrono::steady_clock::now() + kHealthyWithin;
  while (std::chrono::steady_clock::now() < deadline) {
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return false;
    }
    if (is_healthy()) return true;
    ::poll(nullptr, 0, 10);
  }
  return false;
}

bool EtcdServer::is_healthy() const {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port_);
  const timeval patience{2, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  std::string answer;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = "GET /health HTTP/1.0\r\n\r\n";
    if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
      std::array<char, 1024> part{};
      for (ssize_t got = 1; got > 0;) {
        got = ::recv(fd, part.data(), part.size(), 0);
        if (got > 0) answer.append(part.data(), static_cast<std::size_t>(got));
      }
    }
  }
  ::close(fd);
  return answer.find("\"health\":\"true\"") != std::string::npos;
}

}  // namespace vmstore
