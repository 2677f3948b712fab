// SPDX-License-Identifier: Apache-2.0
// FrameReader: frames out of a stream of bytes, without a socket.
//
// Invariants: a header is checked before memory is taken for what it announces; control memory
// grows only with bytes that came, payload memory is not touched before they come; a payload over
// 64 KiB is received in place, the rest through one buffer, so that a small frame needs one read.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "wire/frame.h"

namespace vmstore::net {

/// Spare read buffers of one thread, so that an idle connection holds none.
class ReadBuffers {
 public:
  static constexpr std::size_t kBufferBytes = 64 * 1024;
  using Buffer = std::unique_ptr<std::byte[]>;
  [[nodiscard]] Buffer take();
  void give_back(Buffer buffer);

 private:
  static constexpr std::size_t kSparesMax = 8;
  std::vector<Buffer> spares_;
};

/// THREADS: one.
class FrameReader {
 public:
  /// `buffers` outlives the reader.
  explicit FrameReader(ReadBuffers& buffers) : buffers_(buffers) {}

  /// The next frame if all of it is there, its descriptors and body not looked at; empty when more
  /// bytes are needed; `bad_frame` or `newer_format` once the stream is beyond use.
  [[nodiscard]] Result<std::optional<wire::Frame>> next();

  /// Where the next bytes go, the first span before the second. Never empty. REQUIRES: next() just
  /// answered that more are needed.
  using Space = std::array<MutableBytes, 2>;
  [[nodiscard]] Space space();
  /// So many bytes were put there.
  void received(std::size_t bytes);

  /// True between frames: no byte of the next one came.
  [[nodiscard]] bool is_between_frames() const noexcept {
    return stage_ == Stage::header && begin_ == end_;
  }
  /// Gives the buffer back if no byte is in it: before a wait.
  void rest();

 private:
  enum class Stage { header, control, payload };
  [[nodiscard]] ByteSpan buffered() const noexcept {
    return {buffer_.get() + begin_, end_ - begin_};
  }
  ByteSpan consume(std::size_t bytes_max);
  [[nodiscard]] Result<bool> read_header();
  [[nodiscard]] bool read_control();
  [[nodiscard]] bool read_payload();

  ReadBuffers& buffers_;
  ReadBuffers::Buffer buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  Stage stage_ = Stage::header;
  wire::Frame frame_;
  std::size_t payload_received_ = 0;
};

}  // namespace vmstore::net
