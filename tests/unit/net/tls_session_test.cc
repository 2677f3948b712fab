// SPDX-License-Identifier: Apache-2.0
// Two ends of TLS without a socket: who is let in, and what bytes of all kinds can do (RELIABILITY,
// threats: unauthenticated RPC, downgrade, injection, replay).
#include "net/tls_session.h"

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <functional>

#include "base/random.h"
#include "tests/unit/net/tls_support.h"

namespace vmstore::net::test {
namespace {

using Bytes = std::vector<std::byte>;

/// Both ends, and what passed between them.
class Ends {
 public:
  Ends(const ContextPtr& server_context, const ContextPtr& client_context, std::string host = kHost)
      : server(TlsSession::accepting(server_context)),
        client(TlsSession::dialling(client_context, std::move(host))) {}

  /// Flights to and fro until both are done, or one has failed and the other has read why.
  void shake() {
    for (int turn = 0; turn < 8; ++turn) {
      step(client, client_outcome);
      carry(client, server, from_client);
      step(server, server_outcome);
      carry(server, client, from_server);
    }
  }
  [[nodiscard]] bool both_are_in() const { return client_outcome && server_outcome; }
  [[nodiscard]] Errc server_error() const { return server_outcome.error().code; }
  [[nodiscard]] Errc client_error() const { return client_outcome.error().code; }

  static void step(TlsSession& end, Result<void>& outcome) {
    if (!outcome && outcome.error() == Errc::busy) outcome = end.handshake();
  }
  /// Puts what `from` sends before `to`, which may have left some of the last.
  void carry(TlsSession& from, TlsSession& to, Bytes& kept) {
    const ByteSpan bytes = from.outgoing();
    Bytes copy(bytes.begin(), bytes.end());
    from.sent(bytes.size());
    if (change) change(copy);
    kept.insert(kept.end(), copy.begin(), copy.end());
    if (copy.empty() || to.received_left() != 0) return;
    flights.push_back(std::move(copy));
    to.put_received(flights.back());
  }

  TlsSession server;
  TlsSession client;
  Result<void> server_outcome = Errc::busy;
  Result<void> client_outcome = Errc::busy;
  Bytes from_client;
  Bytes from_server;
  std::function<void(Bytes&)> change;  // of each flight
  std::vector<Bytes> flights;
};

class Tls : public testing::Test {
 protected:
  Authority authority;
  ContextPtr node = context_of(authority, Role::node);
  ContextPtr client = context_of(authority, Role::client);

