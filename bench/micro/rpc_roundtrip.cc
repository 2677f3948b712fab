// SPDX-License-Identifier: Apache-2.0
// Round trips between two IoThreads over a unix socket, beside the floor: two threads that block in
// read() and write(). Usage: rpc_roundtrip [SECONDS for each line, default 2]
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/assert.h"
#include "net/asio_transport.h"
#include "net/block_on.h"
#include "net/io_thread.h"
#include "net/rpc_peer.h"

namespace vmstore::net {
namespace {

using Clock = std::chrono::steady_clock;

struct Times {
  std::vector<double> us;
  double seconds = 0;
  void print(const std::string& name, std::size_t payload, const char* note) {
    std::sort(us.begin(), us.end());
    const auto at = [this](double part) {
      return us[static_cast<std::size_t>(part * static_cast<double>(us.size() - 1))];
    };
    const double mib = static_cast<double>(payload * us.size()) / seconds / (1 << 20);
    std::printf("%-34s %8zu  median %7.1f us  p99 %7.1f us  %8.0f MiB/s  %s\n",
                name.c_str(),
                us.size(),
                at(0.5),
                at(0.99),
                mib,
                note);
  }
};

double elapsed_us(Clock::time_point since) {
  return std::chrono::duration<double, std::micro>(Clock::now() - since).count();
}

void move_all(int fd, char* bytes, std::size_t size, bool sending) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n =
        sending ? ::write(fd, bytes + done, size - done) : ::read(fd, bytes + done, size - done);
    VMS_ASSERT(n > 0);
    done += static_cast<std::size_t>(n);
  }
}

/// What the system itself takes: `bytes` there and back.
Times blocking_floor(double seconds, std::size_t bytes) {
  std::array<int, 2> fds{};
  VMS_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()) == 0);
  std::thread echo([fd = fds[1], bytes] {
    std::vector<char> buffer(bytes);
    while (::recv(fd, buffer.data(), 1, MSG_PEEK) == 1) {
      move_all(fd, buffer.data(), bytes, false);
      move_all(fd, buffer.data(), bytes, true);
    }
  });
  Times times;
  std::vector<char> buffer(bytes);
  const auto start = Clock::now();
  while (elapsed_us(start) < seconds * 1e6) {
    const auto begin = Clock::now();
    move_all(fds[0], buffer.data(), bytes, true);
    move_all(fds[0], buffer.data(), bytes, false);
    times.us.push_back(elapsed_us(begin));
  }
  times.seconds = elapsed_us(start) / 1e6;
  ::shutdown(fds[0], SHUT_RDWR);
  echo.join();
  ::close(fds[0]);
  ::close(fds[1]);
  return times;
}

struct Load {
  double seconds = 1;
  std::size_t request_bytes = 0;
  std::size_t answer_bytes = 0;
  int depth = 1;
};

Task<Answer> serve(std::size_t answer_bytes) {
  Answer answer;
  answer.payload = wire::Payload::allocate(answer_bytes);
  answer.payload_has_own_sums = true;
  co_return answer;
}

Task<void> run_peer(std::shared_ptr<RpcPeer> peer) {
  static_cast<void>(co_await peer->run());
}

struct Asker {
  IoThread& io;
  std::shared_ptr<RpcPeer> peer;
  Load load;
  Times times;
  Gate gate;
  Asker(IoThread& thread, int fd, const Load& wanted)
      : io(thread),
        peer(std::make_shared<RpcPeer>(io, adopt_socket(io, fd), nullptr)),
        load(wanted),
        gate(io) {}

  Task<void> ask(Clock::time_point end) {
    const auto pass = gate.enter();
    wire::Payload payload = wire::Payload::allocate(load.request_bytes);
    while (Clock::now() < end) {
      const auto begin = Clock::now();
      std::string control;
      const auto answer =
          co_await peer->call(wire::Opcode::key_append, std::move(control), payload, true);
      VMS_ASSERT(answer.has_value());
      times.us.push_back(elapsed_us(begin));
    }
  }
  Task<void> run() {
    io.spawn(run_peer(peer));
    const auto start = Clock::now();
    const auto end = start + std::chrono::duration_cast<Clock::duration>(
                                 std::chrono::duration<double>(load.seconds));
    for (int i = 0; i < load.depth; ++i) io.spawn(ask(end));
    co_await gate.close();
    times.seconds = elapsed_us(start) / 1e6;
    peer->close();
  }
};

Task<Times> measure(IoThread& io, int fd, Load load) {
  Asker asker(io, fd, load);
  co_await asker.run();
  co_return std::move(asker.times);
}

Times between_threads(const Load& load) {
  std::array<int, 2> fds{};
  VMS_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()) == 0);
  IoThread server("server");
  IoThread client("client");
  server.post([&server, fd = fds[1], bytes = load.answer_bytes] {
    const auto handler = [bytes](wire::Frame) { return serve(bytes); };
    server.spawn(run_peer(std::make_shared<RpcPeer>(server, adopt_socket(server, fd), handler)));
  });
  Times times = block_on(client, measure(client, fds[0], load));
  client.stop();
  server.stop();
  return times;
}

void run(double seconds) {
  blocking_floor(seconds, 48).print("blocking threads, 48 bytes", 0, "");
  between_threads({seconds, 0, 0, 1}).print("empty request", 0, "bar: 30 us");
  blocking_floor(seconds, 48).print("blocking threads, 48 bytes", 0, "");
  between_threads({seconds, 0, 0, 1}).print("empty request", 0, "bar: 30 us");
  between_threads({seconds, 0, 0, 32}).print("empty request, 32 at once", 0, "");
  between_threads({seconds, 4096, 0, 1}).print("4 KiB to the node", 4096, "");
  between_threads({seconds, 0, 4096, 1}).print("4 KiB from the node", 4096, "");
  between_threads({seconds, 0, 4096, 32}).print("4 KiB from the node, 32 at once", 4096, "");
  between_threads({seconds, 512 << 10, 0, 1}).print("512 KiB to the node", 512 << 10, "");
  between_threads({seconds, 512 << 10, 0, 4})
      .print("512 KiB to the node, 4 at once", 512 << 10, "");
}

}  // namespace
}  // namespace vmstore::net

int main(int argc, char** argv) {
  vmstore::net::run(argc > 1 ? std::atof(argv[1]) : 2.0);
  return 0;
}
