// SPDX-License-Identifier: Apache-2.0
// What a hostile or broken peer may do to a node's socket (RELIABILITY, threats): each ends its own
// connection at most, takes no memory that it did not fill, and disturbs nobody else.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "base/limits.h"
#include "base/random.h"
#include "tests/unit/net/socket_support.h"

namespace vmstore::net::test {
namespace {

constexpr std::size_t kMiB = 1 << 20;
constexpr std::uint32_t kHugeLength = 0xffffffff;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMemoryCounts = false;  // sanitizers keep memory of their own
#else
constexpr bool kMemoryCounts = true;
#endif

/// A node's socket and a client that behaves.
class Threat : public testing::Test {
 protected:
  void expect_service() {
    RawClient good(server.endpoint().substr(5));
    EXPECT_TRUE(good.send(bytes_of(request_of(77))));
    EXPECT_EQ(good.receive_header().request_id, 77U);
  }
  static void expect_memory_below(std::size_t bytes) {
    const std::size_t now = kMemoryCounts ? resident_bytes() : 0;
    EXPECT_LT(now, bytes);
  }
  TempFolder folder;
  Server server{folder.file("s"), echo};
  std::string path = folder.file("s");
};

/// A header that says anything, with a right checksum.
std::vector<std::byte> header_with(std::size_t place, std::uint32_t number) {
  std::vector<std::byte> bytes = bytes_of(request_of(1));
  ByteWriter out;
  out.put_bytes(ByteSpan(bytes).first(place)).put(number);
  out.put_bytes(ByteSpan(bytes).subspan(place + 4, 40 - place - 4));
  out.put(xxh3(out.bytes()));
  return out.take();
}

TEST_F(Threat, malformed_frames_end_their_own_connection) {
  const auto good = bytes_of(request_of(1, "control"));
  std::size_t connections = 0;
  for (std::size_t place = 0; place < good.size(); ++place) {
    auto bad = good;
    bad[place] ^= std::byte{0x10};
    RawClient client(path);
    EXPECT_TRUE(client.send(bad));
    EXPECT_TRUE(client.is_closed_by_peer()) << "byte " << place;
    ++connections;
  }
  const auto ends = server.wait_ended(connections);
  EXPECT_EQ(std::ranges::count(ends, Errc::bad_frame), static_cast<std::ptrdiff_t>(connections));
  expect_service();
}

TEST_F(Threat, random_bytes_end_their_own_connection) {
  Random random(42);
  for (std::size_t round = 1; round <= 50; ++round) {
    std::vector<std::byte> bytes(48 + random.below(5000));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(256));
    RawClient client(path);
    static_cast<void>(client.send(bytes));
    EXPECT_EQ(server.wait_ended(round).back(), Errc::bad_frame);
  }
  expect_service();
}

TEST_F(Threat, huge_length_without_body_takes_no_memory) {
  expect_service();
  const std::size_t before = resident_bytes();
  std::size_t connections = 1;  // the one above
  for (const std::size_t place : {24U, 28U}) {
    RawClient client(path);
    EXPECT_TRUE(client.send(header_with(place, kHugeLength)));
    EXPECT_TRUE(client.is_closed_by_peer());
    ++connections;
  }
  const auto ends = server.wait_ended(connections);  // in any order
  EXPECT_EQ(std::ranges::count(ends, Errc::bad_frame), 2);
  expect_memory_below(before + kMiB);
  expect_service();
}

// The largest lengths that are allowed, on many connections, and never a byte behind them.
TEST_F(Threat, claimed_bodies_that_never_come_take_no_memory) {
  expect_service();
  const std::size_t before = resident_bytes();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(std::make_unique<RawClient>(path));
    const std::size_t place = i % 2 == 0 ? 24 : 28;
    EXPECT_TRUE(clients.back()->send(header_with(place, limits::kControlBytesMax)));
  }
  expect_service();
  expect_memory_below(before + 2 * kMiB);
}