  /// The error at the end that refuses, after the other was told.
  static void expect_server_refuses(Ends& ends, const std::string& why) {
    ends.shake();
    EXPECT_EQ(ends.server_error(), Errc::permission);
    EXPECT_NE(ends.server.problem().find(why), std::string::npos) << ends.server.problem();
    // In TLS 1.3 the client was done before the node looked: it hears of it when it reads.
    if (ends.client_outcome) {
      Bytes space(100);
      const auto got = ends.client.read(space);
      EXPECT_FALSE(got);
      EXPECT_EQ(got.error(), Errc::permission) << ends.client.problem();
    }
  }
  static void expect_client_refuses(Ends& ends, const std::string& why) {
    ends.shake();
    EXPECT_EQ(ends.client_error(), Errc::permission);
    EXPECT_NE(ends.client.problem().find(why), std::string::npos) << ends.client.problem();
    EXPECT_FALSE(ends.server_outcome);
    EXPECT_EQ(ends.server_error(), Errc::permission) << ends.server.problem();
  }
};

TEST_F(Tls, BothEndsLearnWhoTheOtherIs) {
  for (const Role role : kRoles) {
    Ends ends(node, context_of(authority, role));
    ends.shake();
    ASSERT_TRUE(ends.both_are_in()) << ends.server.problem() << ends.client.problem();
    EXPECT_EQ(ends.server.peer()->role, role);
    EXPECT_EQ(ends.server.peer()->store, kStore);
    EXPECT_EQ(ends.server.peer()->person, "test " + std::string(role_name(role)));
    EXPECT_EQ(ends.client.peer()->role, Role::node);
  }
}

TEST_F(Tls, AnotherAuthoritysCertificateIsRefused) {
  const Authority stranger;  // calls itself the same store's
  Ends to_node(node, context_of(stranger.issue(Role::admin), authority.pair().certificate));
  expect_server_refuses(to_node, "unable to get local issuer certificate");
  Ends to_client(context_of(stranger.issue(Role::node), authority.pair().certificate), client);
  expect_client_refuses(to_client, "unable to get local issuer certificate");
}

TEST_F(Tls, AnExpiredCertificateIsRefused) {
  Ends to_node(node, context_of(authority, Role::admin, hours(-3, -1)));
  expect_server_refuses(to_node, "expired");
  Ends to_client(context_of(authority, Role::node, hours(-3, -1)), client);
  expect_client_refuses(to_client, "expired");
}

TEST_F(Tls, ACertificateThatIsNotValidYetIsRefused) {
  Ends to_node(node, context_of(authority, Role::admin, hours(1, 3)));
  expect_server_refuses(to_node, "not yet valid");
  Ends to_client(context_of(authority, Role::node, hours(1, 3)), client);
  expect_client_refuses(to_client, "not yet valid");
}

TEST_F(Tls, NobodyButANodeIsTakenForOne) {
  for (const Role role : {Role::admin, Role::client, Role::read_only}) {
    Ends ends(context_of(authority, role), client);
    expect_client_refuses(ends, "purpose");
  }
}

TEST_F(Tls, ANodeIsTakenForTheHostThatItsCertificateNames) {
  const auto named = [&](const std::string& host) {
    return context_of(authority.issue(Role::node, hours(-1, 1), host),
                      authority.pair().certificate);
  };
  for (const char* host : {"192.0.2.7", "2001:db8::7", "node7.example"}) {
    Ends right(named(host), client, host);
    right.shake();
    EXPECT_TRUE(right.both_are_in()) << host << ": " << right.client.problem();
    Ends wrong(named(host), client, kHost);
    expect_client_refuses(wrong, "mismatch");
  }
}

/// A peer that looks at nothing and shows `own`, or nothing, to `server`, which says why not.
Result<void> shake_with_anybody(TlsSession& server, const CertificatePair& own) {
  SSL_CTX* const anybody = SSL_CTX_new(TLS_client_method());
  for (const auto& [pem, is_key] : {std::pair(own.certificate, false), std::pair(own.key, true)}) {
    if (pem.empty()) continue;
    BIO* const text = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    if (is_key) {
      EVP_PKEY* const key = PEM_read_bio_PrivateKey(text, nullptr, nullptr, nullptr);
      EXPECT_EQ(SSL_CTX_use_PrivateKey(anybody, key), 1);
      EVP_PKEY_free(key);
    } else {
      X509* const certificate = PEM_read_bio_X509(text, nullptr, nullptr, nullptr);
      EXPECT_EQ(SSL_CTX_use_certificate(anybody, certificate), 1);
      X509_free(certificate);
    }
    BIO_free(text);
  }
  SSL* const dialler = SSL_new(anybody);
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  SSL_set_bio(dialler, in, out);
  SSL_set_connect_state(dialler);
  std::vector<Bytes> flights;
  Result<void> outcome = Errc::busy;
  for (int turn = 0; turn < 4 && !outcome && outcome.error() == Errc::busy; ++turn) {
    static_cast<void>(SSL_do_handshake(dialler));
    char* bytes = nullptr;
    const auto size = static_cast<std::size_t>(BIO_get_mem_data(out, &bytes));
    const ByteSpan flight = as_byte_span({bytes, size});
    flights.emplace_back(flight.begin(), flight.end());
    static_cast<void>(BIO_reset(out));
    server.put_received(flights.back());
    outcome = server.handshake();
    const ByteSpan answer = server.outgoing();
    BIO_write(in, answer.data(), static_cast<int>(answer.size()));
    server.sent(answer.size());
  }
  SSL_free(dialler);
  SSL_CTX_free(anybody);
  return outcome;
}

TEST_F(Tls, APeerWithoutACertificateIsRefused) {
  TlsSession server = TlsSession::accepting(node);
  const auto outcome = shake_with_anybody(server, CertificatePair());
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error(), Errc::permission);
  EXPECT_EQ(server.problem(), "it shows no certificate");
}

// Both files hold both authorities, as while one replaces the other.
TEST_F(Tls, TheCertificateOfAnotherStoreIsRefused) {
  const Authority other(kOtherStore);
  const std::string both = authority.pair().certificate + other.pair().certificate;
  const CertificatePair ours = authority.issue(Role::node);
  TlsSession server = TlsSession::accepting(context_of(ours, both));
  EXPECT_TRUE(shake_with_anybody(server, authority.issue(Role::admin)));
  TlsSession refusing = TlsSession::accepting(context_of(ours, both));
  EXPECT_EQ(shake_with_anybody(refusing, other.issue(Role::admin)).error(), Errc::permission);
  EXPECT_EQ(refusing.problem(), "its certificate is of another store");
  Ends to_client(context_of(other.issue(Role::node), both),
                 context_of(authority.issue(Role::client), both));
  expect_client_refuses(to_client, "of another store");
}

/// What a peer sends first; the server's verdict.
Errc verdict(const ContextPtr& node, const Bytes& bytes) {
  TlsSession server = TlsSession::accepting(node);
  server.put_received(bytes);
  const auto outcome = server.handshake();
  return outcome ? Errc::ok : outcome.error().code;
}

TEST_F(Tls, OlderVersionsAreNotSpoken) {
  // A ClientHello of TLS 1.2: version, random, no session, one suite, no compression.
  Bytes hello{std::byte{0x16}, std::byte{3}, std::byte{1}, std::byte{0}, std::byte{45}};
  for (const int byte : {1, 0, 0, 41, 3, 3}) hello.push_back(static_cast<std::byte>(byte));
  hello.resize(hello.size() + 32, std::byte{7});
  for (const int byte : {0, 0, 2, 0xc0, 0x2b, 1, 0}) hello.push_back(static_cast<std::byte>(byte));
  EXPECT_EQ(verdict(node, hello), Errc::bad_frame);
}

TEST_F(Tls, PlainBytesAreNoHandshake) {
  const std::string_view plain = "VMSF and many more bytes of a frame that nobody encrypted";
  const ByteSpan bytes = as_byte_span(plain);
  EXPECT_EQ(verdict(node, Bytes(bytes.begin(), bytes.end())), Errc::bad_frame);
}

TEST_F(Tls, GarbageIsNoHandshake) {
  Random random(7);
  for (int round = 0; round < 300; ++round) {
    Bytes bytes(6 + random.below(2000));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(256));
    if (random.one_in(2)) bytes[0] = std::byte{0x16};
    if (random.one_in(2)) bytes[1] = std::byte{3};
    const Errc error = verdict(node, bytes);
    EXPECT_TRUE(error == Errc::bad_frame || error == Errc::busy || error == Errc::disconnected)
        << errc_name(error);
  }
}

