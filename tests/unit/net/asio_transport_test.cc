// SPDX-License-Identifier: Apache-2.0
#include "net/asio_transport.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/limits.h"
#include "tests/unit/net/socket_support.h"

namespace vmstore::net::test {
namespace {

wire::Frame sealed(wire::Frame frame) {
  EXPECT_TRUE(wire::seal_frame(frame));
  return frame;
}

/// Two connected ends, on one thread.
class Pair {
 public:
  explicit Pair(IoThread& io) : io_(io) {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    block_on(io_, make(fds));
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  ~Pair() { block_on(io_, end()); }
  Connection& left() { return *left_; }
  Connection& right() { return *right_; }

 private:
  Task<void> make(std::array<int, 2> fds) {
    left_ = adopt_socket(io_, fds[0]);
    right_ = adopt_socket(io_, fds[1]);
    co_return;
  }
  Task<void> end() {
    left_.reset();
    right_.reset();
    co_return;
  }
  IoThread& io_;
  std::unique_ptr<Connection> left_;
  std::unique_ptr<Connection> right_;
};

Task<void> send_all(Connection& connection, const std::vector<wire::Frame>& frames, Event& sent) {
  for (const wire::Frame& frame : frames) {
    const auto done = co_await connection.send(frame);
    EXPECT_TRUE(done);
  }
  sent.set();
}

Task<std::vector<wire::Frame>> pass(IoThread& io,
                                    Connection& from,
                                    Connection& to,
                                    const std::vector<wire::Frame>& frames) {
  Event sent(io);
  io.spawn(send_all(from, frames, sent));
  std::vector<wire::Frame> received;
  while (received.size() < frames.size()) {
    auto frame = co_await to.receive();
    EXPECT_TRUE(frame);
    if (!frame) break;
    received.push_back(std::move(*frame));
  }
  co_await sent.wait();
  co_return received;
}

std::vector<wire::Frame> frames_of_all_sizes() {
  std::vector<wire::Frame> frames;
  for (const std::size_t payload : {0U, 1U, 4096U, 65536U, 524288U, 1048576U}) {
    wire::Frame frame = request_of(payload, std::string(payload / 7, 'c'));
    frame.payload = wire::Payload::allocate(payload);
    std::ranges::fill(frame.payload.writable(), static_cast<std::byte>(payload % 251));
    frames.push_back(sealed(std::move(frame)));
  }
  return frames;
}

void expect_same(const std::vector<wire::Frame>& got, const std::vector<wire::Frame>& sent) {
  ASSERT_EQ(got.size(), sent.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].header, sent[i].header);
    EXPECT_EQ(got[i].control, sent[i].control);
    EXPECT_TRUE(std::ranges::equal(got[i].payload.bytes(), sent[i].payload.bytes()));
  }
}

TEST(AsioConnection, FramesOfAllSizesPassUnchanged) {
  IoThread io("test");
  Pair pair(io);
  const auto frames = frames_of_all_sizes();
  expect_same(block_on(io, pass(io, pair.left(), pair.right(), frames)), frames);
  expect_same(block_on(io, pass(io, pair.right(), pair.left(), frames)), frames);
}

TEST(AsioConnection, PayloadsOfManyPiecesAreGathered) {
  IoThread io("test");
  Pair pair(io);
  const std::string text(300000, 'x');
  std::vector<ByteSpan> pieces;
  for (std::size_t i = 0; i < text.size(); i += 200) {
    pieces.push_back(as_byte_span(text).subspan(i, 200));
  }
  wire::Frame frame = request_of(1);
  frame.payload = wire::Payload(pieces, nullptr);
  std::vector<wire::Frame> frames;
  frames.push_back(sealed(std::move(frame)));
  const auto got = block_on(io, pass(io, pair.left(), pair.right(), frames));
  EXPECT_EQ(as_text(got.at(0).payload.bytes()), text);
}

Task<Errc> receive_error(Connection& connection) {
  const auto frame = co_await connection.receive();
  co_return frame ? Errc::ok : frame.error().code;
}

Task<void> close_later(IoThread& io, Connection& connection) {
  co_await Yield(io);
  connection.close();
}

Task<Errc> receive_while_closing(IoThread& io, Connection& closed, Connection& reader) {
  io.spawn(close_later(io, closed));
  co_return co_await receive_error(reader);
}

TEST(AsioConnection, CloseEndsAPendingReceive) {
  IoThread io("test");
  Pair pair(io);
  EXPECT_EQ(block_on(io, receive_while_closing(io, pair.left(), pair.left())), Errc::closing);
  EXPECT_EQ(block_on(io, receive_error(pair.left())), Errc::closing);
}

TEST(AsioConnection, ThePeersCloseIsDisconnected) {
  IoThread io("test");
  Pair pair(io);
  EXPECT_EQ(block_on(io, receive_while_closing(io, pair.left(), pair.right())), Errc::disconnected);
}

Task<Errc> send_until_error(IoThread& io, Connection& from, Connection& closed) {
  io.spawn(close_later(io, closed));
  wire::Frame frame = request_of(1);
  frame.payload = wire::Payload::allocate(limits::kPayloadBytesMax);
  std::ranges::fill(frame.payload.writable(), std::byte{1});
  frame = sealed(std::move(frame));
  while (true) {
    const auto sent = co_await from.send(frame);
    if (!sent) co_return sent.error().code;
  }
}

TEST(AsioConnection, APausedSendEndsWithTheConnection) {
  IoThread io("test");
  Pair first(io);
  EXPECT_EQ(block_on(io, send_until_error(io, first.left(), first.left())), Errc::closing);
  Pair second(io);
  EXPECT_EQ(block_on(io, send_until_error(io, second.left(), second.right())), Errc::disconnected);
}

TEST(AsioConnection, PeerIsTheProcessAtTheOtherEnd) {
  IoThread io("test");
  Pair pair(io);
  EXPECT_TRUE(pair.left().peer().same_host);
  EXPECT_EQ(pair.left().peer().pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(pair.left().peer().uid, ::getuid());
  pair.right().close();
  EXPECT_FALSE(pair.left().is_peer_gone());  // it closed its end, and lives
}

/// A process that connected to `path` and does nothing more.
pid_t connected_child(const sockaddr_un& address) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  const auto* const where = reinterpret_cast<const sockaddr*>(&address);
  if (fd < 0 || ::connect(fd, where, sizeof(address)) != 0) ::_exit(1);
  for (;;) ::pause();
}

Task<bool> gone_after_kill(IoThread& io, int fd, pid_t child) {
  const auto connection = adopt_socket(io, fd);
  EXPECT_FALSE(connection->is_peer_gone());
  ::kill(child, SIGKILL);
  EXPECT_EQ(co_await receive_error(*connection), Errc::disconnected);
  co_return connection->is_peer_gone();
}

TEST(AsioConnection, KilledPeerIsKnownToBeGone) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;  // abstract: a zero, then a name of this process's own
  const std::string name = "vmstore-test-" + std::to_string(::getpid());
  std::copy(name.begin(), name.end(), address.sun_path + 1);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_GE(listener, 0);
  const auto* const where = reinterpret_cast<const sockaddr*>(&address);
  ASSERT_EQ(::bind(listener, where, sizeof(address)), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  const pid_t child = connected_child(address);
  ASSERT_GT(child, 0);
  const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  ::close(listener);
  ASSERT_GE(fd, 0);
  {
    IoThread io("test");
    EXPECT_TRUE(block_on(io, gone_after_kill(io, fd, child)));
  }
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
}

// ---- descriptors ----

/// A pipe whose write end was given away: its read end tells when nobody holds it any more.
struct Witness {
  Witness() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::pipe2(fds.data(), O_CLOEXEC), 0);
    read_end = fds[0];
    write_end = fds[1];
  }
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;
  ~Witness() {
    ::close(read_end);
    let_go();
  }
  void let_go() {
    if (write_end >= 0) ::close(std::exchange(write_end, -1));
  }
  /// REQUIRES: let_go().
  [[nodiscard]] bool is_closed_everywhere() const {
    pollfd wanted{read_end, POLLIN, 0};
    return ::poll(&wanted, 1, 20000) == 1 && (wanted.revents & POLLHUP) != 0;
  }
  int read_end = -1;
  int write_end = -1;
};

