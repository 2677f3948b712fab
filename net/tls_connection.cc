// SPDX-License-Identifier: Apache-2.0
#include "net/tls_connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "net/asio_connection.h"

namespace vmstore::net {
namespace {

constexpr std::size_t kRecordBytes = 16 * 1024;
constexpr std::size_t kSendBytes = 48 * 1024;  // of ciphertext, before the socket gets it
constexpr Duration kFarewellTime = 1s;
constexpr std::size_t kFarewellBytesMax = 64 * 1024;

}  // namespace

/// The bytes of one frame as full records: small parts are put together, large ones are encrypted
/// from where they lie.
class TlsConnection::Records {
 public:
  explicit Records(TlsConnection& to, std::size_t bytes) : to_(to) {
    staged_.reserve(std::min(bytes, kRecordBytes));
  }
  [[nodiscard]] Task<Result<void>> add(ByteSpan part) {
    while (!part.empty()) {
      if (staged_.empty() && part.size() >= kRecordBytes) {
        VMS_CO_CHECK(co_await to_.encrypt(part.first(kRecordBytes)));
        part = part.subspan(kRecordBytes);
        continue;
      }
      const std::size_t count = std::min(part.size(), kRecordBytes - staged_.size());
      staged_.insert(staged_.end(), part.begin(), part.begin() + static_cast<long>(count));
      part = part.subspan(count);
      if (staged_.size() == kRecordBytes) VMS_CO_CHECK(co_await end());
    }
    co_return success();
  }
  [[nodiscard]] Task<Result<void>> end() {
    VMS_CO_CHECK(co_await to_.encrypt(staged_));
    staged_.clear();
    co_return success();
  }