TEST_F(Tls, AMessageOfAnyClaimedLengthEndsTheHandshake) {
  // A handshake record whose message says that it has 16 MiB.
  const Bytes claim{std::byte{0x16},
                    std::byte{3},
                    std::byte{1},
                    std::byte{0},
                    std::byte{4},
                    std::byte{1},
                    std::byte{0xff},
                    std::byte{0xff},
                    std::byte{0xff}};
  EXPECT_EQ(verdict(node, claim), Errc::bad_frame);
}

/// Whether the byte is in the version of a record that is not encrypted: nobody reads that.
bool is_unread(const Bytes& flight, std::size_t at) {
  std::size_t begin = 0;
  while (begin + 5 <= flight.size()) {
    const std::size_t end = begin + 5 + std::to_integer<std::size_t>(flight[begin + 3]) * 256 +
                            std::to_integer<std::size_t>(flight[begin + 4]);
    if (at < end) {
      return flight[begin] != std::byte{0x17} && (at == begin + 1 || at == begin + 2);
    }
    begin = end;
  }
  return false;
}

TEST_F(Tls, AChangedByteNeverLetsAnybodyIn) {
  Ends good(node, client);
  good.shake();
  ASSERT_TRUE(good.both_are_in());
  const std::size_t total = good.from_client.size() + good.from_server.size();
  for (std::size_t place = 0; place < total; place += 3) {
    Ends ends(node, client);
    std::size_t passed = 0;
    bool matters = false;  // signatures differ in length: the last places may not be there
    ends.change = [&](Bytes& flight) {
      if (place >= passed && place < passed + flight.size()) {
        const std::size_t at = place - passed;
        matters = !is_unread(flight, at);
        flight[at] ^= std::byte{0x20};
      }
      passed += flight.size();
    };
    ends.shake();
    EXPECT_TRUE(!matters || !ends.server_outcome) << "byte " << place;
  }
}

