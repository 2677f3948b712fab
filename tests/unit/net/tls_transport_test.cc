// SPDX-License-Identifier: Apache-2.0
// TLS over real sockets: requests pass, and what hostile or lame peers do to a listener harms
// nobody else (RELIABILITY, threats: slow or idle peer, oversize length, plain bytes).
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/limits.h"
#include "base/random.h"
#include "net/node_client.h"
#include "net/tls_connection.h"
#include "tests/unit/net/socket_support.h"
#include "tests/unit/net/tls_support.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::net::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMemoryCounts = false;  // sanitizers keep memory of their own
#else
constexpr bool kMemoryCounts = true;
#endif

Task<void> run_peer(std::shared_ptr<RpcPeer> peer) {
  static_cast<void>(co_await peer->run());
}

/// Asks for an echo over a connection of its own, so many times.
Task<Result<std::size_t>> ask(
    IoThread& io, ContextPtr context, std::string endpoint, std::size_t payload, int times) {
  AsioDialer dialer(io, std::move(context));
  Endpoint to{std::move(endpoint)};
  VMS_CO_TRY(auto connection, co_await dialer.dial(std::move(to)));
  const auto peer = std::make_shared<RpcPeer>(io, std::move(connection), RpcPeer::Handler());
  io.spawn(run_peer(peer));
  std::size_t bytes = 0;
  for (int i = 0; i < times; ++i) {
    wire::Payload sent = wire::Payload::allocate(payload);
    std::ranges::fill(sent.writable(), static_cast<std::byte>(i + 1));
    std::string control = "hallo";
    const auto answer =
        co_await peer->call(wire::Opcode::key_append, std::move(control), sent, false);
    if (!answer) {
      peer->close();
      co_return peer->is_closed() ? peer->end_reason() : answer.error();
    }
    const bool same = std::ranges::equal(answer->payload.bytes(), sent.bytes());
    EXPECT_TRUE(same && answer->control == "hallo");
    bytes += answer->payload.size();
  }
  peer->close();
  co_return bytes;
}

class TlsTransport : public testing::Test {
 protected:
  void expect_service() {
    const auto answered = block_on(io, ask(io, client, server.endpoint(), 0, 1));
    EXPECT_TRUE(answered) << to_string(answered.error());
  }
  Errc dial_error(ContextPtr context) {
    const auto answered = block_on(io, ask(io, std::move(context), server.endpoint(), 0, 1));
    return answered ? Errc::ok : answered.error().code;
  }
  Authority authority;
  ContextPtr client = context_of(authority, Role::client);
  Server server{context_of(authority, Role::node), echo};
  IoThread io{"client"};
};

TEST_F(TlsTransport, FramesOfAllSizesPassUnchanged) {
  for (const std::size_t payload : {0U, 1U, 4096U, 16384U, 65536U, 524288U, 1048576U}) {
    const auto bytes = block_on(io, ask(io, client, server.endpoint(), payload, 3));
    ASSERT_TRUE(bytes) << to_string(bytes.error());
    EXPECT_EQ(*bytes, 3 * payload);
  }
}

TEST_F(TlsTransport, TheListenerKnowsWhoCame) {
  expect_service();
  const auto peers = server.peers();
  ASSERT_EQ(peers.size(), 1U);
  EXPECT_FALSE(peers[0].same_host);
  ASSERT_NE(peers[0].certificate, nullptr);
  EXPECT_EQ(peers[0].certificate->role, Role::client);
}

TEST_F(TlsTransport, WhoIsNotOfTheStoreIsToldSoAndServesNothing) {
  const Authority stranger;
  const CertificatePair foreign = stranger.issue(Role::admin);
  EXPECT_EQ(dial_error(context_of(foreign, authority.pair().certificate)), Errc::permission);
  EXPECT_EQ(dial_error(context_of(authority, Role::admin, hours(-3, -1))), Errc::permission);
  EXPECT_EQ(dial_error(context_of(authority.issue(Role::admin), stranger.pair().certificate)),
            Errc::permission);
  EXPECT_TRUE(server.peers().empty());
  expect_service();
}

// A client whose first answer is an alert stops asking: it is no outage.
TEST_F(TlsTransport, ANodeClientHearsThatItsCertificateIsRefused) {
  const Authority stranger;
  AsioDialer dialer(io, context_of(stranger.issue(Role::client), authority.pair().certificate));
  ClientOptions options;
  options.endpoint.text = server.endpoint();
  NodeClient node(io, dialer, options);
  io.post([&node] { node.start(); });
  const TimePoint deadline = io.now() + Duration(kPatience);
  const auto connected = block_on(io, node.wait_connected(deadline));
  EXPECT_EQ(connected.error(), Errc::permission);
  block_on(io, node.stop());
}

/// Says that it is whatever node it is asked for.
Task<Answer> greet(wire::Frame request) {
  Answer answer;
  if (request.header.opcode != wire::Opcode::hello) answer.status = Errc::unsupported;
  pb::HelloReply reply;
  reply.set_version(wire::kWireVersion);
  wire::put_id(*reply.mutable_store_id(), kStore);
  wire::put_id(*reply.mutable_node_id(), NodeId{7, 8});
  answer.control = wire::serialize(reply);
  co_return answer;
}

