// SPDX-License-Identifier: Apache-2.0
// Two simulated processes and a connection between them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "net/rpc_peer.h"
#include "tests/support/sim_network.h"
#include "tests/support/virtual_scheduler.h"

namespace vmstore::net::test {

/// What ends after the processes' tasks were destroyed is declared before them.
class SimPair {
 public:
  explicit SimPair(std::uint64_t seed = 1)
      : world(seed), network(world), left(world, "left"), right(world, "right") {
    listener_ = network.listen(right, "unix:/node");
    sim::Running<Result<std::unique_ptr<Connection>>> accepted(right, listener_->accept());
    const auto dialer = network.dialer(left);
    Endpoint endpoint;
    endpoint.text = "unix:/node";
    left_end = std::move(*sim::run(left, dialer->dial(std::move(endpoint))));
    EXPECT_TRUE(accepted.wait(std::chrono::seconds(10)));
    right_end = std::move(*accepted.outcome());
  }
  SimPair(const SimPair&) = delete;
  SimPair& operator=(const SimPair&) = delete;
  ~SimPair() {
    left.kill();
    right.kill();
  }

  void run_for(Duration duration) { world.run_for(duration); }
  bool run_until(const std::function<bool()>& done) {
    return world.run_until(done, std::chrono::minutes(10));
  }

  sim::World world;
  sim::SimNetwork network;
  std::unique_ptr<Connection> left_end;
  std::unique_ptr<Connection> right_end;
  std::unique_ptr<Listener> listener_;
  sim::VirtualScheduler left;
  sim::VirtualScheduler right;
};

/// An RpcPeer that runs until its connection ends.
class RunningPeer {
 public:
  RunningPeer(Scheduler& scheduler,
              std::unique_ptr<Connection> connection,
              RpcPeer::Handler handler)
      : peer(scheduler, std::move(connection), std::move(handler)) {
    scheduler.spawn(run());
  }
  RunningPeer(const RunningPeer&) = delete;
  RunningPeer& operator=(const RunningPeer&) = delete;
  ~RunningPeer() = default;

  RpcPeer peer;
  std::optional<Error> why;  // it ended

 private:
  Task<void> run() {
    const Error error = co_await peer.run();
    why = error;
  }
};

/// A handler whose requests wait until the test answers them.
class Desk {
 public:
  explicit Desk(Scheduler& scheduler) : scheduler_(scheduler) {}
  [[nodiscard]] RpcPeer::Handler handler() {
    return [this](wire::Frame request) { return serve(std::move(request)); };
  }
  /// Answers the n-th request that came, with `control`.
  void answer(std::size_t n, std::string control, std::size_t payload = 0) {
    requests.at(n)->control = std::move(control);
    requests.at(n)->payload_bytes = payload;
    requests.at(n)->answered.set();
  }
  void answer_all(std::size_t payload = 0) {
    for (std::size_t n = 0; n < requests.size(); ++n) answer(n, requests[n]->asked, payload);
  }
  struct Request {
    explicit Request(Scheduler& scheduler) : answered(scheduler) {}
    std::string asked;
    std::string control;
    std::size_t payload_bytes = 0;
    Event answered;
  };
  std::vector<std::unique_ptr<Request>> requests;
  std::size_t running = 0;
  std::size_t running_most = 0;

 private:
  Task<Answer> serve(wire::Frame frame) {
    requests.push_back(std::make_unique<Request>(scheduler_));
    Request& request = *requests.back();
    request.asked = frame.control;
    running_most = std::max(running_most, ++running);
    co_await request.answered.wait();
    --running;
    Answer answer;
    answer.control = request.control;
    answer.payload = wire::Payload::allocate(request.payload_bytes);
    answer.payload_has_own_sums = true;
    co_return answer;
  }
  Scheduler& scheduler_;
};

inline Task<Answer> refuse_all(wire::Frame /*request*/) {
  Answer answer;
  answer.status = Errc::unsupported;
  co_return answer;
}

/// Keeps the outcomes of calls in the order they ended.
struct Outcome {
  std::string asked;
  Result<wire::Frame> answer;
};
inline Task<void> ask(RpcPeer& peer,
                      wire::Opcode opcode,
                      std::string control,
                      std::optional<TimePoint> deadline,
                      std::vector<Outcome>& outcomes) {
  std::string asked = control;
  wire::Payload nothing;
  Result<wire::Frame> answer =
      co_await peer.call(opcode, std::move(control), std::move(nothing), false, deadline);
  outcomes.push_back(Outcome{std::move(asked), std::move(answer)});
}

}  // namespace vmstore::net::test
