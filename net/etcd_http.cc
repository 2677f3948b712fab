// SPDX-License-Identifier: Apache-2.0
#include "net/etcd_http.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cerrno>
#include <utility>

#include "net/asio_connection.h"
#include "net/asio_socket.h"
#include "net/socket_address.h"

namespace vmstore::net {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr std::size_t kReadBytes = 16 * limits::kKiB;
constexpr std::size_t kBufferBytesMax = 64 * limits::kKiB;
constexpr std::uint32_t kHeaderBytesMax = 16 * 1024;
constexpr unsigned kStatusOk = 200;

/// A silent peer whose host is gone is noticed by the kernel within half a minute.
void tune(int fd) {
  const auto set = [fd](int level, int option, int value) {
    ::setsockopt(fd, level, option, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

/// Bytes over a socket.
class Stream {
 public:
  Stream(IoThread& io, int fd) : socket_(io, fd) {}

  [[nodiscard]] bool is_closed() const noexcept { return socket_.is_closed(); }
  [[nodiscard]] bool is_late() const noexcept { return late_; }
  [[nodiscard]] IoThread& io() const noexcept { return socket_.io(); }
  void close() noexcept { socket_.close(); }
  void close_late() noexcept {
    late_ = true;
    socket_.close();
  }

  Task<Result<void>> finish_connecting() {
    co_await socket_.writable();
    if (is_closed()) co_return Error(Errc::unavailable, ETIMEDOUT);
    int error = 0;
    socklen_t length = sizeof(error);
    if (::getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
    if (error != 0) co_return Error(Errc::unavailable, error);
    co_return success();
  }

  /// Something came unasked, or the end.
  [[nodiscard]] bool has_news() const noexcept {
    char byte = 0;
    const ssize_t got = ::recv(socket_.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got >= 0 || (errno != EAGAIN && errno != EINTR);
  }

  Task<Result<void>> send(std::string bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
      if (is_closed()) co_return ended();
      const ssize_t sent = ::send(
          socket_.fd(), bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) {
        done += static_cast<std::size_t>(sent);
      } else if (errno == EAGAIN) {
        co_await socket_.writable();
      } else if (errno != EINTR) {
        co_return connection_error(errno);
      }
    }
    co_return success();
  }

  /// At least one byte, or why not: `disconnected` at the end.
  Task<Result<std::size_t>> receive(void* into, std::size_t bytes_max) {
    while (true) {
      if (is_closed()) co_return ended();
      const ssize_t got = ::recv(socket_.fd(), into, bytes_max, MSG_DONTWAIT);
      if (got > 0) co_return static_cast<std::size_t>(got);
      if (got == 0) co_return Errc::disconnected;
      if (errno == EAGAIN) {
        co_await socket_.readable();
      } else if (errno != EINTR) {
        co_return connection_error(errno);
      }
    }
  }

 private:
  [[nodiscard]] Error ended() const noexcept { return late_ ? Errc::timed_out : Errc::closing; }
  AsioSocket socket_;
  bool late_ = false;
};

/// Closes the stream when it is too late, unless it is destroyed before.
class Deadline {
 public:
  Deadline(Stream& stream, std::optional<TimePoint> when) : io_(stream.io()) {
    if (when) timer_ = io_.start_timer(*when, [&stream] { stream.close_late(); });
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline() {
    if (timer_) io_.cancel_timer(*timer_);
  }

 private:
  IoThread& io_;
  std::optional<Scheduler::TimerId> timer_;
};

}  // namespace

struct HttpConnection::State {
  State(IoThread& io, int fd, std::string host_text) : stream(io, fd), host(std::move(host_text)) {}

  void begin_answer(std::optional<std::uint64_t> body_bytes_max) {
    parser.emplace();
    parser->header_limit(kHeaderBytesMax);
    if (body_bytes_max) {
      parser->body_limit(*body_bytes_max);
    } else {
      parser->body_limit(boost::none);
    }
    parser->eager(true);
  }

  /// Reads once and takes what came.
  Task<Result<void>> read_on() {
    if (buffer.size() + kReadBytes > kBufferBytesMax) co_return Errc::bad_frame;
    const auto space = buffer.prepare(kReadBytes);
    VMS_CO_TRY(const std::size_t got, co_await stream.receive(space.data(), space.size()));
    buffer.commit(got);
    co_return take();
  }

  Result<void> take() {
    if (buffer.size() == 0 || parser->is_done()) return success();
    beast::error_code error;
    buffer.consume(parser->put(buffer.data(), error));
    if (!error || error == http::error::need_more) return success();
    const bool too_large = error == http::error::body_limit;
    return too_large ? Errc::no_space : Errc::bad_frame;
  }

  Stream stream;
  std::string host;
  beast::flat_buffer buffer{kBufferBytesMax};
  std::optional<http::response_parser<http::string_body>> parser;
  std::string text;          // of an answer read by lines, from the first line not given out
  std::size_t searched = 0;  // no end of a line before it
};

HttpConnection::HttpConnection(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpConnection::~HttpConnection() {
  close();
}

void HttpConnection::close() noexcept {
  state_->stream.close();
}

Task<Result<std::unique_ptr<HttpConnection>>> HttpConnection::connect(IoThread& io,
                                                                      Endpoint where,
                                                                      TimePoint deadline) {
  VMS_CO_TRY(SocketAddress address, parse_endpoint(where));
  const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) co_return last_os_error();
  auto state = std::make_unique<State>(io, fd, where.text);
  std::unique_ptr<HttpConnection> connection(new HttpConnection(std::move(state)));
  const bool connected = ::connect(fd, address.raw(), address.length) == 0;
  if (!connected && errno != EINPROGRESS) co_return Error(Errc::unavailable, errno);
  if (!connected) {
    const Deadline guard(connection->state_->stream, deadline);
    VMS_CO_CHECK(co_await connection->state_->stream.finish_connecting());
  }
  if (!address.is_unix()) tune(fd);
  co_return connection;
}

bool HttpConnection::is_usable() const noexcept {
  return !state_->stream.is_closed() && state_->buffer.size() == 0 && !state_->stream.has_news();
}

Task<Result<void>> HttpConnection::send(std::string target, std::string body) {
  std::string request = "POST " + target + " HTTP/1.1\r\n";
  request += "Host: " + state_->host + "\r\n";
  request += "Content-Type: application/json\r\n";
  request += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
  request += body;
  const auto sent = co_await state_->stream.send(std::move(request));
  co_return sent;
}

Task<Result<HttpAnswer>> HttpConnection::post(std::string target,
                                              std::string body,
                                              TimePoint deadline) {
  State& s = *state_;
  const Deadline guard(s.stream, deadline);
  auto outcome = co_await send(std::move(target), std::move(body));
  s.begin_answer(kHttpAnswerBytesMax);
  while (outcome && !s.parser->is_done()) outcome = co_await s.read_on();
  if (!outcome) {
    close();
    co_return outcome.error();
  }
  HttpAnswer answer;
  answer.status = s.parser->get().result_int();
  answer.body = std::move(s.parser->get().body());
  if (!s.parser->keep_alive()) close();
  co_return answer;
}

Task<Result<void>> HttpConnection::begin(std::string target, std::string body, TimePoint deadline) {
  State& s = *state_;
  const Deadline guard(s.stream, deadline);
  auto outcome = co_await send(std::move(target), std::move(body));
  s.begin_answer(std::nullopt);
  while (outcome && !s.parser->is_header_done()) outcome = co_await s.read_on();
  if (outcome && s.parser->get().result_int() != kStatusOk) outcome = Errc::unavailable;
  if (!outcome) close();
  co_return outcome;
}

Task<Result<std::string>> HttpConnection::next_line(std::optional<TimePoint> deadline) {
  State& s = *state_;
  const Deadline guard(s.stream, deadline);
  while (true) {
    std::string& came = s.parser->get().body();
    s.text += came;
    came.clear();
    const auto end = s.text.find('\n', s.searched);
    if (end != std::string::npos) {
      std::string line = s.text.substr(0, end);
      s.text.erase(0, end + 1);
      s.searched = 0;
      co_return line;
    }
    s.searched = s.text.size();
    Result<void> outcome;
    if (s.parser->is_done()) outcome = Errc::disconnected;
    if (s.text.size() > kHttpLineBytesMax) outcome = Errc::bad_frame;
    if (outcome) outcome = co_await s.read_on();
    if (outcome) continue;
    close();
    co_return outcome.error();
  }
}

}  // namespace vmstore::net
