// SPDX-License-Identifier: Apache-2.0
#include "net/asio_transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "base/scheduler.h"
#include "net/asio_connection.h"
#include "net/asio_socket.h"
#include "net/tls_connection.h"

namespace vmstore::net {
namespace {

constexpr int kBacklog = 1024;
constexpr Duration kAcceptPause = 100ms;  // when the process is out of descriptors
constexpr int kSocketBufferBytes = 1 << 20;

/// A descriptor that is closed unless it is let go.
class OwnedFd {
 public:
  explicit OwnedFd(int fd) noexcept : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&&) = delete;
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int let_go() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

Result<OwnedFd> make_socket(const SocketAddress& address) {
  const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return last_os_error();
  return OwnedFd(fd);
}

/// Best effort: a payload of 512 KiB should pass in few turns; no answer waits for a full segment.
void tune(int fd, bool is_unix) {
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSocketBufferBytes, sizeof(kSocketBufferBytes));
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kSocketBufferBytes, sizeof(kSocketBufferBytes));
  const int on = 1;
  if (!is_unix) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Error dial_error(int os_errno) {
  switch (os_errno) {
    case ENOENT:
    case ECONNREFUSED:
    case ECONNRESET:
    case ETIMEDOUT:
    case EAGAIN:
      return {Errc::unavailable, os_errno};
    case EACCES:
    case EPERM:
      return {Errc::permission, os_errno};
    default:
      return {errno_to_errc(os_errno), os_errno};
  }
}

Task<Result<void>> finish_connecting(AsioSocket& socket) {
  const CloseTimer timer(socket, limits::kConnectTimeout);
  co_await socket.writable();
  if (socket.is_closed()) co_return Error(Errc::unavailable, ETIMEDOUT);
  int error = 0;
  socklen_t length = sizeof(error);
  if (::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  if (error != 0) co_return dial_error(error);
  co_return success();
}

/// True when somebody answers at a unix socket's path.
bool is_answered(const SocketAddress& address) {
  const auto probe = make_socket(address);
  if (!probe) return true;  // cannot tell: touch nothing
  return ::connect(probe->get(), address.raw(), address.length) == 0 || errno != ECONNREFUSED;
}

Result<void> bind_unix(int fd, const SocketAddress& address, ::mode_t mode) {
  // The mode that bind() gives the new file; set before, so that it is never open wider.
  if (::fchmod(fd, mode) != 0) return last_os_error();
  if (::bind(fd, address.raw(), address.length) == 0) return success();
  if (errno != EADDRINUSE) return last_os_error();
  struct stat there {};
  if (::lstat(address.path.c_str(), &there) != 0) return last_os_error();
  if (!S_ISSOCK(there.st_mode)) return Error(Errc::exists, EADDRINUSE);
  if (is_answered(address)) return Error(Errc::busy, EADDRINUSE);
  if (::unlink(address.path.c_str()) != 0) return last_os_error();
  if (::bind(fd, address.raw(), address.length) != 0) return last_os_error();
  return success();
}

Result<void> bind_tcp(int fd, SocketAddress& address) {
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd, address.raw(), address.length) != 0) {
    return Error(errno == EADDRINUSE ? Errc::busy : errno_to_errc(errno), errno);
  }
  address.length = sizeof(address.storage);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return last_os_error();
  }
  return success();
}

Reach reach_of(const std::shared_ptr<const TlsContext>& tls) {
  return tls ? Reach::everywhere : Reach::loopback;
}

bool is_out_of_resources(int os_errno) {
  return os_errno == EMFILE || os_errno == ENFILE || os_errno == ENOBUFS || os_errno == ENOMEM;
}

}  // namespace

AsioSocket tuned_socket(IoThread& io, int socket_fd) {
  tune(socket_fd, false);
  return {io, socket_fd};
}

std::unique_ptr<Connection> adopt_socket(IoThread& io, int socket_fd) {
  AsioSocket socket(io, socket_fd);
  auto connection = std::make_unique<AsioConnection>(std::move(socket));
  tune(socket_fd, connection->peer().same_host);
  return connection;
}

Task<Result<std::unique_ptr<Connection>>> AsioDialer::dial(Endpoint endpoint) {
  VMS_CO_TRY(const SocketAddress address, parse_endpoint(endpoint, reach_of(tls_)));
  VMS_CO_TRY(OwnedFd fd, make_socket(address));
  const int connected = ::connect(fd.get(), address.raw(), address.length);
  const int error = connected == 0 ? 0 : errno;
  if (error != 0 && error != EINPROGRESS) co_return dial_error(error);
  AsioSocket socket(io_, fd.let_go());
  if (error == EINPROGRESS) VMS_CO_CHECK(co_await finish_connecting(socket));
  tune(socket.fd(), address.is_unix());
  if (tls_ && !address.is_unix()) {
    std::string host = host_of(address);
    co_return co_await connect_tls(std::move(socket), tls_, std::move(host));
  }
  std::unique_ptr<Connection> connection = std::make_unique<AsioConnection>(std::move(socket));
  co_return connection;
}

struct AsioListener::State {
  State(IoThread& io_thread, OwnedFd listening, const SocketAddress& at)
      : io(io_thread),
        address(at),
        endpoint(endpoint_of(at)),
        socket(io_thread, listening.let_go()) {}
  IoThread& io;
  SocketAddress address;
  Endpoint endpoint;
  AsioSocket socket;
};

AsioListener::AsioListener(std::unique_ptr<State> state) : state_(std::move(state)) {}

AsioListener::~AsioListener() {
  close();
}

Result<std::unique_ptr<AsioListener>> AsioListener::listen(IoThread& io,
                                                           const Endpoint& endpoint,
                                                           const ListenOptions& options) {
  VMS_TRY(SocketAddress address, parse_endpoint(endpoint, options.reach));
  VMS_TRY(OwnedFd fd, make_socket(address));
  const auto bound = address.is_unix() ? bind_unix(fd.get(), address, options.socket_mode)
                                       : bind_tcp(fd.get(), address);
  if (bound && ::listen(fd.get(), kBacklog) == 0) {
    auto state = std::make_unique<State>(io, std::move(fd), address);
    return std::unique_ptr<AsioListener>(new AsioListener(std::move(state)));
  }
  const Error error = bound ? last_os_error() : bound.error();
  VMS_LOG(error, "net", "cannot listen at " << endpoint.text << ": " << error);
  return error;
}

Task<Result<std::unique_ptr<Connection>>> AsioListener::accept() {
  VMS_CO_TRY(const int fd, co_await accept_socket());
  co_return adopt_socket(state_->io, fd);
}

Task<Result<int>> AsioListener::accept_socket() {
  while (!state_->socket.is_closed()) {
    const int fd = ::accept4(state_->socket.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) co_return fd;
    if (errno == EAGAIN) {
      co_await state_->socket.readable();
    } else if (is_out_of_resources(errno)) {
      VMS_LOG(warning, "net", "cannot accept a connection: " << last_os_error());
      co_await sleep_for(state_->io, kAcceptPause);
    } else if (errno != EINTR && errno != ECONNABORTED) {
      co_return last_os_error();
    }
  }
  co_return Errc::closing;
}

void AsioListener::close() noexcept {
  if (state_->socket.is_closed()) return;
  if (state_->address.is_unix()) ::unlink(state_->address.path.c_str());
  state_->socket.close();
}

const Endpoint& AsioListener::endpoint() const noexcept {
  return state_->endpoint;
}

}  // namespace vmstore::net
