// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sim_network.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "wire/frame.h"

namespace vmstore::sim {
namespace {

using ConnectionPtr = std::unique_ptr<net::Connection>;

wire::Frame frame_of(const std::string& control, std::size_t payload_bytes = 0) {
  wire::Frame frame;
  frame.control = control;
  if (payload_bytes > 0) {
    frame.payload = wire::Payload::allocate(payload_bytes);
    for (auto& byte : frame.payload.writable()) byte = std::byte{7};
  }
  EXPECT_TRUE(wire::seal_frame(frame));
  return frame;
}

Task<void> accept_into(net::Listener& listener, ConnectionPtr& into) {
  auto accepted = co_await listener.accept();
  if (accepted) into = std::move(*accepted);
}

Task<void> send_all(net::Connection& connection, int count, std::size_t bytes, int& sent) {
  for (int i = 0; i < count; ++i) {
    const wire::Frame frame = frame_of(std::to_string(i), bytes);
    const auto done = co_await connection.send(frame);
    if (!done) co_return;
    ++sent;
  }
}

Task<void> receive_all(net::Connection& connection, std::vector<std::string>& got, Error& end) {
  for (;;) {
    const auto frame = co_await connection.receive();
    if (!frame) {
      end = frame.error();
      co_return;
    }
    got.push_back(frame->control);
  }
}

class SimNetworkTest : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  SimNetworkTest()
      : server_(std::make_unique<VirtualScheduler>(world_, "server")),
        client_(std::make_unique<VirtualScheduler>(world_, "client")),
        dialer_(network_.dialer(*client_)),
        listener_(network_.listen(*server_, "unix:/node")) {
    server_->spawn(accept_into(*listener_, there_));
    const net::Endpoint endpoint{"/node"};
    here_ = std::move(*run(*client_, dialer_->dial(endpoint)));
    world_.run_until([this] { return there_ != nullptr; }, 1s);
  }
  ~SimNetworkTest() override {
    client_->kill();
    server_->kill();
  }
  World world_{GetParam()};
  SimNetwork network_{world_};
  std::unique_ptr<VirtualScheduler> server_;
  std::unique_ptr<VirtualScheduler> client_;
  std::unique_ptr<net::Dialer> dialer_;
  std::unique_ptr<net::Listener> listener_;
  ConnectionPtr here_;
  ConnectionPtr there_;
  std::vector<std::string> got_;
  Error end_ = Errc::ok;
  int sent_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, SimNetworkTest, ::testing::Range<std::uint64_t>(0, 8));

std::vector<std::string> first_numbers(std::size_t count) {
  std::vector<std::string> numbers;
  for (std::size_t i = 0; i < count; ++i) numbers.push_back(std::to_string(i));
  return numbers;
}

TEST_P(SimNetworkTest, FramesArriveWholeAndInOrder) {
  server_->spawn(receive_all(*there_, got_, end_));
  client_->spawn(send_all(*here_, 50, 8192, sent_));
  world_.run_for(1s);
  EXPECT_EQ(got_, first_numbers(50));
  EXPECT_EQ(end_, Errc::ok);
  EXPECT_EQ(there_->peer().pid, client_->pid());
}

TEST_P(SimNetworkTest, TheCodecOfTheProductCarriesThePayload) {
  client_->spawn(send_all(*here_, 1, 5000, sent_));
  const auto frame = run(*server_, there_->receive());
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->control, "0");
  ASSERT_EQ(frame->payload.size(), 5000U);
  EXPECT_EQ(frame->payload.bytes()[4999], std::byte{7});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(frame->payload.bytes().data()) % 4096, 0U);
}

TEST_P(SimNetworkTest, APeerThatDoesNotReadPausesTheSender) {
  client_->spawn(send_all(*here_, 100, 512 << 10, sent_));
  world_.run_for(10s);
  EXPECT_LT(sent_, 20);
  server_->spawn(receive_all(*there_, got_, end_));
  world_.run_for(10s);
  EXPECT_EQ(sent_, 100);
  EXPECT_EQ(got_.size(), 100U);
}

