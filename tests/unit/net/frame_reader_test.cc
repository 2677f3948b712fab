// SPDX-License-Identifier: Apache-2.0
#include "net/frame_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/limits.h"
#include "base/random.h"

namespace vmstore::net {
namespace {

wire::Frame make_frame(std::uint64_t id, std::size_t control, std::size_t payload) {
  wire::Frame frame;
  frame.header.request_id = id;
  frame.control.assign(control, static_cast<char>('a' + id % 26));
  frame.payload = wire::Payload::allocate(payload);
  std::size_t i = 0;
  for (std::byte& byte : frame.payload.writable())
    byte = static_cast<std::byte>((i++ * 7 + id) & 255U);
  EXPECT_TRUE(wire::seal_frame(frame));
  return frame;
}

void append(std::vector<std::byte>& stream, const wire::Frame& frame) {
  const auto header = wire::encode_frame_header(frame.header);
  stream.insert(stream.end(), header.begin(), header.end());
  const ByteSpan control = as_byte_span(frame.control);
  stream.insert(stream.end(), control.begin(), control.end());
  const ByteSpan payload = frame.payload.bytes();
  stream.insert(stream.end(), payload.begin(), payload.end());
}

/// Puts up to `bytes_max` of the stream where the reader wants them, as recvmsg() would.
std::size_t feed(FrameReader& reader, ByteSpan stream, std::size_t bytes_max) {
  stream = stream.first(std::min(bytes_max, stream.size()));
  std::size_t fed = 0;
  for (const MutableBytes space : reader.space()) {
    const std::size_t part = std::min(space.size(), stream.size() - fed);
    std::copy_n(stream.begin() + static_cast<std::ptrdiff_t>(fed), part, space.begin());
    fed += part;
  }
  EXPECT_GT(fed, 0U);
  reader.received(fed);
  return fed;
}

/// Everything that comes out of the stream when it arrives in pieces of `piece(…)` bytes.
template <class Piece>
std::vector<wire::Frame> read_all(ByteSpan stream, Piece piece) {
  ReadBuffers buffers;
  FrameReader reader(buffers);
  std::vector<wire::Frame> frames;
  while (true) {
    auto frame = reader.next();
    EXPECT_TRUE(frame);
    if (!frame) return frames;
    if (*frame) {
      EXPECT_TRUE(wire::check_body(**frame));
      frames.push_back(std::move(**frame));
      continue;
    }
    if (stream.empty()) break;
    stream = stream.subspan(feed(reader, stream, piece()));
  }
  EXPECT_TRUE(reader.is_between_frames());
  return frames;
}

std::vector<wire::Frame> sample_frames() {
  std::vector<wire::Frame> frames;
  std::uint64_t id = 0;
  for (const std::size_t control : {0U, 1U, 300U, 70000U}) {
    for (const std::size_t payload : {0U, 1U, 4096U, 65536U, 200000U}) {
      frames.push_back(make_frame(++id, control, payload));
    }
  }
  return frames;
}

void expect_same(const std::vector<wire::Frame>& got, const std::vector<wire::Frame>& sent) {
  ASSERT_EQ(got.size(), sent.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].header, sent[i].header) << i;
    EXPECT_EQ(got[i].control, sent[i].control) << i;
    EXPECT_TRUE(std::ranges::equal(got[i].payload.bytes(), sent[i].payload.bytes())) << i;
  }
}

TEST(FrameReader, FramesComeOutHoweverTheStreamIsCut) {
  const auto sent = sample_frames();
  std::vector<std::byte> stream;
  for (const wire::Frame& frame : sent) append(stream, frame);
  expect_same(read_all(stream, [] { return ~std::size_t{0}; }), sent);
  for (const std::size_t piece : {1U, 47U, 48U, 49U, 4096U, 65535U}) {
    expect_same(read_all(stream, [piece] { return piece; }), sent);
  }
  Random random(7);
  for (int round = 0; round < 20; ++round) {
    expect_same(read_all(stream, [&random] { return 1 + random.below(100000); }), sent);
  }
}

TEST(FrameReader, ASmallFrameNeedsOneRead) {
  std::vector<std::byte> stream;
  append(stream, make_frame(1, 300, 4096));
  ReadBuffers buffers;
  FrameReader reader(buffers);
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(feed(reader, stream, stream.size()), stream.size());
  const auto frame = reader.next();
  ASSERT_TRUE(frame && *frame);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>((*frame)->payload.bytes().data()) % 4096, 0U);
}

TEST(FrameReader, ALargePayloadIsReceivedInPlaceWithWhatFollows) {
  std::vector<std::byte> stream;
  append(stream, make_frame(1, 10, 1 << 20));
  append(stream, make_frame(2, 10, 10));
  ReadBuffers buffers;
  FrameReader reader(buffers);
  ByteSpan rest = stream;
  ASSERT_FALSE(*reader.next());
  rest = rest.subspan(feed(reader, rest, rest.size()));
  ASSERT_FALSE(*reader.next());
  rest = rest.subspan(feed(reader, rest, rest.size()));
  EXPECT_TRUE(rest.empty());
  EXPECT_TRUE(*reader.next());
  EXPECT_TRUE(*reader.next());
}

TEST(FrameReader, ABadHeaderIsRefusedBeforeAnythingBehindItIsRead) {
  std::vector<std::byte> stream;
  append(stream, make_frame(1, 10, 10));
  stream[24] ^= std::byte{0xff};  // control length
  ReadBuffers buffers;
  FrameReader reader(buffers);
  ASSERT_TRUE(reader.next());
  feed(reader, stream, wire::kFrameHeaderBytes);
  EXPECT_EQ(reader.next().error(), Errc::bad_frame);
}

TEST(FrameReader, AtRestItHoldsNoBuffer) {
  std::vector<std::byte> stream;
  append(stream, make_frame(1, 10, 10));
  ReadBuffers buffers;
  FrameReader reader(buffers);
  const std::byte* const first = reader.space()[0].data();
  reader.rest();
  FrameReader other(buffers);
  EXPECT_EQ(other.space()[0].data(), first);  // was given back
  EXPECT_NE(reader.space()[0].data(), first);
}

}  // namespace
}  // namespace vmstore::net