TEST_F(Tls, HalfAHandshakeLetsNobodyIn) {
  Ends good(node, client);
  good.shake();
  for (std::size_t length = 0; length < good.from_client.size(); length += 7) {
    const Bytes part(good.from_client.begin(),
                     good.from_client.begin() + static_cast<long>(length));
    EXPECT_NE(verdict(node, part), Errc::ok) << length;
  }
}

void pass(TlsSession& from, TlsSession& to, const Bytes& plain) {
  ASSERT_TRUE(from.write(plain));
  const ByteSpan sent = from.outgoing();
  const Bytes cipher(sent.begin(), sent.end());
  from.sent(sent.size());
  to.put_received(cipher);
  Bytes got(plain.size());
  std::size_t bytes = 0;
  while (bytes < got.size()) {
    const auto more = to.read(MutableBytes(got).subspan(bytes));
    ASSERT_TRUE(more) << to.problem();
    bytes += *more;
  }
  EXPECT_EQ(got, plain);
  EXPECT_EQ(to.received_left(), 0U);
  EXPECT_EQ(std::search(cipher.begin(), cipher.end(), plain.begin(), plain.begin() + 16),
            cipher.end());
}

TEST_F(Tls, BytesPassUnseenAlsoAfterTheKeysWereRenewed) {
  Ends ends(node, client);
  ends.shake();
  ASSERT_TRUE(ends.both_are_in());
  Random random(3);
  Bytes plain(100000);
  for (std::byte& byte : plain) byte = static_cast<std::byte>(random.below(256));
  for (int round = 0; round < 3; ++round) {
    pass(ends.client, ends.server, plain);
    pass(ends.server, ends.client, plain);
    ends.client.renew_key();
    ends.server.renew_key();
  }
}

TEST_F(Tls, AWriteBesideAHalfReadMessageIsNotLost) {
  Ends ends(node, client);
  ends.shake();
  ends.client.renew_key();
  const std::string_view text = "a write behind a new key";
  ASSERT_TRUE(ends.client.write(as_byte_span(text)));
  const ByteSpan sent = ends.client.outgoing();
  const Bytes cipher(sent.begin(), sent.end());
  Bytes got;
  for (const std::byte& byte : cipher) {
    ends.server.put_received(ByteSpan(&byte, 1));
    std::array<std::byte, 100> space{};
    const auto read = ends.server.read(space);
    if (read) got.insert(got.end(), space.begin(), space.begin() + static_cast<long>(*read));
    const auto written = ends.server.write(as_byte_span("x"));
    ASSERT_TRUE(written || written.error() == Errc::busy) << ends.server.problem();
  }
  EXPECT_EQ(as_text(got), text);
}

