// SPDX-License-Identifier: Apache-2.0
// What the tests over real sockets share: a folder, a server of requests, a client that sends any
// bytes.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

#include "net/asio_transport.h"
#include "net/block_on.h"
#include "net/io_thread.h"
#include "net/rpc_peer.h"
#include "net/tls_listener.h"

namespace vmstore::net::test {

inline constexpr std::chrono::seconds kPatience{20};  // of a test for what must happen soon

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vmstore-net-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::vector<std::byte> bytes_of(wire::Frame frame) {
  EXPECT_TRUE(wire::seal_frame(frame));
  ByteWriter out;
  out.put_bytes(wire::encode_frame_header(frame.header));
  out.put_bytes(as_byte_span(frame.control));
  for (const ByteSpan piece : frame.payload.pieces()) out.put_bytes(piece);
  return out.take();
}

inline wire::Frame request_of(std::uint64_t id,
                              std::string control = {},
                              wire::Opcode opcode = wire::Opcode::ping) {
  wire::Frame frame;
  frame.header.opcode = opcode;
  frame.header.request_id = id;
  frame.control = std::move(control);
  return frame;
}

/// A client of a unix or TCP socket that keeps to no rule.
class RawClient {
 public:
  explicit RawClient(const std::string& endpoint) {
    const auto address = parse_endpoint({endpoint});
    EXPECT_TRUE(address);
    fd_ = ::socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(fd_, address->raw(), address->length), 0);
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { close(); }

  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  /// Sends what the peer takes; false when it has gone.
  bool send(ByteSpan bytes, const std::vector<int>& descriptors = {}) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(16 * sizeof(int))> ancillary{};
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
      const std::size_t size = descriptors.size() * sizeof(int);
      message.msg_control = ancillary.data();
      message.msg_controllen = CMSG_SPACE(size);
      cmsghdr* const head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(size);
      std::memcpy(CMSG_DATA(head), descriptors.data(), size);
    }
    return ::sendmsg(fd_, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  /// Sends what the peer takes; 0 when it has taken nothing for a while.
  std::size_t send_some(ByteSpan bytes) {
    constexpr int kWhileMs = 500;
    pollfd wanted{fd_, POLLOUT, 0};
    if (::poll(&wanted, 1, kWhileMs) != 1) return 0;
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent > 0 ? static_cast<std::size_t>(sent) : 0;
  }
  /// The next bytes; none when the peer closed. Fails the test when neither comes.
  std::vector<std::byte> receive(std::size_t bytes_max) {
    pollfd wanted{fd_, POLLIN, 0};
    constexpr auto kWait = std::chrono::duration_cast<std::chrono::milliseconds>(kPatience);
    EXPECT_EQ(::poll(&wanted, 1, static_cast<int>(kWait.count())), 1) << "nothing came";
    std::vector<std::byte> bytes(bytes_max);
    const ssize_t got = ::recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
  }
  bool is_closed_by_peer() { return receive(1).empty(); }
  /// The header of the next answer, which has no body.
  wire::FrameHeader receive_header() {
    std::vector<std::byte> bytes;
    while (bytes.size() < wire::kFrameHeaderBytes) {
      const auto more = receive(wire::kFrameHeaderBytes - bytes.size());
      if (more.empty()) break;
      bytes.insert(bytes.end(), more.begin(), more.end());
    }
    const auto header = wire::decode_frame_header(bytes);
    EXPECT_TRUE(header);
    return header ? *header : wire::FrameHeader();
  }

 private:
  int fd_ = -1;
};

/// Accepts connections and serves requests on a thread of its own.
class Server {
 public:
  Server(const std::string& endpoint, RpcPeer::Handler handler)
      : io_("server"), handler_(std::move(handler)) {
    start(AsioListener::listen(io_, {endpoint}, {}));
  }
  Server(std::shared_ptr<const TlsContext> tls, RpcPeer::Handler handler)
      : io_("server"), handler_(std::move(handler)) {
    start(TlsListener::listen(io_, {"127.0.0.1:0"}, std::move(tls)));
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    io_.stop();
    listener_.reset();
  }
  [[nodiscard]] std::string endpoint() const { return endpoint_; }
  [[nodiscard]] IoThread& io() { return io_; }
  /// Waits until so many connections have ended, and tells why each did.
  std::vector<Errc> wait_ended(std::size_t count) {
    std::unique_lock lock(mutex_);
    const bool in_time = changed_.wait_for(lock, kPatience, [&] { return ends_.size() >= count; });
    EXPECT_TRUE(in_time) << "only " << ends_.size() << " connections ended";
    return ends_;
  }

  [[nodiscard]] std::vector<PeerCredentials> peers() {
    const std::lock_guard lock(mutex_);
    return peers_;
  }

 private:
  template <class Listening>
  void start(Listening listening) {
    ASSERT_TRUE(listening);
    endpoint_ = (*listening)->endpoint().text;
    listener_ = std::move(*listening);
    io_.post([this] { io_.spawn(accept_all()); });
  }
  Task<void> accept_all() {
    while (true) {
      auto connection = co_await listener_->accept();
      if (!connection) co_return;
      {
        const std::lock_guard lock(mutex_);
        peers_.push_back((*connection)->peer());
      }
      io_.spawn(serve(std::move(*connection)));
    }
  }
  Task<void> serve(std::unique_ptr<Connection> connection) {
    RpcPeer peer(io_, std::move(connection), handler_);
    const Error why = co_await peer.run();
    const std::lock_guard lock(mutex_);
    ends_.push_back(why.code);
    changed_.notify_all();
  }

  IoThread io_;
  RpcPeer::Handler handler_;
  std::string endpoint_;
  std::unique_ptr<Listener> listener_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Errc> ends_;
  std::vector<PeerCredentials> peers_;
};

/// Answers with what it was asked.
inline Task<Answer> echo(wire::Frame request) {
  Answer answer;
  answer.control = std::move(request.control);
  answer.payload = std::move(request.payload);
  co_return answer;
}

/// Memory of this process that is really there.
inline std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  file >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace vmstore::net::test
