// SPDX-License-Identifier: Apache-2.0
// Byte layout: docs/format/wire.md.
#include "wire/frame.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/limits.h"

namespace vmstore::wire {
namespace {

constexpr std::uint32_t kMagic = 0x46534d56;  // "VMSF"
constexpr std::uint32_t kFlagOwnSums = 1;
constexpr unsigned kDescriptorShift = 8;  // bits 8..10 of the flags: 0..4 descriptors
constexpr std::uint32_t kDescriptorMask = 7U << kDescriptorShift;
constexpr std::size_t kHeaderSumOffset = kFrameHeaderBytes - sizeof(std::uint64_t);
constexpr std::size_t kPayloadAlignment = 4096;

/// ByteWriter without an allocation: a header is made for every frame.
struct HeaderWriter {
  std::array<std::byte, kFrameHeaderBytes> bytes{};
  std::size_t used = 0;
  template <class T>
  HeaderWriter& put(T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      bytes[used++] = static_cast<std::byte>((std::uint64_t{value} >> (8 * i)) & 0xffU);
    }
    return *this;
  }
};

bool lengths_allowed(const FrameHeader& h) {
  return h.control_bytes <= limits::kControlBytesMax &&
         h.payload_bytes <= limits::kPayloadBytesMax &&
         h.descriptor_count <= limits::kDescriptorsMax;
}

bool is_known_type(FrameType type) {
  return type == FrameType::request || type == FrameType::response || type == FrameType::one_way;
}

/// What encode asserts and decode answers `bad_frame` for.
bool is_possible(const FrameHeader& h) {
  if (!is_known_type(h.type) || !lengths_allowed(h)) return false;
  return h.type == FrameType::response || h.status == Errc::ok;
}

std::uint64_t body_checksum(const Frame& frame) {
  const ByteSpan control = as_byte_span(frame.control);
  if (frame.header.payload_has_own_sums || frame.payload.empty()) return xxh3(control);
  std::vector<ByteSpan> pieces;
  pieces.reserve(1 + frame.payload.pieces().size());
  pieces.push_back(control);
  pieces.insert(pieces.end(), frame.payload.pieces().begin(), frame.payload.pieces().end());
  return xxh3(pieces);
}

}  // namespace

std::array<std::byte, kFrameHeaderBytes> encode_frame_header(const FrameHeader& h) {
  VMS_ASSERT(is_possible(h));
  std::uint32_t flags = h.payload_has_own_sums ? kFlagOwnSums : 0;
  flags |= static_cast<std::uint32_t>(h.descriptor_count) << kDescriptorShift;
  HeaderWriter out;
  out.put(kMagic).put(h.version).put(static_cast<std::uint8_t>(h.type));
  out.put(static_cast<std::uint16_t>(h.opcode)).put(h.request_id);
  out.put(static_cast<std::uint32_t>(h.status)).put(flags);
  out.put(h.control_bytes).put(h.payload_bytes).put(h.body_checksum);
  VMS_ASSERT(out.used == kHeaderSumOffset);
  out.put(xxh3(ByteSpan(out.bytes).first(out.used)));
  return out.bytes;
}

Result<FrameHeader> decode_frame_header(ByteSpan bytes) {
  if (bytes.size() < kFrameHeaderBytes) return Errc::bad_frame;
  ByteReader in(bytes.first(kFrameHeaderBytes));
  const auto magic = in.get<std::uint32_t>();
  FrameHeader h;
  h.version = in.get<std::uint8_t>();
  h.type = static_cast<FrameType>(in.get<std::uint8_t>());
  h.opcode = static_cast<Opcode>(in.get<std::uint16_t>());
  h.request_id = in.get<std::uint64_t>();
  const auto status = static_cast<std::int32_t>(in.get<std::uint32_t>());
  const auto flags = in.get<std::uint32_t>();
  h.control_bytes = in.get<std::uint32_t>();
  h.payload_bytes = in.get<std::uint32_t>();
  h.body_checksum = in.get<std::uint64_t>();
  const auto header_sum = in.get<std::uint64_t>();
  if (magic != kMagic || header_sum != xxh3(bytes.first(kHeaderSumOffset))) return Errc::bad_frame;
  if (h.version > kWireVersion) return Errc::newer_format;
  if (h.version < kWireVersionOldest) return Errc::bad_frame;
  if ((flags & ~(kFlagOwnSums | kDescriptorMask)) != 0) return Errc::bad_frame;
  h.payload_has_own_sums = (flags & kFlagOwnSums) != 0;
  h.descriptor_count = static_cast<std::uint8_t>((flags & kDescriptorMask) >> kDescriptorShift);
  h.status = errc_from_wire(status);
  if (!is_possible(h)) return Errc::bad_frame;
  return h;
}

Payload Payload::allocate(std::size_t bytes) {
  Payload payload;
  if (bytes == 0) return payload;
  const std::size_t rounded =
      (bytes + kPayloadAlignment - 1) / kPayloadAlignment * kPayloadAlignment;
  void* const memory = std::aligned_alloc(kPayloadAlignment, rounded);
  if (memory == nullptr) throw std::bad_alloc();
  payload.owner_ = std::shared_ptr<void>(memory, std::free);
  payload.writable_ = MutableBytes(static_cast<std::byte*>(memory), bytes);
  payload.pieces_.emplace_back(payload.writable_);
  payload.bytes_ = bytes;
  return payload;
}

Payload::Payload(std::vector<ByteSpan> pieces, std::shared_ptr<void> owner)
    : pieces_(std::move(pieces)), owner_(std::move(owner)) {
  std::erase_if(pieces_, [](ByteSpan piece) { return piece.empty(); });
  for (const ByteSpan piece : pieces_) bytes_ += piece.size();
}

ByteSpan Payload::bytes() const noexcept {
  VMS_ASSERT(pieces_.size() <= 1);
  return pieces_.empty() ? ByteSpan() : pieces_.front();
}

MutableBytes Payload::writable() noexcept {
  VMS_ASSERT(writable_.size() == bytes_);
  return writable_;
}

Result<void> seal_frame(Frame& frame) {
  const std::size_t control = frame.control.size();
  const std::size_t payload = frame.payload.size();
  if (control > limits::kControlBytesMax || payload > limits::kPayloadBytesMax ||
      frame.descriptors.size() > limits::kDescriptorsMax) {
    return Errc::bad_frame;
  }
  frame.header.control_bytes = static_cast<std::uint32_t>(control);
  frame.header.payload_bytes = static_cast<std::uint32_t>(payload);
  frame.header.descriptor_count = static_cast<std::uint8_t>(frame.descriptors.size());
  frame.header.body_checksum = body_checksum(frame);
  return is_possible(frame.header) ? success() : Result<void>(Errc::bad_frame);
}

Result<void> check_body(const Frame& frame) {
  const bool complete = frame.control.size() == frame.header.control_bytes &&
                        frame.payload.size() == frame.header.payload_bytes &&
                        frame.descriptors.size() == frame.header.descriptor_count;
  if (!complete || body_checksum(frame) != frame.header.body_checksum) return Errc::bad_frame;
  return success();
}

}  // namespace vmstore::wire