 private:
  TlsConnection& to_;
  std::vector<std::byte> staged_;
};

TlsConnection::TlsConnection(AsioSocket socket, TlsSession session)
    : socket_(std::move(socket)),
      session_(std::move(session)),
      reader_(socket_.io().loop().read_buffers),
      heard_(socket_.io()) {}

TlsConnection::~TlsConnection() {
  close();
}

void TlsConnection::close() noexcept {
  socket_.close();
  heard_.set();
}

PeerCredentials TlsConnection::peer() const noexcept {
  PeerCredentials peer;
  peer.certificate = session_.peer();
  return peer;
}

// ---- the socket ----

/// Sends what the kernel takes; `busy` when it takes nothing now.
Result<void> TlsConnection::send_some() {
  if (socket_.is_closed()) return Errc::closing;
  const ByteSpan bytes = session_.outgoing();
  while (true) {
    const ssize_t sent =
        ::send(socket_.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      session_.sent(static_cast<std::size_t>(sent));
      return success();
    }
    if (errno == EAGAIN) return Errc::busy;
    if (errno != EINTR) return connection_error(errno);
  }
}

Task<Result<void>> TlsConnection::flush() {
  while (!session_.outgoing().empty()) {
    const auto sent = send_some();
    if (sent) continue;
    if (sent.error() != Errc::busy) co_return sent.error();
    co_await socket_.writable();
  }
  co_return success();
}

/// Reads what is there for the session; `busy` when nothing is. REQUIRES: it has used up the last.
Result<void> TlsConnection::fetch() {
  if (socket_.is_closed()) return Errc::closing;
  if (drained_) return Errc::busy;
  if (!ciphertext_) ciphertext_ = socket_.io().loop().read_buffers.take();
  while (true) {
    const ssize_t got =
        ::recv(socket_.fd(), ciphertext_.get(), ReadBuffers::kBufferBytes, MSG_DONTWAIT);
    if (got > 0) {
      const auto bytes = static_cast<std::size_t>(got);
      session_.put_received({ciphertext_.get(), bytes});
      drained_ = bytes < ReadBuffers::kBufferBytes;
      return success();
    }
    // The end of the stream proves nothing, but no frame is taken for whole because of it.
    if (got == 0) return Errc::disconnected;
    if (errno == EAGAIN) return Errc::busy;
    if (errno != EINTR) return connection_error(errno);
  }
}

/// Reads what comes next for the session, or waits for it once.
Task<Result<void>> TlsConnection::await_more() {
  const auto got = fetch();
  if (got || got.error() != Errc::busy) co_return got;
  reader_.rest();
  if (ciphertext_ && session_.received_left() == 0) {
    socket_.io().loop().read_buffers.give_back(std::move(ciphertext_));
  }
  co_await socket_.readable();
  drained_ = false;
  co_return success();
}

// ---- the handshake ----

Task<Result<void>> TlsConnection::handshake() {
  const CloseTimer timer(socket_, limits::kHandshakeTimeout);
  while (true) {
    const auto done = session_.handshake();
    const auto flushed = co_await flush();  // the last flight, or the alert
    if (socket_.is_closed()) co_return Errc::timed_out;
    if (done) co_return flushed;
    if (done.error() != Errc::busy) co_return done.error();
    if (!flushed) co_return flushed.error();
    VMS_CO_CHECK(co_await await_more());
    if (socket_.is_closed()) co_return Errc::timed_out;
  }
}

Task<void> TlsConnection::bid_farewell() {
  const CloseTimer timer(socket_, kFarewellTime);
  if (!socket_.is_closed()) ::shutdown(socket_.fd(), SHUT_WR);
  std::array<std::byte, 4096> dropped{};
  std::size_t bytes = 0;
  while (!socket_.is_closed() && bytes < kFarewellBytesMax) {
    const ssize_t got = ::recv(socket_.fd(), dropped.data(), dropped.size(), MSG_DONTWAIT);
    if (got > 0) {
      bytes += static_cast<std::size_t>(got);
    } else if (got < 0 && errno == EAGAIN) {
      co_await socket_.readable();
    } else if (got == 0 || errno != EINTR) {
      break;
    }
  }
  close();
}

// ---- frames ----

Task<Result<void>> TlsConnection::encrypt(ByteSpan bytes) {
  while (true) {
    const auto written = session_.write(bytes);
    if (written) break;
    if (written.error() != Errc::busy) co_return written.error();
    VMS_CO_CHECK(co_await flush());
    if (socket_.is_closed()) co_return Errc::closing;
    static_cast<void>(co_await heard_.wait_pulse());
  }
  if (session_.outgoing().size() < kSendBytes) co_return success();
  co_return co_await flush();
}

Task<Result<void>> TlsConnection::send(const wire::Frame& frame) {
  VMS_ASSERT(frame.descriptors.size() == frame.header.descriptor_count);  // sealed
  if (!frame.descriptors.empty()) co_return Errc::unsupported;
  const auto header = wire::encode_frame_header(frame.header);
  const std::size_t bytes = header.size() + frame.control.size() + frame.payload.size();
  Records records(*this, bytes);
  VMS_CO_CHECK(co_await records.add(header));
  VMS_CO_CHECK(co_await records.add(as_byte_span(frame.control)));
  for (const ByteSpan piece : frame.payload.pieces()) VMS_CO_CHECK(co_await records.add(piece));
  VMS_CO_CHECK(co_await records.end());
  co_return co_await flush();
}

/// Decrypts what is there into the frame under way; `busy` when more must come first.
Result<void> TlsConnection::decrypt_some() {
  const FrameReader::Space space = reader_.space();
  const auto got = session_.read(space[0]);
  // An answer to a renewed key, or an alert: what the kernel does not take now goes with the next.
  if (!session_.outgoing().empty()) ignore(send_some(), "the next frame sends it");
  if (!got && got.error() == Errc::permission) {
    VMS_LOG(error, "tls", session_.problem());
  }
  if (!got) return got.error();
  reader_.received(*got);
  heard_.pulse();
  return success();
}

Task<Result<wire::Frame>> TlsConnection::receive() {
  while (true) {
    VMS_CO_TRY(auto frame, reader_.next());
    if (frame) {
      if (frame->header.descriptor_count != 0) co_return Errc::bad_frame;
      VMS_CO_CHECK(wire::check_body(*frame));
      co_return std::move(*frame);
    }
    const auto decrypted = decrypt_some();
    if (decrypted) continue;
    if (decrypted.error() != Errc::busy) co_return decrypted.error();
    heard_.pulse();
    VMS_CO_CHECK(co_await await_more());
  }
}

// ---- dialling ----

Task<Result<std::unique_ptr<Connection>>> connect_tls(AsioSocket socket,
                                                      std::shared_ptr<const TlsContext> context,
                                                      std::string host) {
  auto session = TlsSession::dialling(std::move(context), host);
  auto connection = std::make_unique<TlsConnection>(std::move(socket), std::move(session));
  const auto shaken = co_await connection->handshake();
  if (shaken) co_return std::unique_ptr<Connection>(std::move(connection));
  const Error why = shaken.error();
  const std::string text = connection->problem().empty() ? to_string(why) : connection->problem();
  // One that ends the handshake may be about to stop, or start: it is dialled again.
  if (why == Errc::disconnected || why == Errc::timed_out) {
    VMS_LOG(warning, "tls", host << " ends the handshake, or has no TLS: " << text);
    co_return Errc::unavailable;
  }
  VMS_LOG(error, "tls", host << ": " << text);
  if (why == Errc::permission) co_await connection->bid_farewell();
  co_return why == Errc::bad_frame ? Error(Errc::unsupported) : why;
}

}  // namespace vmstore::net
