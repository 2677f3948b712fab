// SPDX-License-Identifier: Apache-2.0
#include "net/frame_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace vmstore::net {

ReadBuffers::Buffer ReadBuffers::take() {
  if (spares_.empty()) return std::make_unique_for_overwrite<std::byte[]>(kBufferBytes);
  Buffer buffer = std::move(spares_.back());
  spares_.pop_back();
  return buffer;
}

void ReadBuffers::give_back(Buffer buffer) {
  if (buffer && spares_.size() < kSparesMax) spares_.push_back(std::move(buffer));
}

ByteSpan FrameReader::consume(std::size_t bytes_max) {
  const ByteSpan taken = buffered().first(std::min(bytes_max, end_ - begin_));
  begin_ += taken.size();
  if (begin_ == end_) begin_ = end_ = 0;  // the bytes stay where they are until space()
  return taken;
}

Result<bool> FrameReader::read_header() {
  if (end_ - begin_ < wire::kFrameHeaderBytes) return false;
  VMS_TRY(frame_.header, wire::decode_frame_header(consume(wire::kFrameHeaderBytes)));
  // Usually the whole message is in the buffer; a claim alone takes no more than came.
  frame_.control.reserve(std::min<std::size_t>(frame_.header.control_bytes, end_ - begin_));
  stage_ = Stage::control;
  return true;
}

bool FrameReader::read_control() {
  frame_.control += as_text(consume(frame_.header.control_bytes - frame_.control.size()));
  if (frame_.control.size() < frame_.header.control_bytes) return false;
  frame_.payload = wire::Payload::allocate(frame_.header.payload_bytes);
  payload_received_ = 0;
  stage_ = Stage::payload;
  return true;
}

bool FrameReader::read_payload() {
  const std::size_t size = frame_.header.payload_bytes;
  if (size == 0) return true;
  const ByteSpan bytes = consume(size - payload_received_);
  if (!bytes.empty()) {
    std::memcpy(frame_.payload.writable().data() + payload_received_, bytes.data(), bytes.size());
    payload_received_ += bytes.size();
  }
  return payload_received_ == size;
}

Result<std::optional<wire::Frame>> FrameReader::next() {
  if (stage_ == Stage::header) {
    VMS_TRY(const bool complete, read_header());
    if (!complete) return std::optional<wire::Frame>();
  }
  if (stage_ == Stage::control && !read_control()) return std::optional<wire::Frame>();
  if (!read_payload()) return std::optional<wire::Frame>();
  stage_ = Stage::header;
  return std::optional<wire::Frame>(std::exchange(frame_, wire::Frame()));
}

FrameReader::Space FrameReader::space() {
  if (!buffer_) buffer_ = buffers_.take();
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const MutableBytes free{buffer_.get() + end_, ReadBuffers::kBufferBytes - end_};
  VMS_ASSERT(!free.empty());  // next() leaves less than a header, or nothing
  if (stage_ != Stage::payload) return {free, MutableBytes()};
  return {frame_.payload.writable().subspan(payload_received_), free};
}

void FrameReader::received(std::size_t bytes) {
  if (stage_ == Stage::payload) {
    const std::size_t wanted = frame_.header.payload_bytes - payload_received_;
    const std::size_t in_place = std::min(bytes, wanted);
    payload_received_ += in_place;
    bytes -= in_place;
  }
  end_ += bytes;
  VMS_ASSERT(end_ <= ReadBuffers::kBufferBytes);
}

void FrameReader::rest() {
  if (begin_ == end_) buffers_.give_back(std::move(buffer_));
}

}  // namespace vmstore::net
