// SPDX-License-Identifier: Apache-2.0
// Frames: a fixed header, a protobuf control message, a raw payload. docs/format/wire.md.
//
// Invariants: every length is checked against limits.h before anything is allocated; header,
// control and (unless it carries its own block sums) payload are checksummed; a bad frame ends the
// connection, never the process.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/errc.h"
#include "base/result.h"

namespace vmstore::wire {

enum class Opcode : std::uint16_t {
  hello = 1,
  ping = 2,
  key_create = 10,
  key_append = 11,
  key_fence = 12,
  key_seal = 13,
  key_read = 14,
  key_read_log = 15,
  key_reserve = 16,
  key_free = 17,
  key_committed = 18,
  key_files = 19,
  key_info = 20,
  key_repair = 21,
  key_draw = 22,
  meta_get = 30,
  meta_txn = 31,
  meta_range = 32,
  meta_watch = 33,
  meta_event = 34,  // one-way, node to client
  meta_unwatch = 35,
  disk_hold = 40,
  disk_release = 41,
  disk_renew = 42,
  disk_holder = 43,
  disk_call = 44,  // asks the holder of a disk; the node relays it
  node_status = 50,
  gc_run = 51,
  meta_backup = 52,
};

enum class FrameType : std::uint8_t { request = 1, response = 2, one_way = 3 };

inline constexpr std::uint8_t kWireVersion = 1;
inline constexpr std::uint8_t kWireVersionOldest = 1;
inline constexpr std::size_t kFrameHeaderBytes = 48;

struct FrameHeader {
  std::uint8_t version = kWireVersion;
  FrameType type = FrameType::request;
  Opcode opcode = Opcode::ping;
  std::uint64_t request_id = 0;
  Errc status = Errc::ok;  // responses only
  std::uint32_t control_bytes = 0;
  std::uint32_t payload_bytes = 0;
  bool payload_has_own_sums = false;  // block payloads: their sums travel in the control message
  std::uint8_t descriptor_count =
      0;                            // SCM_RIGHTS descriptors that came with the frame's first byte
  std::uint64_t body_checksum = 0;  // XXH3 of control, then of payload unless it has own sums
  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

[[nodiscard]] std::array<std::byte, kFrameHeaderBytes> encode_frame_header(const FrameHeader& h);
/// `bad_frame` for anything not encodable or over the limits; `newer_format` for a version above
/// kWireVersion. Unknown opcodes pass (the service answers `unsupported`).
[[nodiscard]] Result<FrameHeader> decode_frame_header(ByteSpan bytes);

/// Bytes of a payload, 4 KiB aligned so that they can go to O_DIRECT files, shared by reference.
class Payload {
 public:
  Payload() = default;
  /// One aligned allocation of `bytes`, uninitialised.
  [[nodiscard]] static Payload allocate(std::size_t bytes);
  /// Refers to memory that `owner` keeps alive; may be in several pieces (batch slots).
  Payload(std::vector<ByteSpan> pieces, std::shared_ptr<void> owner);
  [[nodiscard]] std::size_t size() const noexcept { return bytes_; }
  [[nodiscard]] bool empty() const noexcept { return bytes_ == 0; }
  [[nodiscard]] const std::vector<ByteSpan>& pieces() const noexcept { return pieces_; }
  /// The bytes in one piece. REQUIRES: at most one piece (every received payload has one).
  [[nodiscard]] ByteSpan bytes() const noexcept;
  /// Writable view. REQUIRES: made by allocate().
  [[nodiscard]] MutableBytes writable() noexcept;

 private:
  std::vector<ByteSpan> pieces_;
  std::size_t bytes_ = 0;
  MutableBytes writable_;
  std::shared_ptr<void> owner_;
};

struct Frame {
  FrameHeader header;   // lengths, counts and checksum are filled in by seal_frame()
  std::string control;  // serialized protobuf
  Payload payload;
  /// SCM_RIGHTS, unix sockets only, at most limits::kDescriptorsMax. A receiver owns them; a sender
  /// keeps its own.
  std::vector<int> descriptors;
};

/// Fills in lengths and checksum before sending. `bad_frame` when over the limits.
[[nodiscard]] Result<void> seal_frame(Frame& frame);
/// Checks the body checksum of a received frame.
[[nodiscard]] Result<void> check_body(const Frame& frame);

}  // namespace vmstore::wire
