// SPDX-License-Identifier: Apache-2.0
#include "wire/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

#include "base/checksum.h"
#include "base/limits.h"
#include "tests/unit/wire/golden.h"

namespace vmstore::wire {
namespace {

using test::golden;

std::string text_of(std::initializer_list<unsigned> bytes) {
  std::string text;
  for (const unsigned byte : bytes) text.push_back(static_cast<char>(byte));
  return text;
}

Payload payload_of(std::string_view text) {
  Payload payload = Payload::allocate(text.size());
  std::ranges::copy(as_byte_span(text), payload.writable().begin());
  return payload;
}

Frame sealed(Frame frame) {
  EXPECT_TRUE(seal_frame(frame));
  return frame;
}

Frame request_frame() {
  Frame frame;
  frame.header.opcode = Opcode::key_fence;
  frame.header.request_id = 1;
  frame.control = text_of({9, 0x89, 0x67, 0x45, 0x23, 1, 0, 0, 0, 0x11, 7, 0, 0, 0, 0, 0, 0, 0});
  return sealed(std::move(frame));
}

Frame response_frame() {
  Frame frame;
  frame.header.type = FrameType::response;
  frame.header.opcode = Opcode::key_read;
  frame.header.request_id = ~std::uint64_t{0};
  frame.header.payload_has_own_sums = true;
  frame.control = text_of({0x0a, 8, 99, 0, 0, 0, 0, 0, 0, 0});
  std::string bytes;
  for (char c = 0; c < 32; ++c) bytes.push_back(c);
  frame.payload = payload_of(bytes);
  return sealed(std::move(frame));
}

Frame error_frame() {
  Frame frame;
  frame.header.type = FrameType::response;
  frame.header.opcode = Opcode::key_append;
  frame.header.request_id = std::uint64_t{1} << 63;
  frame.header.status = Errc::stale_token;
  frame.payload = payload_of("12345");
  return sealed(std::move(frame));
}

Frame one_way_frame() {
  Frame frame;
  frame.header.type = FrameType::one_way;
  frame.header.opcode = Opcode::meta_event;
  return sealed(std::move(frame));
}

Frame descriptor_frame() {
  Frame frame;
  frame.header.type = FrameType::response;
  frame.header.opcode = Opcode::key_files;
  frame.header.request_id = 5;
  frame.descriptors = {-1, -1};
  return sealed(std::move(frame));
}

std::vector<std::byte> bytes_of(const Frame& frame) {
  ByteWriter out;
  out.put_bytes(encode_frame_header(frame.header));
  out.put_bytes(as_byte_span(frame.control));
  out.put_bytes(frame.payload.bytes());
  return out.take();
}

struct Sample {
  const char* file;
  Frame frame;
};
std::vector<Sample> samples() {
  return {{"frame-v1.request.hex", request_frame()},
          {"frame-v1.response.hex", response_frame()},
          {"frame-v1.error.hex", error_frame()},
          {"frame-v1.one-way.hex", one_way_frame()},
          {"frame-v1.descriptors.hex", descriptor_frame()}};
}

Errc decode_error(ByteSpan bytes) {
  const auto header = decode_frame_header(bytes);
  return header ? Errc::ok : header.error().code;
}

/// Puts a number into an encoded header and makes its checksum right again.
std::vector<std::byte> patched(std::array<std::byte, kFrameHeaderBytes> header,
                               std::size_t place,
                               std::uint64_t number,
                               std::size_t width) {
  ByteWriter out;
  out.put_bytes(ByteSpan(header).first(place));
  for (std::size_t i = 0; i < width; ++i) {
    out.put(static_cast<std::uint8_t>((number >> (8 * i)) & 0xffU));
  }
  out.put_bytes(ByteSpan(header).subspan(place + width, 40 - place - width));
  out.put(xxh3(out.bytes()));
  return out.take();
}

TEST(FrameGolden, BytesAreTheDocumentedOnes) {
  for (const Sample& sample : samples()) {
    const auto bytes = golden(sample.file);
    EXPECT_EQ(bytes_of(sample.frame), bytes) << sample.file;
    const auto header = decode_frame_header(bytes);
    ASSERT_TRUE(header) << sample.file;
    EXPECT_EQ(*header, sample.frame.header) << sample.file;
    EXPECT_TRUE(check_body(sample.frame)) << sample.file;
  }
}

TEST(FrameGolden, HigherVersionIsNewerFormat) {
  EXPECT_EQ(decode_error(golden("frame-v2.newer.hex")), Errc::newer_format);
}

TEST(FrameGolden, ReservedFlagIsABadFrame) {
  EXPECT_EQ(decode_error(golden("frame-v1.reserved-flag.hex")), Errc::bad_frame);
}

TEST(FrameHeader, EveryTruncationIsRefused) {
  const auto bytes = encode_frame_header(response_frame().header);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(decode_error(ByteSpan(bytes).first(length)), Errc::bad_frame) << length;
  }
}

TEST(FrameHeader, EverySingleBitFlipIsRefused) {
  auto bytes = encode_frame_header(response_frame().header);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    bytes[bit / 8] ^= mask;
    EXPECT_EQ(decode_error(bytes), Errc::bad_frame) << bit;
    bytes[bit / 8] ^= mask;
  }
}

