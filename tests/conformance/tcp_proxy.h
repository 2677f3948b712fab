// SPDX-License-Identifier: Apache-2.0
// TcpProxy: a network between a client and a server of this host that loses what a test wants lost.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <string>
#include <thread>

namespace vmstore {

/// THREADS: any; it has one of its own.
class TcpProxy {
 public:
  explicit TcpProxy(std::uint16_t server_port);
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;
  ~TcpProxy();

  /// Ends all connections and takes no new ones, until it is let through again.
  void cut(bool is_cut) noexcept { cut_ = is_cut; }
  /// From the n-th answer from now on (1 = the next), one is lost together with its connection.
  void lose_answer(int nth) noexcept { lose_in_ = nth; }
  /// Holds what the server says back, without a sign.
  void mute(bool is_mute) noexcept { mute_ = is_mute; }

  [[nodiscard]] std::string endpoint() const { return "127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] int connections() const noexcept { return connections_; }

 private:
  struct Link {
    int client = -1;
    int server = -1;
  };
  void run();
  void accept();
  [[nodiscard]] bool pass(const Link& link);
  static void close(const Link& link);

  std::uint16_t server_port_;
  std::uint16_t port_ = 0;
  int listener_ = -1;
  std::list<Link> links_;
  std::atomic<bool> cut_ = false;
  std::atomic<bool> mute_ = false;
  std::atomic<bool> ended_ = false;
  std::atomic<int> lose_in_ = 0;
  std::atomic<int> connections_ = 0;  // ever made
  std::thread thread_;
};

}  // namespace vmstore
