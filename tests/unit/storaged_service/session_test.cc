// SPDX-License-Identifier: Apache-2.0
// Hello, who may speak, and what happens to those who say nothing or nonsense.
#include "storaged/session.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "meta/schema.h"
#include "tests/unit/storaged_service/service_fixture.h"

namespace vmstore::storaged::test {
namespace {

pb::HelloRequest hello(std::uint32_t version_min, std::uint32_t version_max) {
  pb::HelloRequest request;
  request.set_version_min(version_min);
  request.set_version_max(version_max);
  return request;
}

TEST(Session, HelloTellsWhichStoreThisIs) {
  Machine machine;
  machine.start_well();
  Client client(machine, "client");
  const pb::HelloReply reply = client.greet();
  EXPECT_EQ(wire::get_id<StoreId>(reply.store_id()), machine.node().identity().store);
  EXPECT_EQ(wire::get_id<NodeId>(reply.node_id()), machine.node().identity().node);
  EXPECT_EQ(reply.version(), 1U);
  EXPECT_EQ(reply.start_count(), 1U);
  EXPECT_TRUE(reply.same_host());
  EXPECT_NE(reply.session(), 0U);
}

TEST(Session, SessionsOfDifferentStartsHaveDifferentNumbers) {
  Machine machine;
  machine.start_well();
  const std::uint64_t before = Client(machine, "client").greet().session();
  machine.stop();
  machine.start_well();
  EXPECT_NE(Client(machine, "client").greet().session(), before);
}

TEST(Session, VersionsAreNegotiated) {
  Machine machine;
  machine.start_well();
  Client client(machine, "client");
  EXPECT_EQ(client.error_of(wire::Opcode::hello, hello(2, 9)), Errc::newer_format);
  EXPECT_EQ(client.error_of(wire::Opcode::hello, hello(0, 0)), Errc::invalid_argument);
  EXPECT_EQ(client.error_of(wire::Opcode::hello, hello(2, 1)), Errc::invalid_argument);
  const auto reply = client.call<pb::HelloReply>(wire::Opcode::hello, hello(1, 9));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->version(), 1U);
}

TEST(Session, AnotherStoreIsRefused) {
  Machine machine;
  machine.start_well();
  Client client(machine, "client");
  pb::HelloRequest request = hello(1, 1);
  wire::put_id(*request.mutable_store_id(), StoreId{1, 2});
  EXPECT_EQ(client.error_of(wire::Opcode::hello, request), Errc::foreign_store);
  wire::put_id(*request.mutable_store_id(), machine.node().identity().store);
  EXPECT_EQ(client.error_of(wire::Opcode::hello, request), Errc::ok);
}

TEST(Session, NothingIsServedBeforeHello) {
  Machine machine;
  machine.start_well();
  Client client(machine, "client");
  EXPECT_EQ(client.error_of(wire::Opcode::ping, pb::NodeStatusRequest()), Errc::permission);
  EXPECT_EQ(client.error_of(wire::Opcode::node_status, pb::NodeStatusRequest()), Errc::permission);
  client.greet();
  EXPECT_EQ(client.error_of(wire::Opcode::ping, pb::NodeStatusRequest()), Errc::ok);
}

TEST(Session, SecondHelloIsRefused) {
  Machine machine;
  machine.start_well();
  Client client(machine, "client");
  client.greet();
  EXPECT_EQ(client.error_of(wire::Opcode::hello, hello(1, 1)), Errc::invalid_argument);
}

TEST(Session, OnlyRootAndTheNodesOwnUserAreServed) {
  Machine machine;
  machine.start_well();
  machine.next_client.uid = kNodeUid + 1;
  Client stranger(machine, "stranger");
  EXPECT_EQ(stranger.error_of(wire::Opcode::hello, hello(1, 1)), Errc::permission);
  EXPECT_EQ(stranger.error_of(wire::Opcode::node_status, pb::NodeStatusRequest()),
            Errc::permission);
  machine.next_client.uid = 0;
  Client(machine, "root").greet();
  machine.next_client.uid = kNodeUid;
  Client(machine, "own").greet();
}

TEST(Session, NetworkPeersAreRefusedUnlessTheNodeIsToldOtherwise) {
  Machine machine;
  machine.next_client.same_host = false;
  machine.start_well();
  EXPECT_EQ(Client(machine, "client").error_of(wire::Opcode::hello, hello(1, 1)), Errc::permission);
  machine.stop();
  machine.options.serve_network_peers = true;
  machine.start_well();
  EXPECT_FALSE(Client(machine, "client").greet().same_host());
}

TEST(Session, SilentPeerIsClosedAfterTheHandshakeTime) {
  Machine machine;
  machine.start_well();
  Client silent(machine, "silent");
  Client greeted(machine, "greeted");
  greeted.greet();
  machine.world.run_for(limits::kHandshakeTimeout + std::chrono::seconds(1));
  EXPECT_TRUE(silent.is_ended());
  EXPECT_FALSE(greeted.is_ended());
}

TEST(Session, UnknownOpcodesAndOnesOfNodesAreUnsupported) {
  Machine machine;
  machine.start_well();
  Client client(machine, "client");
  client.greet();
  for (const unsigned number : {0U, 999U, 65535U}) {
    const auto opcode = static_cast<wire::Opcode>(number);
    EXPECT_EQ(client.error_of(opcode, pb::NodeStatusRequest()), Errc::unsupported) << number;
  }
  EXPECT_EQ(client.error_of(wire::Opcode::meta_event, pb::MetaEvent()), Errc::unsupported);
}

TEST(Session, GarbageAsControlIsRefusedByEveryVerb) {
  Machine machine;
  machine.start_well();
  Client client(machine, "client");
  client.greet();
  const std::string garbage("\x0a\xff\xff\xff\xff\x7f", 6);
  for (unsigned number = 10; number <= 52; ++number) {
    const auto opcode = static_cast<wire::Opcode>(number);
    const auto answer = client.raw(opcode, garbage);
    ASSERT_FALSE(answer) << number;
    const Error error = answer.error();
    EXPECT_TRUE(error == Errc::bad_frame || error == Errc::unsupported)
        << number << ": " << to_string(error);
  }
  EXPECT_EQ(client.error_of(wire::Opcode::ping, pb::NodeStatusRequest()), Errc::ok);
}

TEST(Session, StopEndsSessionsInOrder) {
  Machine machine;
  machine.start_well();
  Client client(machine, "client");
  client.greet();
  machine.stop();
  machine.world.run_for(std::chrono::seconds(1));
  EXPECT_TRUE(client.is_ended());
}

}  // namespace
}  // namespace vmstore::storaged::test