TEST_F(Threat, hundred_idle_connections_cost_nothing) {
  expect_service();
  const std::size_t before = resident_bytes();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(std::make_unique<RawClient>(path));
  expect_service();
  for (const auto& client : clients) {  // each of them works, and rests again
    EXPECT_TRUE(client->send(bytes_of(request_of(5))));
    EXPECT_EQ(client->receive_header().request_id, 5U);
  }
  expect_memory_below(before + kMiB);
}

TEST_F(Threat, slow_peer_is_served_and_holds_up_nobody) {
  RawClient slow(path);
  const auto bytes = bytes_of(request_of(3, "patience"));
  for (const std::byte& byte : bytes) {
    EXPECT_TRUE(slow.send(ByteSpan(&byte, 1)));
    if (&byte == &bytes[20]) expect_service();
  }
  EXPECT_EQ(slow.receive_header().request_id, 3U);
}

TEST_F(Threat, answers_never_read_pause_that_peer_only) {
  RawClient greedy(path);
  wire::Frame request = request_of(1);
  request.payload = wire::Payload::allocate(kMiB / 2);
  std::ranges::fill(request.payload.writable(), std::byte{7});
  const auto bytes = bytes_of(std::move(request));
  // An echo of half a MiB each: the node must stop taking them when nobody takes the answers.
  std::size_t taken = 0;
  while (taken < 1000 * bytes.size()) {
    const std::size_t more = greedy.send_some(ByteSpan(bytes).subspan(taken % bytes.size()));
    if (more == 0) break;
    taken += more;
  }
  EXPECT_GT(taken, kMiB);
  expect_service();
  EXPECT_LT(taken, limits::kServedBytesMax + 8 * kMiB);
  greedy.close();
  EXPECT_EQ(server.wait_ended(2).size(), 2U);
}

TEST_F(Threat, peer_that_vanishes_in_the_middle_of_a_frame) {
  const auto bytes = bytes_of(request_of(1, std::string(1000, 'x')));
  std::size_t connections = 0;
  for (std::size_t length = 0; length < bytes.size(); length += 97) {
    RawClient client(path);
    EXPECT_TRUE(length == 0 || client.send(ByteSpan(bytes).first(length)));
    client.close();
    ++connections;
  }
  const auto ends = server.wait_ended(connections);
  EXPECT_EQ(std::ranges::count(ends, Errc::disconnected), static_cast<std::ptrdiff_t>(connections));
  expect_service();
}

TEST_F(Threat, peer_that_vanishes_before_its_answers) {
  for (std::size_t round = 1; round <= 20; ++round) {
    RawClient client(path);
    for (std::uint64_t id = 0; id < 50; ++id) {
      EXPECT_TRUE(client.send(bytes_of(request_of(id, std::string(5000, 'x')))));
    }
    client.close();
    EXPECT_EQ(server.wait_ended(round).size(), round);
  }
  expect_service();
}

TEST_F(Threat, answer_to_unknown_request_ends_the_connection) {
  RawClient client(path);
  wire::Frame frame = request_of(12345);
  frame.header.type = wire::FrameType::response;
  EXPECT_TRUE(client.send(bytes_of(std::move(frame))));
  EXPECT_TRUE(client.is_closed_by_peer());
  EXPECT_EQ(server.wait_ended(1).at(0), Errc::bad_frame);
  expect_service();
}

TEST_F(Threat, frame_of_a_higher_version_is_newer_format) {
  RawClient client(path);
  std::vector<std::byte> bytes = bytes_of(request_of(1));
  bytes[4] = std::byte{2};
  ByteWriter out;
  out.put_bytes(ByteSpan(bytes).first(40)).put(xxh3(ByteSpan(bytes).first(40)));
  EXPECT_TRUE(client.send(out.bytes()));
  EXPECT_EQ(server.wait_ended(1).at(0), Errc::newer_format);
  expect_service();
}

}  // namespace
}  // namespace vmstore::net::test
