// SPDX-License-Identifier: Apache-2.0
// What TLS costs: reads of 4 KiB and 1 MiB over loopback TCP, plain and with TLS in turn, so that
// both meet the same machine. Usage: tls_cost [SECONDS for each run, default 1] [TURNS, default 7]
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/assert.h"
#include "net/asio_transport.h"
#include "net/block_on.h"
#include "net/io_thread.h"
#include "net/rpc_peer.h"
#include "net/tls_authority.h"
#include "net/tls_listener.h"

namespace vmstore::net {
namespace {

using Clock = std::chrono::steady_clock;
using ContextPtr = std::shared_ptr<const TlsContext>;

constexpr StoreId kStore{1, 2};

double process_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

ContextPtr context_of(const CertificatePair& authority, Role role) {
  const auto now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  CertificateRequest request;
  request.name.store = kStore;
  request.name.role = role;
  request.name.person = "bench";
  if (role == Role::node) request.hosts.emplace_back("127.0.0.1");
  request.validity = {now - 1h, now + 1h};
  const auto own = issue_certificate(authority, request);
  VMS_ASSERT(own.has_value());
  auto made = TlsContext::make({authority.certificate, own->certificate, own->key});
  VMS_ASSERT(made.has_value());
  return *made;
}

Task<Answer> serve(std::size_t bytes) {
  Answer answer;
  answer.payload = wire::Payload::allocate(bytes);
  answer.payload_has_own_sums = true;
  co_return answer;
}

Task<void> run_peer(std::shared_ptr<RpcPeer> peer) {
  static_cast<void>(co_await peer->run());
}

Task<void> accept_one(IoThread& io, Listener& listener, std::size_t bytes) {
  auto connection = co_await listener.accept();
  VMS_ASSERT(connection.has_value());
  const auto handler = [bytes](wire::Frame) { return serve(bytes); };
  io.spawn(run_peer(std::make_shared<RpcPeer>(io, std::move(*connection), handler)));
}

struct Run {
  double seconds = 1;
  std::size_t bytes = 4096;
  int depth = 1;
};

struct Asker {
  Asker(IoThread& io, std::unique_ptr<Connection> connection)
      : peer(std::make_shared<RpcPeer>(io, std::move(connection), nullptr)), gate(io) {}
  Task<void> ask(Clock::time_point end) {
    const auto pass = gate.enter();
    while (Clock::now() < end) {
      std::string control;
      wire::Payload nothing;
      const auto answer = co_await peer->call(
          wire::Opcode::key_read, std::move(control), std::move(nothing), false);
      VMS_ASSERT(answer.has_value());
      ++answers;
    }
  }
  std::shared_ptr<RpcPeer> peer;
  Gate gate;
  std::uint64_t answers = 0;
};

struct Rate {
  double per_second = 0;
  double cpu_us_each = 0;  // of both ends
};

Task<Rate> measure(IoThread& io, ContextPtr tls, std::string endpoint, Run run) {
  AsioDialer dialer(io, std::move(tls));
  Endpoint to{std::move(endpoint)};
  auto connection = co_await dialer.dial(std::move(to));
  VMS_ASSERT(connection.has_value());
  Asker asker(io, std::move(*connection));
  io.spawn(run_peer(asker.peer));
  const double cpu = process_cpu_seconds();
  const auto start = Clock::now();
  const auto length = std::chrono::duration<double>(run.seconds);
  const auto end = start + std::chrono::duration_cast<Clock::duration>(length);
  for (int i = 0; i < run.depth; ++i) io.spawn(asker.ask(end));
  co_await asker.gate.close();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  asker.peer->close();
  const auto answers = static_cast<double>(asker.answers);
  Rate rate;
  rate.per_second = answers / seconds;
  rate.cpu_us_each = (process_cpu_seconds() - cpu) * 1e6 / answers;
  co_return rate;
}

class Bench {
 public:
  Bench() {
    const auto now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
    const auto authority = make_authority(kStore, {now - 1h, now + 2h});
    VMS_ASSERT(authority.has_value());
    node_ = context_of(*authority, Role::node);
    client_ = context_of(*authority, Role::client);
  }
  [[nodiscard]] Rate one(bool with_tls, const Run& run) const {
    IoThread server("server");
    IoThread client("client");
    std::unique_ptr<Listener> listener;
    std::string endpoint;
    const auto begin = [&](auto listening) {
      VMS_ASSERT(listening.has_value());
      endpoint = (*listening)->endpoint().text;
      listener = std::move(*listening);
    };
    const Endpoint any{"127.0.0.1:0"};
    if (with_tls) {
      begin(TlsListener::listen(server, any, node_));
    } else {
      begin(AsioListener::listen(server, any, {}));
    }
    server.post([&] { server.spawn(accept_one(server, *listener, run.bytes)); });
    const Rate rate =
        block_on(client, measure(client, with_tls ? client_ : nullptr, endpoint, run));
    client.stop();
    server.stop();
    return rate;
  }

 private:
  ContextPtr node_;
  ContextPtr client_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void compare(const Bench& bench, const Run& run, int turns) {
  struct Side {
    std::vector<double> rates;
    std::vector<double> cpu;
  };
  Side plain;
  Side tls;
  std::vector<double> ratios;
  for (int turn = 0; turn < turns; ++turn) {
    for (const bool with_tls : {turn % 2 == 0, turn % 2 != 0}) {
      const Rate rate = bench.one(with_tls, run);
      Side& side = with_tls ? tls : plain;
      side.rates.push_back(rate.per_second);
      side.cpu.push_back(rate.cpu_us_each);
    }
    ratios.push_back(tls.rates.back() / plain.rates.back());
  }
  std::sort(ratios.begin(), ratios.end());
  std::printf(
      "%7zu bytes, %2d at once: plain %8.0f/s %7.1f us CPU; TLS %8.0f/s %7.1f us CPU; "
      "ratio %.2f (%.2f - %.2f)\n",
      run.bytes,
      run.depth,
      median(plain.rates),
      median(plain.cpu),
      median(tls.rates),
      median(tls.cpu),
      median(ratios),
      ratios.front(),
      ratios.back());
  std::fflush(stdout);
}

}  // namespace
}  // namespace vmstore::net

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 1.0;
  const int turns = argc > 2 ? std::atoi(argv[2]) : 7;
  const vmstore::net::Bench bench;
  for (const std::size_t bytes : {4096U, 1024U * 1024U}) {
    for (const int depth : {1, 32}) {
      vmstore::net::compare(
          bench, {seconds, bytes, bytes > 4096 ? std::min(depth, 4) : depth}, turns);
    }
  }
  return 0;
}