TEST_F(Tls, AReplayedSessionReachesNobody) {
  Ends ends(node, client);
  ends.shake();
  ASSERT_TRUE(ends.client.write(as_byte_span("delete everything")));
  ends.carry(ends.client, ends.server, ends.from_client);
  TlsSession server = TlsSession::accepting(node);
  server.put_received(ends.from_client);
  const auto outcome = server.handshake();
  EXPECT_FALSE(outcome);
}

TEST_F(Tls, AChangedRecordEndsTheSession) {
  Ends ends(node, client);
  ends.shake();
  ASSERT_TRUE(ends.client.write(as_byte_span("all is well")));
  ends.change = [](Bytes& bytes) { bytes.back() ^= std::byte{1}; };
  ends.carry(ends.client, ends.server, ends.from_client);
  Bytes space(100);
  EXPECT_EQ(ends.server.read(space).error(), Errc::bad_frame);
  EXPECT_EQ(ends.server.read(space).error(), Errc::bad_frame);
  EXPECT_EQ(ends.server.write(as_byte_span("x")).error(), Errc::bad_frame);
}

TEST_F(Tls, NoTicketFollowsTheHandshake) {
  Ends ends(node, client);
  ends.shake();
  // The last flight of a TLS 1.3 server that gives tickets comes after the client's.
  EXPECT_TRUE(ends.server.outgoing().empty());
  EXPECT_EQ(ends.client.received_left(), 0U);
  EXPECT_EQ(ends.flights.size(), 3U);
}

// ---- certificates and their files ----

TEST(Certificate, ItsTextIsReadBackAndNothingElseIs) {
  for (const Role role : kRoles) {
    const std::string uri = certificate_uri({kStore, role, {}, {}});
    const auto read = parse_certificate_uri(uri);
    ASSERT_TRUE(read) << uri;
    EXPECT_EQ(read->store, kStore);
    EXPECT_EQ(read->role, role);
    EXPECT_FALSE(parse_certificate_uri(uri + "?hours=9"));  // a version that narrows is not ours
    EXPECT_EQ(parse_certificate_uri(uri + "?disks=a").has_value(), role == Role::client);
    EXPECT_FALSE(parse_certificate_uri(uri + "/"));
    EXPECT_FALSE(parse_certificate_uri(" " + uri));
    for (std::size_t length = 0; length < uri.size(); ++length) {
      EXPECT_FALSE(parse_certificate_uri(uri.substr(0, length))) << length;
    }
  }
  const CertificateName some{kStore, Role::client, {"vm/*", "web-1"}, {}};
  EXPECT_EQ(certificate_uri(some),
            "vmstore://00000000000000010000000000000002/role/client?disks=vm/*,web-1");
  EXPECT_EQ(parse_certificate_uri(certificate_uri(some))->disks, some.disks);
  const std::string client = certificate_uri({kStore, Role::client, {}, {}});
  for (const char* wrong : {"?",
                            "?disks",
                            "?disks=",
                            "?disks=,",
                            "?disks=a,",
                            "?disks=,a",
                            "?disks=a,,b",
                            "?disks=A",
                            "?disks=a b",
                            "?disks=a&x=1",
                            "?disks=a#"}) {
    EXPECT_FALSE(parse_certificate_uri(client + wrong)) << wrong;
  }
  std::string many = client + "?disks=a";
  for (std::size_t i = 1; i < kDiskPatternsMax; ++i) many += ",a";
  EXPECT_TRUE(parse_certificate_uri(many));
  EXPECT_FALSE(parse_certificate_uri(many + ",a"));
  EXPECT_FALSE(parse_certificate_uri("vmstore://" + StoreId().hex() + "/role/admin"));
  EXPECT_EQ(certificate_uri({kStore, Role::read_only, {}, {}}),
            "vmstore://00000000000000010000000000000002/role/read-only");
}

