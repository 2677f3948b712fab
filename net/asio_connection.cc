// SPDX-License-Identifier: Apache-2.0
#include "net/asio_connection.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/process.h"

namespace vmstore::net {
namespace {

constexpr std::size_t kPartsMax = 512;  // below IOV_MAX
/// A frame still under way and the one behind it: more was never announced.
constexpr std::size_t kDescriptorsKeptMax = std::size_t{2} * limits::kDescriptorsMax;
constexpr std::size_t kDescriptorSpace = CMSG_SPACE(limits::kDescriptorsMax * sizeof(int));

struct alignas(cmsghdr) AncillaryBuffer {
  std::array<char, kDescriptorSpace> bytes{};
};

PeerCredentials peer_of(int fd) {
  PeerCredentials peer;
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return peer;
  if (address.ss_family != AF_UNIX) return peer;
  ucred credentials{};
  length = sizeof(credentials);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return peer;
  peer.same_host = true;
  peer.pid = static_cast<std::uint32_t>(credentials.pid);
  peer.uid = credentials.uid;
  return peer;
}

iovec part_of(ByteSpan bytes) {
  // sendmsg() does not write through it.
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace

Error connection_error(int os_errno) noexcept {
  switch (os_errno) {
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
    case ETIMEDOUT:
      return {Errc::disconnected, os_errno};
    default:
      return {Errc::io_error, os_errno};
  }
}

/// The parts of a frame that the kernel has not taken yet.
class AsioConnection::Cursor {
 public:
  Cursor(ByteSpan header, const wire::Frame& frame) {
    parts_.reserve(2 + frame.payload.pieces().size());
    parts_.push_back(part_of(header));
    if (!frame.control.empty()) parts_.push_back(part_of(as_byte_span(frame.control)));
    for (const ByteSpan piece : frame.payload.pieces()) parts_.push_back(part_of(piece));
  }
  [[nodiscard]] bool at_start() const { return at_start_; }
  [[nodiscard]] bool at_end() const { return next_ == parts_.size(); }
  [[nodiscard]] std::span<iovec> rest() {
    return std::span(parts_).subspan(next_, std::min(parts_.size() - next_, kPartsMax));
  }
  void advance(std::size_t bytes) {
    at_start_ = false;
    while (next_ < parts_.size() && bytes >= parts_[next_].iov_len) {
      bytes -= parts_[next_++].iov_len;
    }
    if (bytes == 0) return;
    parts_[next_].iov_base = static_cast<std::byte*>(parts_[next_].iov_base) + bytes;
    parts_[next_].iov_len -= bytes;
  }

 private:
  std::vector<iovec> parts_;
  std::size_t next_ = 0;
  bool at_start_ = true;
};

AsioConnection::AsioConnection(AsioSocket socket)
    : socket_(std::move(socket)),
      peer_(peer_of(socket_.fd())),
      reader_(socket_.io().loop().read_buffers) {
  if (!peer_.same_host || peer_.pid == 0) return;
  const auto stat = read_process_stat(peer_.pid);
  if (stat && !stat->is_over) peer_start_ = stat->start_ticks;
}

AsioConnection::~AsioConnection() {
  close();
  close_descriptors();
}

bool AsioConnection::is_peer_gone() const noexcept {
  // A killed process closes its sockets while it is still in /proc, on its way out.
  if (!peer_start_) return false;
  const auto stat = read_process_stat(peer_.pid);
  if (!stat) return stat.error() == Errc::not_found;
  return stat->is_over || stat->start_ticks != *peer_start_;
}

void AsioConnection::close() noexcept {
  socket_.close();
}

/// Sends what the kernel takes; `busy` when it takes nothing now.
Result<std::size_t> AsioConnection::send_some(Cursor& cursor, const std::vector<int>& descriptors) {
  if (socket_.is_closed()) return Errc::closing;
  const std::span<iovec> parts = cursor.rest();
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  AncillaryBuffer ancillary;
  if (cursor.at_start() && !descriptors.empty()) {
    const std::size_t bytes = descriptors.size() * sizeof(int);
    message.msg_control = ancillary.bytes.data();
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(head), descriptors.data(), bytes);
  }
  while (true) {
    const ssize_t sent = ::sendmsg(socket_.fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno == EAGAIN) return Errc::busy;
    if (errno != EINTR) return connection_error(errno);
  }
}

Task<Result<void>> AsioConnection::send(const wire::Frame& frame) {
  VMS_ASSERT(frame.descriptors.size() == frame.header.descriptor_count);  // sealed
  if (!frame.descriptors.empty() && !peer_.same_host) co_return Errc::unsupported;
  const auto header = wire::encode_frame_header(frame.header);
  Cursor cursor(header, frame);
  while (!cursor.at_end()) {
    const auto sent = send_some(cursor, frame.descriptors);
    if (sent) {
      cursor.advance(*sent);
    } else if (sent.error() == Errc::busy) {
      co_await socket_.writable();
    } else {
      co_return sent.error();
    }
  }
  co_return success();
}

/// Takes over the descriptors of a message. `bad_frame`, with all of them closed later, when there
/// are more than any frame could have announced.
Result<void> AsioConnection::keep_descriptors(const msghdr& message) {
  msghdr mutable_copy = message;  // CMSG_NXTHDR wants it so
  for (cmsghdr* head = CMSG_FIRSTHDR(&mutable_copy); head != nullptr;
       head = CMSG_NXTHDR(&mutable_copy, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
      descriptors_.push_back(fd);
    }
  }
  const bool cut = (message.msg_flags & MSG_CTRUNC) != 0;  // the kernel closed the rest
  if (cut || descriptors_.size() > kDescriptorsKeptMax) return Errc::bad_frame;
  return success();
}

/// Reads what is there; `busy` when nothing is.
Result<void> AsioConnection::receive_some() {
  if (socket_.is_closed()) return Errc::closing;
  if (drained_) return Errc::busy;
  const FrameReader::Space space = reader_.space();
  std::array<iovec, 2> parts = {iovec{space[0].data(), space[0].size()},
                                iovec{space[1].data(), space[1].size()}};
  AncillaryBuffer ancillary;
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = space[1].empty() ? 1 : 2;
  if (peer_.same_host) {
    message.msg_control = ancillary.bytes.data();
    message.msg_controllen = ancillary.bytes.size();
  }
  while (true) {
    const ssize_t got = ::recvmsg(socket_.fd(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got > 0) {
      const auto bytes = static_cast<std::size_t>(got);
      reader_.received(bytes);
      drained_ = bytes < space[0].size() + space[1].size();
      return keep_descriptors(message);
    }
    if (got == 0) return Errc::disconnected;
    if (errno == EAGAIN) return Errc::busy;
    if (errno != EINTR) return connection_error(errno);
  }
}

/// Gives the frame its descriptors and checks it.
Result<void> AsioConnection::complete(wire::Frame& frame) {
  // They came with its first byte: those that are not there now never will be.
  if (frame.header.descriptor_count > descriptors_.size()) return Errc::bad_frame;
  for (unsigned i = 0; i < frame.header.descriptor_count; ++i) {
    frame.descriptors.push_back(descriptors_.front());
    descriptors_.pop_front();
  }
  if (reader_.is_between_frames()) close_descriptors();  // nobody announced them
  const auto checked = wire::check_body(frame);
  if (!checked) {
    for (const int fd : frame.descriptors) ::close(fd);
    frame.descriptors.clear();
  }
  return checked;
}

Task<Result<wire::Frame>> AsioConnection::receive() {
  while (true) {
    VMS_CO_TRY(auto frame, reader_.next());
    if (frame) {
      VMS_CO_CHECK(complete(*frame));
      co_return std::move(*frame);
    }
    const auto got = receive_some();
    if (got) continue;
    if (got.error() != Errc::busy) co_return got.error();
    reader_.rest();
    co_await socket_.readable();
    drained_ = false;
  }
}

void AsioConnection::close_descriptors() noexcept {
  while (!descriptors_.empty()) {
    ::close(descriptors_.back());
    descriptors_.pop_back();
  }
}

}  // namespace vmstore::net
