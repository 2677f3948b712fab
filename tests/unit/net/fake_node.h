// SPDX-License-Identifier: Apache-2.0
// FakeNode: a simulated node that greets, serves a catalogue, and answers the rest as a test says.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "meta/meta_store.h"
#include "net/rpc_peer.h"
#include "tests/support/sim_network.h"
#include "tests/support/virtual_scheduler.h"

namespace vmstore::net::test {

inline constexpr char kNodeEndpoint[] = "unix:/node";

/// THREADS: the world's. REQUIRES: its process is killed before it is destroyed.
class FakeNode {
 public:
  FakeNode(sim::VirtualScheduler& process, sim::SimNetwork& network, meta::MetaStore& store);
  FakeNode(const FakeNode&) = delete;
  FakeNode& operator=(const FakeNode&) = delete;
  ~FakeNode();

  /// Answers what is neither hello nor metadata; without it that is `unsupported`.
  RpcPeer::Handler handler;
  Errc hello_status = Errc::ok;
  StoreId store_id{1, 2};
  std::uint32_t version = 1;
  bool answers_hello = true;
  bool silent = false;                // answers nothing at all from now on
  std::vector<std::string> programs;  // that said hello, in order
  std::uint64_t pings = 0;
  std::uint64_t watches_begun = 0;
  std::uint64_t watches_ended = 0;

  /// The newest session's connection, to ask its client.
  [[nodiscard]] RpcPeer& newest();
  /// Ends every session; clients see their connections end.
  void end_sessions();

 private:
  struct Session;
  [[nodiscard]] Task<void> accept_all();
  static Task<void> run(std::shared_ptr<Session> session);
  static Task<void> send_events(std::shared_ptr<Session> session);
  [[nodiscard]] Task<Answer> serve(std::shared_ptr<Session> session, wire::Frame request);
  [[nodiscard]] Task<Answer> hello(wire::Frame request);
  [[nodiscard]] Task<Answer> get(wire::Frame request);
  [[nodiscard]] Task<Answer> txn(wire::Frame request);
  [[nodiscard]] Task<Answer> range(wire::Frame request);
  [[nodiscard]] Task<Answer> watch(std::shared_ptr<Session> session, wire::Frame request);

  sim::VirtualScheduler& process_;
  meta::MetaStore& store_;
  std::unique_ptr<Listener> listener_;
  std::vector<std::shared_ptr<Session>> sessions_;
  Event never_;
};

}  // namespace vmstore::net::test