TEST_F(TlsTransport, ANodeWithAnothersCertificateDoesNotPassForIt) {
  Server node(context_of(authority, Role::node), greet);  // the certificate of "test node"
  AsioDialer dialer(io, client);
  for (const std::string name : {"", "test node", "other node"}) {
    ClientOptions options;
    options.endpoint.text = node.endpoint();
    options.node = NodeId{7, 8};
    options.certificate = name;
    NodeClient asks(io, dialer, options);
    io.post([&asks] { asks.start(); });
    const bool is_other = name == "other node";
    const TimePoint deadline = io.now() + (is_other ? Duration(1s) : Duration(kPatience));
    const auto connected = block_on(io, asks.wait_connected(deadline));
    EXPECT_EQ(connected ? Errc::ok : connected.error().code, is_other ? Errc::timed_out : Errc::ok)
        << name;
    EXPECT_EQ(connected ? connected->certificate : "", is_other ? "" : "test node");
    block_on(io, asks.stop());
  }
}

TEST_F(TlsTransport, PlainFramesToATlsPortAreNotServed) {
  RawClient plain(server.endpoint());
  EXPECT_TRUE(plain.send(bytes_of(request_of(1))));
  std::vector<std::byte> all;
  for (auto more = plain.receive(100); !more.empty(); more = plain.receive(100)) {
    all.insert(all.end(), more.begin(), more.end());
  }
  EXPECT_LT(all.size(), 16U);  // an alert, at most
  EXPECT_TRUE(server.peers().empty());
  expect_service();
}

TEST_F(TlsTransport, TlsToAPlainPortGivesUp) {
  const Server plain("127.0.0.1:0", echo);
  const auto answered = block_on(io, ask(io, client, plain.endpoint(), 0, 1));
  EXPECT_EQ(answered.error(), Errc::unavailable);
}

TEST_F(TlsTransport, StalledHandshakesCostLittleAndKeepNobodyWaiting) {
  expect_service();
  const std::size_t before = resident_bytes();
  std::vector<std::unique_ptr<RawClient>> stalled;
  for (std::size_t i = 0; i < 2 * kHandshakesMax; ++i) {
    stalled.push_back(std::make_unique<RawClient>(server.endpoint()));
    const std::byte begun{0x16};
    EXPECT_TRUE(i % 2 == 0 || stalled.back()->send(ByteSpan(&begun, 1)));
  }
  expect_service();
  const std::size_t now = kMemoryCounts ? resident_bytes() : 0;
  EXPECT_LT(now, before + kHandshakesMax * 64 * 1024);
  // The oldest made room; the youngest have the time that everybody has.
  EXPECT_TRUE(stalled.front()->is_closed_by_peer());
  EXPECT_TRUE(stalled.back()->is_closed_by_peer());  // within limits::kHandshakeTimeout
  expect_service();
}

TEST_F(TlsTransport, GarbageInTheHandshakeEndsItsOwnConnection) {
  Random random(11);
  for (int round = 0; round < 30; ++round) {
    RawClient client_of_nobody(server.endpoint());
    std::vector<std::byte> bytes(100 + random.below(3000));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(256));
    static_cast<void>(client_of_nobody.send(bytes));
  }
  EXPECT_TRUE(server.peers().empty());
  expect_service();
}

TEST_F(TlsTransport, APeerThatVanishesInTheHandshakeHarmsNobody) {
  for (int round = 0; round < 20; ++round) {
    RawClient gone(server.endpoint());
    EXPECT_TRUE(gone.send(as_byte_span(std::string_view("\x16\x03\x01\x02", 4))));
    gone.close();
  }
  expect_service();
}

Task<Errc> accept_error(TlsListener& listener) {
  const auto accepted = co_await listener.accept();
  co_return accepted ? Errc::ok : accepted.error().code;
}

TEST_F(TlsTransport, CloseEndsAPendingAcceptAndTheHandshakes) {
  auto listener = TlsListener::listen(io, {"127.0.0.1:0"}, context_of(authority, Role::node));
  ASSERT_TRUE(listener);
  RawClient stalled((*listener)->endpoint().text);
  TlsListener& open = **listener;
  io.post([&open, this] { io.post([&open] { open.close(); }); });
  EXPECT_EQ(block_on(io, accept_error(open)), Errc::closing);
  EXPECT_TRUE(stalled.is_closed_by_peer());
  io.stop();
}

TEST_F(TlsTransport, AKeyThatEveryUserMayReadIsRefused) {
  const TempFolder folder;
  const CertificatePair own = authority.issue(Role::client);
  const auto write = [&](const char* name, const std::string& text, unsigned mode) {
    std::ofstream(folder.file(name)) << text;
    std::filesystem::permissions(folder.file(name), static_cast<std::filesystem::perms>(mode));
    return folder.file(name);
  };
  TlsFiles files;
  files.ca = write("ca", authority.pair().certificate, 0644);
  files.certificate = write("certificate", own.certificate, 0644);
  files.key = write("key", own.key, 0600);
  EXPECT_TRUE(TlsContext::load(files));
  files.key = write("open", own.key, 0604);
  EXPECT_EQ(TlsContext::load(files).error(), Errc::permission);
  files.key = folder.file("none");
  EXPECT_EQ(TlsContext::load(files).error(), Errc::not_found);
}

TEST_F(TlsTransport, AnExpiredCertificateIsToldWhereItIsLoaded) {
  const TempFolder folder;
  const CertificatePair own = authority.issue(Role::client, hours(-3, -1));
  std::ofstream(folder.file("ca")) << authority.pair().certificate;
  std::ofstream(folder.file("certificate")) << own.certificate;
  std::ofstream(folder.file("key")) << own.key;
  std::filesystem::permissions(folder.file("key"), std::filesystem::perms::owner_read);
  EXPECT_EQ(
      TlsContext::load({folder.file("ca"), folder.file("certificate"), folder.file("key")}).error(),
      Errc::invalid_argument);
}

}  // namespace
}  // namespace vmstore::net::test