TEST(Certificate, PatternsAreForWholeNames) {
  const auto fits = [](const char* pattern, const char* name) {
    return is_for_disk({pattern}, name);
  };
  EXPECT_TRUE(is_for_disk({}, "anything"));
  EXPECT_TRUE(fits("web", "web"));
  EXPECT_FALSE(fits("web", "web2"));
  EXPECT_FALSE(fits("web", "vm/web"));
  EXPECT_TRUE(fits("vm/*", "vm/a"));
  EXPECT_FALSE(fits("vm/*", "vm2/a"));
  EXPECT_FALSE(fits("vm/*", "vm"));
  EXPECT_TRUE(fits("*", "vm/a"));
  EXPECT_TRUE(fits("*-db", "a/b-db"));
  EXPECT_FALSE(fits("*-db", "a/b-db2"));
  EXPECT_TRUE(fits("a*b*c", "a-b-b-c"));
  EXPECT_FALSE(fits("a*b*c", "a-b-b-"));
  EXPECT_TRUE(is_for_disk({"x", "web-*"}, "web-1"));
  EXPECT_FALSE(is_for_disk({"x", "y"}, "web-1"));
}

TEST(Certificate, AnAuthoritySignsForItsOwnStoreOnly) {
  const Authority authority;
  EXPECT_EQ(*store_of_authority(authority.pair().certificate), kStore);
  CertificateRequest request;
  request.name = {kOtherStore, Role::admin, {}, "x"};
  request.validity = hours(-1, 1);
  EXPECT_EQ(issue_certificate(authority.pair(), request).error(), Errc::invalid_argument);
  const CertificatePair leaf = authority.issue(Role::admin);
  request.name.store = kStore;
  EXPECT_EQ(issue_certificate(leaf, request).error(), Errc::invalid_argument);
  EXPECT_EQ(issue_certificate({authority.pair().certificate, leaf.key}, request).error(),
            Errc::invalid_argument);
}

TEST(Certificate, ItEndsNoLaterThanItsAuthority) {
  const Authority authority(kStore, hours(-1, 2));
  const CertificatePair leaf = authority.issue(Role::client, hours(-1, 1000));
  EXPECT_EQ(*end_of_certificate(leaf.certificate),
            *end_of_certificate(authority.pair().certificate));
}

TEST(Certificate, AHostThatIsNoneIsRefused) {
  const Authority authority;
  CertificateRequest request;
  request.name = {kStore, Role::node, {}, "x"};
  request.validity = hours(-1, 1);
  for (const char* host : {"", "a b", "a,DNS:b", "*", "-x", "h\nost", "1.2.3.4:5"}) {
    request.hosts = {host};
    EXPECT_EQ(issue_certificate(authority.pair(), request).error(), Errc::invalid_argument) << host;
  }
}

TEST(TlsContext, WhatDoesNotFitTogetherIsRefused) {
  const Authority authority;
  const CertificatePair one = authority.issue(Role::client);
  const CertificatePair other = authority.issue(Role::client);
  const std::string& ca = authority.pair().certificate;
  EXPECT_TRUE(TlsContext::make({ca, one.certificate, one.key}));
  EXPECT_FALSE(TlsContext::make({ca, one.certificate, other.key}));
  EXPECT_FALSE(TlsContext::make({"", one.certificate, one.key}));
  EXPECT_FALSE(TlsContext::make({ca, "", one.key}));
  EXPECT_FALSE(TlsContext::make({ca, one.certificate, ""}));
  EXPECT_FALSE(TlsContext::make({one.certificate, one.certificate, one.key}));
  EXPECT_FALSE(TlsContext::make({ca, ca, authority.pair().key}));  // an authority is nobody
}

}  // namespace
}  // namespace vmstore::net::test
