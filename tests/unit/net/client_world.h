// SPDX-License-Identifier: Apache-2.0
// A client and a node, each a simulated process that can be killed and started again.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "meta/mem_store.h"
#include "net/node_client.h"
#include "tests/support/code_of.h"
#include "tests/support/sim_network.h"
#include "tests/support/virtual_scheduler.h"
#include "tests/unit/net/fake_node.h"

namespace vmstore::net::test {

class ClientWorld {
 public:
  explicit ClientWorld(std::uint64_t seed = 1) : world(seed), network(world) {}
  ClientWorld(const ClientWorld&) = delete;
  ClientWorld& operator=(const ClientWorld&) = delete;
  ~ClientWorld() {
    kill_client();
    kill_node();
  }

  void start_node() {
    node_process = std::make_unique<sim::VirtualScheduler>(world, "node");
    store = std::make_unique<meta::MemStore>(*node_process, catalogue);
    node = std::make_unique<FakeNode>(*node_process, network, *store);
  }
  void kill_node() {
    if (node_process) node_process->kill();
    node = nullptr;
    store = nullptr;
    node_process = nullptr;
  }
  void make_client(ClientOptions options = {}, const std::string& endpoint = kNodeEndpoint) {
    client_process = std::make_unique<sim::VirtualScheduler>(world, "client");
    dialer = network.dialer(*client_process);
    options.endpoint.text = endpoint;
    if (options.program.empty()) options.program = "test";
    client = std::make_unique<NodeClient>(*client_process, *dialer, std::move(options));
    client_process->post([this] { client->start(); });
  }
  void kill_client() {
    if (client_process) client_process->kill();
    client = nullptr;
    dialer = nullptr;
    client_process = nullptr;
  }
  /// Both, and a session between them.
  void connect() {
    start_node();
    make_client();
    ASSERT_EQ(code_of(wait_connected(10s)), Errc::ok);
  }
  Result<SessionInfo> wait_connected(Duration at_most) {
    return run(client->wait_connected(world.now() + at_most));
  }
  template <class T>
  T run(Task<T> task) {
    return sim::run(*client_process, std::move(task));
  }
  void stop() { sim::run(*client_process, client->stop()); }

  sim::World world;
  sim::SimNetwork network;
  std::shared_ptr<meta::MemCatalogue> catalogue = std::make_shared<meta::MemCatalogue>();
  std::unique_ptr<sim::VirtualScheduler> node_process;
  std::unique_ptr<meta::MemStore> store;
  std::unique_ptr<FakeNode> node;
  std::unique_ptr<sim::VirtualScheduler> client_process;
  std::unique_ptr<Dialer> dialer;
  std::unique_ptr<NodeClient> client;
};

}  // namespace vmstore::net::test