TEST(AsioConnection, DescriptorsArriveWithTheirFrameAndCloseOnExec) {
  IoThread io("test");
  Pair pair(io);
  const Witness first;
  const Witness second;
  std::vector<wire::Frame> frames;
  frames.push_back(sealed(request_of(1, std::string(100000, 'a'))));
  wire::Frame carrier = request_of(2);
  carrier.descriptors = {first.write_end, second.write_end};
  frames.push_back(sealed(std::move(carrier)));
  frames.push_back(sealed(request_of(3)));
  wire::Frame another = request_of(4);
  another.descriptors = {first.write_end, first.write_end, first.write_end, first.write_end};
  frames.push_back(sealed(std::move(another)));
  const auto got = block_on(io, pass(io, pair.left(), pair.right(), frames));
  EXPECT_TRUE(got.at(0).descriptors.empty());
  ASSERT_EQ(got.at(1).descriptors.size(), 2U);
  EXPECT_TRUE(got.at(2).descriptors.empty());
  ASSERT_EQ(got.at(3).descriptors.size(), 4U);
  EXPECT_EQ(::write(got[1].descriptors[1], "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(::read(second.read_end, &byte, 1), 1);
  for (const wire::Frame& frame : got) {
    for (const int fd : frame.descriptors) {
      EXPECT_EQ(::fcntl(fd, F_GETFD), FD_CLOEXEC);
      ::close(fd);
    }
  }
}

TEST(AsioConnection, DescriptorsThatNoFrameAnnouncesAreClosed) {
  const TempFolder folder;
  Server server(folder.file("s"), echo);
  RawClient client(folder.file("s"));
  Witness witness;
  EXPECT_TRUE(client.send(bytes_of(request_of(1)), {witness.write_end, witness.write_end}));
  witness.let_go();
  EXPECT_EQ(client.receive_header().request_id, 1U);
  EXPECT_TRUE(witness.is_closed_everywhere());
}

TEST(AsioConnection, DescriptorsOfRequestsAreClosed) {
  const TempFolder folder;
  Server server(folder.file("s"), echo);
  RawClient client(folder.file("s"));
  Witness witness;
  wire::Frame frame = request_of(1);
  frame.descriptors = {witness.write_end};
  EXPECT_TRUE(client.send(bytes_of(std::move(frame)), {witness.write_end}));
  witness.let_go();
  EXPECT_EQ(client.receive_header().request_id, 1U);
  EXPECT_TRUE(witness.is_closed_everywhere());
}

TEST(AsioConnection, MoreDescriptorsThanAFrameMayHaveEndTheConnection) {
  const TempFolder folder;
  Server server(folder.file("s"), echo);
  RawClient client(folder.file("s"));
  Witness witness;
  EXPECT_TRUE(client.send(bytes_of(request_of(1)), std::vector<int>(16, witness.write_end)));
  witness.let_go();
  EXPECT_EQ(server.wait_ended(1).at(0), Errc::bad_frame);
  EXPECT_TRUE(witness.is_closed_everywhere());
}

TEST(AsioConnection, AnAnnouncedDescriptorThatIsMissingEndsTheConnection) {
  const TempFolder folder;
  Server server(folder.file("s"), echo);
  RawClient client(folder.file("s"));
  wire::Frame frame = request_of(1);
  frame.descriptors = {0};
  EXPECT_TRUE(client.send(bytes_of(std::move(frame))));
  EXPECT_EQ(server.wait_ended(1).at(0), Errc::bad_frame);
}

// ---- listening and dialling ----

Task<Errc> dial_error(IoThread& io, std::string endpoint) {
  AsioDialer dialer(io);
  net::Endpoint where;
  where.text = std::move(endpoint);
  const auto connection = co_await dialer.dial(std::move(where));
  co_return connection ? Errc::ok : connection.error().code;
}

Task<Result<wire::Frame>> ask(IoThread& io, std::string endpoint) {
  AsioDialer dialer(io);
  net::Endpoint where;
  where.text = std::move(endpoint);
  VMS_CO_TRY(auto connection, co_await dialer.dial(std::move(where)));
  wire::Frame request = request_of(9, "hallo");
  VMS_CO_CHECK(wire::seal_frame(request));
  VMS_CO_CHECK(co_await connection->send(request));
  co_return co_await connection->receive();
}

TEST(AsioTransport, RequestsAreAnsweredOverUnixSocketsAndLoopbackTcp) {
  const TempFolder folder;
  IoThread io("client");
  for (const std::string& endpoint :
       {"unix:" + folder.file("s"), std::string("127.0.0.1:0"), std::string("localhost:0")}) {
    Server server(endpoint, echo);
    const auto answer = block_on(io, ask(io, server.endpoint()));
    ASSERT_TRUE(answer) << endpoint;
    EXPECT_EQ(answer->control, "hallo");
    EXPECT_EQ(answer->header.request_id, 9U);
  }
}

TEST(AsioTransport, TcpBeyondLoopbackIsRefusedOnBothSides) {
  IoThread io("test");
  for (const char* endpoint : {"0.0.0.0:0", "192.0.2.1:7", "[::]:0", "node.example:7"}) {
    EXPECT_EQ(AsioListener::listen(io, {endpoint}, {}).error(), Errc::unsupported) << endpoint;
    EXPECT_EQ(block_on(io, dial_error(io, endpoint)), Errc::unsupported) << endpoint;
  }
}

TEST(AsioTransport, DiallingWhereNobodyListensIsUnavailable) {
  const TempFolder folder;
  IoThread io("test");
  EXPECT_EQ(block_on(io, dial_error(io, folder.file("none"))), Errc::unavailable);
  std::string tcp;
  {
    const Server server("127.0.0.1:0", echo);
    tcp = server.endpoint();
  }
  EXPECT_EQ(block_on(io, dial_error(io, tcp)), Errc::unavailable);
}

TEST(AsioTransport, TheSocketFileIsPrivateAndRemovedAtTheEnd) {
  const TempFolder folder;
  const std::string path = folder.file("s");
  {
    const Server server(path, echo);
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(AsioTransport, AStaleSocketFileIsReplacedALiveOneIsNot) {
  const TempFolder folder;
  const std::string path = folder.file("s");
  const int stale = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(stale, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ::close(stale);
  const Server server(path, echo);
  IoThread io("client");
  EXPECT_TRUE(block_on(io, ask(io, path)));
  EXPECT_EQ(AsioListener::listen(io, {path}, {}).error(), Errc::busy);
  EXPECT_TRUE(block_on(io, ask(io, path)));
}

TEST(AsioTransport, AFileThatIsNoSocketIsLeftAlone) {
  const TempFolder folder;
  const std::string path = folder.file("data");
  std::ofstream(path) << "precious";
  IoThread io("test");
  EXPECT_FALSE(AsioListener::listen(io, {path}, {}));
  EXPECT_EQ(std::filesystem::file_size(path), 8U);
}

Task<Errc> accept_while_closing(IoThread& io, AsioListener& listener) {
  io.post([&listener] { listener.close(); });
  const auto accepted = co_await listener.accept();
  co_return accepted ? Errc::ok : accepted.error().code;
}

TEST(AsioTransport, CloseEndsAPendingAccept) {
  const TempFolder folder;
  IoThread io("test");
  auto listener = AsioListener::listen(io, {folder.file("s")}, {});
  ASSERT_TRUE(listener);
  EXPECT_EQ(block_on(io, accept_while_closing(io, **listener)), Errc::closing);
  io.stop();
}

}  // namespace
}  // namespace vmstore::net::test
