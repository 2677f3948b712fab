// SPDX-License-Identifier: Apache-2.0
// SimNetwork: connections between the processes of a World. Frames are encoded, carried as bytes
// and decoded by the product's own codec.
//
// Invariants: what arrives on a connection is a prefix of what was sent, in order; connections
// overtake one another; a frozen process neither sends nor receives, and its peers see the loss
// later; a peer that does not read pauses the sender.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "net/connection.h"
#include "tests/support/virtual_scheduler.h"

namespace vmstore::sim {

struct NetworkDelay {
  Duration least = std::chrono::microseconds(20);
  Duration most = std::chrono::microseconds(300);
  /// One frame in this many takes up to `slow` more; 0 = none.
  std::uint64_t slow_one_in = 0;
  Duration slow = std::chrono::milliseconds(200);
};

/// THREADS: the world's. Outlives every process that uses it.
class SimNetwork {
 public:
  explicit SimNetwork(World& world, NetworkDelay delay = {}) : world_(world), delay_(delay) {}
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;
  ~SimNetwork();

  /// Listens at "unix:/path", "/path" or "host:port"; one listener per endpoint, a frozen process's
  /// is free again.
  [[nodiscard]] std::unique_ptr<net::Listener> listen(VirtualScheduler& process,
                                                      const std::string& endpoint);
  [[nodiscard]] std::unique_ptr<net::Dialer> dialer(VirtualScheduler& process);

  /// Breaks every connection of the process: of what is under way in each direction a seeded prefix
  /// arrives, then both sides see `disconnected`.
  void break_connections(const VirtualScheduler& process);
  /// Holds back everything that `from` sends to `to`, or lets it all go.
  void hold(const VirtualScheduler& from, const VirtualScheduler& to);
  void release(const VirtualScheduler& from, const VirtualScheduler& to);
  void set_delay(const NetworkDelay& delay) noexcept { delay_ = delay; }
  /// Whether connections look like unix sockets of root on one host, or like the network.
  void set_same_host(bool same_host) noexcept { same_host_ = same_host; }

  [[nodiscard]] std::uint64_t frames_sent() const noexcept { return frames_sent_; }

 private:
  friend class SimConnection;
  friend class SimDialer;
  friend class SimListener;
  struct Link;
  using LinkPtr = std::shared_ptr<Link>;
  using Pair = std::pair<std::uint32_t, std::uint32_t>;  // process ids: from, to

  void watch(VirtualScheduler& process);
  void forget(std::uint32_t pid);
  [[nodiscard]] Duration draw_delay();
  [[nodiscard]] bool is_held(std::uint32_t from, std::uint32_t to) const {
    return held_.contains({from, to});
  }
  [[nodiscard]] LinkPtr connect(VirtualScheduler& from, VirtualScheduler& to);

  World& world_;
  NetworkDelay delay_;
  std::map<std::string, class SimListener*> listeners_;
  std::vector<std::weak_ptr<Link>> links_;
  std::set<Pair> held_;
  bool same_host_ = false;
  std::set<std::uint32_t> watched_;
  std::uint64_t frames_sent_ = 0;
};

}  // namespace vmstore::sim