TEST_P(SimNetworkTest, AClosedConnectionDeliversWhatWasSentThenEnds) {
  server_->spawn(receive_all(*there_, got_, end_));
  client_->spawn(send_all(*here_, 10, 0, sent_));
  here_->close();
  here_->close();
  const wire::Frame late = frame_of("late");
  EXPECT_EQ(run(*client_, here_->send(late)).error(), Errc::closing);
  EXPECT_EQ(run(*client_, here_->receive()).error(), Errc::closing);
  world_.run_for(1s);
  EXPECT_EQ(got_, first_numbers(10));
  EXPECT_EQ(end_, Errc::disconnected);
}

TEST_P(SimNetworkTest, ABrokenConnectionDeliversAPrefix) {
  server_->spawn(receive_all(*there_, got_, end_));
  client_->spawn(send_all(*here_, 20, 0, sent_));
  network_.break_connections(*client_);
  world_.run_for(1s);
  EXPECT_EQ(end_, Errc::disconnected);
  EXPECT_EQ(got_, first_numbers(got_.size()));
  EXPECT_EQ(run(*client_, here_->receive()).error(), Errc::disconnected);
  const wire::Frame late = frame_of("late");
  EXPECT_EQ(run(*client_, here_->send(late)).error(), Errc::disconnected);
}

TEST_P(SimNetworkTest, AKilledProcessIsSeenAsALostConnection) {
  server_->spawn(receive_all(*there_, got_, end_));
  client_->spawn(send_all(*here_, 20, 0, sent_));
  client_->kill();
  here_.reset();
  world_.run_for(1s);
  EXPECT_EQ(end_, Errc::disconnected);
  EXPECT_EQ(got_, first_numbers(got_.size()));
}

TEST_P(SimNetworkTest, NobodyListensWhereTheProcessIsDead) {
  server_->kill();
  const net::Endpoint endpoint{"/node"};
  EXPECT_EQ(run(*client_, dialer_->dial(endpoint)).error(), Errc::disconnected);
  VirtualScheduler next(world_, "next");
  const auto listener = network_.listen(next, "/node");
  EXPECT_TRUE(run(*client_, dialer_->dial(endpoint)));
  next.kill();
}

TEST_P(SimNetworkTest, WhatIsHeldBackArrivesOnRelease) {
  server_->spawn(receive_all(*there_, got_, end_));
  network_.hold(*client_, *server_);
  client_->spawn(send_all(*here_, 5, 0, sent_));
  world_.run_for(100s);
  EXPECT_TRUE(got_.empty());
  network_.release(*client_, *server_);
  world_.run_for(1s);
  EXPECT_EQ(got_, first_numbers(5));
}

TEST_P(SimNetworkTest, DescriptorsAreNotCarried) {
  wire::Frame frame = frame_of("x");
  frame.descriptors.push_back(0);
  EXPECT_EQ(run(*client_, here_->send(frame)).error(), Errc::unsupported);
}

TEST_P(SimNetworkTest, AClosedListenerEndsAccept) {
  there_.reset();
  ConnectionPtr none;
  server_->spawn(accept_into(*listener_, none));
  listener_->close();
  world_.run_for(1s);
  EXPECT_EQ(server_->task_count(), 0U);
  EXPECT_EQ(none, nullptr);
}

TEST(SimNetwork, ABreakSometimesLosesSomeAndSometimesNothing) {
  bool lost_some = false;
  bool lost_none = false;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    World world(seed);
    SimNetwork network(world);
    VirtualScheduler server(world, "server");
    VirtualScheduler client(world, "client");
    const auto listener = network.listen(server, "n");
    const auto dialer = network.dialer(client);
    ConnectionPtr there;
    server.spawn(accept_into(*listener, there));
    const net::Endpoint endpoint{"n"};
    const ConnectionPtr here = std::move(*run(client, dialer->dial(endpoint)));
    world.run_until([&] { return there != nullptr; }, 1s);
    std::vector<std::string> got;
    Error end = Errc::ok;
    int sent = 0;
    server.spawn(receive_all(*there, got, end));
    client.spawn(send_all(*here, 4, 0, sent));
    network.break_connections(server);
    world.run_for(1s);
    (got.size() < 4 ? lost_some : lost_none) = true;
    client.kill();
    server.kill();
  }
  EXPECT_TRUE(lost_some);
  EXPECT_TRUE(lost_none);
}

}  // namespace
}  // namespace vmstore::sim