TEST(FrameHeader, LengthsOverTheLimitAreRefused) {
  const auto bytes = encode_frame_header(request_frame().header);
  for (const std::size_t place : {24U, 28U}) {
    EXPECT_EQ(decode_error(patched(bytes, place, limits::kControlBytesMax, 4)), Errc::ok);
    for (const std::uint64_t bad : {std::uint64_t{limits::kControlBytesMax} + 1,
                                    std::uint64_t{0x7fffffff},
                                    std::uint64_t{0x80000000},
                                    std::uint64_t{0xffffffff}}) {
      EXPECT_EQ(decode_error(patched(bytes, place, bad, 4)), Errc::bad_frame) << bad;
    }
  }
  EXPECT_EQ(decode_error(patched(bytes, 20, 4U << 8, 4)), Errc::ok);  // descriptors
  EXPECT_EQ(decode_error(patched(bytes, 20, 5U << 8, 4)), Errc::bad_frame);
}

TEST(FrameHeader, RequestIdsAreAny64Bits) {
  const auto bytes = encode_frame_header(request_frame().header);
  for (const std::uint64_t id : {std::uint64_t{0},
                                 std::uint64_t{1},
                                 std::uint64_t{0x7fffffff},
                                 std::uint64_t{0x80000000},
                                 std::uint64_t{0x1ffffffff},
                                 std::uint64_t{1} << 33,
                                 std::uint64_t{1} << 63,
                                 ~std::uint64_t{0}}) {
    const auto header = decode_frame_header(patched(bytes, 8, id, 8));
    ASSERT_TRUE(header);
    EXPECT_EQ(header->request_id, id);
  }
}

TEST(FrameHeader, UnknownOpcodesPassAndUnknownTypesDoNot) {
  const auto bytes = encode_frame_header(request_frame().header);
  EXPECT_EQ(decode_error(patched(bytes, 6, 0xffff, 2)), Errc::ok);
  EXPECT_EQ(decode_error(patched(bytes, 5, 0, 1)), Errc::bad_frame);
  EXPECT_EQ(decode_error(patched(bytes, 5, 4, 1)), Errc::bad_frame);
  EXPECT_EQ(decode_error(patched(bytes, 4, 0, 1)), Errc::bad_frame);  // version 0
}

TEST(FrameHeader, OnlyAnswersCarryAStatus) {
  const auto bytes = encode_frame_header(request_frame().header);
  EXPECT_EQ(decode_error(patched(bytes, 16, 4, 4)), Errc::bad_frame);
}

TEST(FrameHeader, StatusOfANewerPeerIsUnknown) {
  const auto bytes = encode_frame_header(error_frame().header);
  const auto header = decode_frame_header(patched(bytes, 16, 0x7fffffff, 4));
  ASSERT_TRUE(header);
  EXPECT_EQ(header->status, Errc::unknown);
}

TEST(FrameBody, ChangedControlOrPayloadIsABadFrame) {
  Frame frame = error_frame();
  frame.payload.writable()[4] ^= std::byte{1};
  EXPECT_EQ(check_body(frame).error(), Errc::bad_frame);
  frame = request_frame();
  frame.control[3] ^= 1;
  EXPECT_EQ(check_body(frame).error(), Errc::bad_frame);
  frame = request_frame();
  frame.control.pop_back();
  EXPECT_EQ(check_body(frame).error(), Errc::bad_frame);
}

TEST(FrameBody, PayloadWithOwnSumsIsLeftToThem) {
  Frame frame = response_frame();
  frame.payload.writable()[0] ^= std::byte{1};
  EXPECT_TRUE(check_body(frame));
}

TEST(FrameBody, PiecesSumLikeOnePiece) {
  static const std::string text(10000, 'x');
  const ByteSpan bytes = as_byte_span(text);
  Frame whole;
  whole.payload = payload_of(text);
  Frame pieces;
  pieces.payload = Payload({bytes.first(1), bytes.subspan(1, 0), bytes.subspan(1)}, nullptr);
  EXPECT_EQ(pieces.payload.pieces().size(), 2U);
  EXPECT_EQ(sealed(whole).header, sealed(pieces).header);
}

TEST(FrameBody, SealingRefusesWhatIsOverTheLimits) {
  Frame frame;
  frame.control.resize(limits::kControlBytesMax);
  frame.payload = Payload::allocate(limits::kPayloadBytesMax);
  frame.header.payload_has_own_sums = true;
  EXPECT_TRUE(seal_frame(frame));
  frame.control.push_back('x');
  EXPECT_EQ(seal_frame(frame).error(), Errc::bad_frame);
  frame.control.clear();
  frame.payload = Payload::allocate(limits::kPayloadBytesMax + 1);
  EXPECT_EQ(seal_frame(frame).error(), Errc::bad_frame);
  frame.payload = Payload();
  frame.descriptors.assign(5, -1);
  EXPECT_EQ(seal_frame(frame).error(), Errc::bad_frame);
}

TEST(Payload, AllocatedMemoryIsAlignedForDirectFiles) {
  for (const std::size_t bytes : {1U, 4096U, 5000U, 1U << 20}) {
    Payload payload = Payload::allocate(bytes);
    EXPECT_EQ(payload.size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(payload.bytes().data()) % 4096, 0U);
    std::ranges::fill(payload.writable(), std::byte{1});
  }
  EXPECT_TRUE(Payload::allocate(0).empty());
}

TEST(Payload, CopiesShareTheirBytes) {
  Payload first = payload_of("abc");
  const Payload second = first;
  first.writable()[0] = std::byte{'z'};
  EXPECT_EQ(as_text(second.bytes()), "zbc");
}

}  // namespace
}  // namespace vmstore::wire
