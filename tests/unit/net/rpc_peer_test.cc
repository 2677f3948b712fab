// SPDX-License-Identifier: Apache-2.0
#include "net/rpc_peer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/limits.h"
#include "tests/support/code_of.h"
#include "tests/unit/net/sim_pair.h"

namespace vmstore::net::test {
namespace {
using wire::Opcode;

wire::Frame sealed(wire::FrameType type, Opcode opcode, std::uint64_t id, std::string control) {
  wire::Frame frame;
  frame.header.type = type;
  frame.header.opcode = opcode;
  frame.header.request_id = id;
  frame.control = std::move(control);
  EXPECT_TRUE(wire::seal_frame(frame));
  return frame;
}

Task<void> send_frames(Connection& connection, std::vector<wire::Frame> frames, bool& all_sent) {
  for (const wire::Frame& frame : frames) {
    const auto sent = co_await connection.send(frame);
    if (!sent) co_return;
  }
  all_sent = true;
}

/// A node (right) with an RpcPeer, a client (left) with another.
struct TwoPeers {
  TwoPeers()
      : desk(pair.right),
        client(pair.left, std::move(pair.left_end), refuse_all),
        node(pair.right, std::move(pair.right_end), desk.handler()) {}
  void call(std::string control,
            Opcode opcode = Opcode::ping,
            std::optional<TimePoint> deadline = {}) {
    pair.left.spawn(ask(client.peer, opcode, std::move(control), deadline, outcomes));
  }
  ~TwoPeers() {
    pair.left.kill();
    pair.right.kill();
  }
  TwoPeers(const TwoPeers&) = delete;
  TwoPeers& operator=(const TwoPeers&) = delete;

  SimPair pair;
  Desk desk;
  RunningPeer client;
  RunningPeer node;
  std::vector<Outcome> outcomes;
};

/// A node with an RpcPeer, and a connection to it that keeps to no rule.
struct PeerAndConnection {
  PeerAndConnection()
      : desk(pair.right), node(pair.right, std::move(pair.right_end), desk.handler()) {}
  void send(std::vector<wire::Frame> frames) {
    pair.left.spawn(send_frames(*pair.left_end, std::move(frames), all_sent));
  }
  void send_requests(std::size_t count, Opcode opcode) {
    std::vector<wire::Frame> frames;
    for (std::size_t i = 1; i <= count; ++i) {
      frames.push_back(sealed(wire::FrameType::request, opcode, i, std::to_string(i)));
    }
    send(std::move(frames));
  }
  ~PeerAndConnection() {
    pair.left.kill();
    pair.right.kill();
  }
  PeerAndConnection(const PeerAndConnection&) = delete;
  PeerAndConnection& operator=(const PeerAndConnection&) = delete;

  SimPair pair;
  Desk desk;
  RunningPeer node;
  bool all_sent = false;
};

TEST(RpcPeer, AnswersComeInAnyOrder) {
  TwoPeers peers;
  for (const char* control : {"a", "b", "c"}) peers.call(control);
  ASSERT_TRUE(peers.pair.run_until([&] { return peers.desk.requests.size() == 3; }));
  for (const std::size_t n : {2U, 0U, 1U}) {
    peers.desk.answer(n, "to " + peers.desk.requests[n]->asked);
    peers.pair.run_for(1s);
  }
  ASSERT_EQ(peers.outcomes.size(), 3U);
  for (const Outcome& outcome : peers.outcomes) {
    EXPECT_EQ(outcome.answer->control, "to " + outcome.asked);
  }
  EXPECT_EQ(peers.outcomes[0].asked, "c");
  EXPECT_EQ(peers.client.peer.unanswered(), 0U);
}

TEST(RpcPeer, TheVerdictOfThePeerIsTheError) {
  TwoPeers peers;
  std::vector<Outcome> outcomes;
  peers.pair.right.spawn(ask(peers.node.peer, Opcode::disk_call, "x", {}, outcomes));
  ASSERT_TRUE(peers.pair.run_until([&] { return outcomes.size() == 1; }));
  EXPECT_EQ(outcomes[0].answer.error(), Errc::unsupported);
}

TEST(RpcPeer, WhenTheConnectionEndsEveryCallIsDisconnectedOnce) {
  TwoPeers peers;
  for (int i = 0; i < 50; ++i) peers.call(std::to_string(i));
  ASSERT_TRUE(peers.pair.run_until([&] { return peers.desk.requests.size() == 50; }));
  peers.desk.answer(7, "seven");
  peers.pair.run_for(1s);
  peers.pair.network.break_connections(peers.pair.right);
  ASSERT_TRUE(peers.pair.run_until([&] { return peers.client.why.has_value(); }));
  peers.call("too late");
  peers.pair.run_for(1s);
  ASSERT_EQ(peers.outcomes.size(), 51U);
  EXPECT_EQ(std::ranges::count_if(peers.outcomes, [](const Outcome& o) { return !!o.answer; }), 1);
  EXPECT_EQ(peers.outcomes.back().answer.error(), Errc::disconnected);
  EXPECT_EQ(*peers.client.why, Errc::disconnected);
  EXPECT_FALSE(peers.node.why.has_value());  // its handlers are still at work
  peers.desk.answer_all();
  EXPECT_TRUE(peers.pair.run_until([&] { return peers.node.why.has_value(); }));
}

TEST(RpcPeer, CloseEndsRunAndCallsAndSaysClosing) {
  TwoPeers peers;
  peers.call("a");
  peers.pair.run_for(1s);
  peers.client.peer.close();
  peers.client.peer.close();
  peers.pair.run_for(1s);
  EXPECT_EQ(*peers.client.why, Errc::closing);
  EXPECT_EQ(peers.outcomes.at(0).answer.error(), Errc::disconnected);
  EXPECT_TRUE(peers.node.peer.is_closed());
}

TEST(RpcPeer, AnAnswerAfterTheDeadlineIsDroppedAndNothingElse) {
  TwoPeers peers;
  peers.call("slow", Opcode::ping, peers.pair.world.now() + 1s);
  peers.pair.run_for(2s);
  ASSERT_EQ(peers.outcomes.size(), 1U);
  EXPECT_EQ(peers.outcomes[0].answer.error(), Errc::timed_out);
  EXPECT_EQ(peers.client.peer.unanswered(), 1U);  // still counts: the node still works on it
  peers.desk.answer(0, "late");
  peers.call("next");
  peers.pair.run_for(1s);
  peers.desk.answer(1, "in time");
  peers.pair.run_for(1s);
  EXPECT_EQ(peers.outcomes.at(1).answer->control, "in time");
  EXPECT_EQ(peers.client.peer.unanswered(), 0U);
}

TEST(RpcPeer, AnAnswerThatNobodyAskedForEndsTheConnection) {
  PeerAndConnection peers;
  std::vector<wire::Frame> frames;
  frames.push_back(sealed(wire::FrameType::response, Opcode::ping, 1, ""));
  peers.send(std::move(frames));
  ASSERT_TRUE(peers.pair.run_until([&] { return peers.node.why.has_value(); }));
  EXPECT_EQ(*peers.node.why, Errc::bad_frame);
}

/// The node asks; the connection answers with `answers`.
Error why_it_ended(const std::vector<wire::Frame>& answers, std::vector<Outcome>& outcomes) {
  PeerAndConnection peers;
  peers.pair.right.spawn(ask(peers.node.peer, Opcode::disk_call, "q", {}, outcomes));
  peers.send(answers);
  EXPECT_TRUE(peers.pair.run_until([&] { return peers.node.why.has_value(); }));
  peers.pair.run_for(1s);
  return peers.node.why.value_or(Errc::ok);
}

TEST(RpcPeer, ASecondAnswerEndsTheConnection) {
  std::vector<Outcome> outcomes;
  const auto answer = sealed(wire::FrameType::response, Opcode::disk_call, 1, "yes");
  EXPECT_EQ(why_it_ended({answer, answer}, outcomes), Errc::bad_frame);
  EXPECT_EQ(outcomes.at(0).answer->control, "yes");
}

TEST(RpcPeer, AnAnswerToAnotherOpcodeEndsTheConnection) {
  std::vector<Outcome> outcomes;
  const auto answer = sealed(wire::FrameType::response, Opcode::key_read, 1, "yes");
  EXPECT_EQ(why_it_ended({answer}, outcomes), Errc::bad_frame);
  EXPECT_EQ(outcomes.at(0).answer.error(), Errc::disconnected);
}

TEST(RpcPeer, OneWayFramesAreServedAndNotAnswered) {
  TwoPeers peers;
  bool sent = false;
  struct OneWay {
    static Task<void> send(RpcPeer& peer, bool& sent) {
      const auto done = co_await peer.send_one_way(Opcode::meta_event, "news");
      sent = done.has_value();
    }
  };
  peers.pair.left.spawn(OneWay::send(peers.client.peer, sent));
  ASSERT_TRUE(peers.pair.run_until([&] { return peers.desk.requests.size() == 1; }));
  EXPECT_TRUE(sent);
  EXPECT_EQ(peers.desk.requests[0]->asked, "news");
  const auto frames = peers.pair.network.frames_sent();
  peers.desk.answer_all();
  peers.pair.run_for(1s);
  EXPECT_EQ(peers.pair.network.frames_sent(), frames);
}

TEST(RpcPeer, RequestsStartInTheOrderTheyCame) {
  PeerAndConnection peers;
  peers.send_requests(500, Opcode::key_append);
  ASSERT_TRUE(peers.pair.run_until([&] { return peers.desk.requests.size() == 500; }));
  for (std::size_t i = 0; i < 500; ++i) {
    EXPECT_EQ(peers.desk.requests[i]->asked, std::to_string(i + 1));
  }
}

TEST(RpcPeer, RequestsServedAtOnceAreBoundedInNumber) {
  PeerAndConnection peers;
  peers.send_requests(limits::kRequestsInFlightMax + 100, Opcode::ping);
  peers.pair.run_for(10s);
  EXPECT_EQ(peers.desk.running, limits::kRequestsInFlightMax);
  peers.desk.answer(0, "");
  peers.pair.run_for(10s);
  EXPECT_EQ(peers.desk.requests.size(), limits::kRequestsInFlightMax + 1);
  EXPECT_EQ(peers.desk.running, limits::kRequestsInFlightMax);
}

// Threat: a client asks for a gigabyte and takes nothing. At most 64 MiB of answers are made.
TEST(RpcPeer, Threat_answers_never_read) {
  PeerAndConnection peers;
  peers.send_requests(1000, Opcode::key_read);
  for (int round = 0; round < 100; ++round) {
    peers.pair.run_for(1s);
    peers.desk.answer_all(limits::kPayloadBytesMax);
  }
  const std::size_t answers_max = limits::kServedBytesMax / limits::kPayloadBytesMax;
  EXPECT_LE(peers.desk.running_most, answers_max);
  // What was answered: what the connection itself takes (4 MiB) and one budget behind it.
  EXPECT_LE(peers.desk.requests.size(), answers_max + 6);
  EXPECT_TRUE(peers.all_sent);  // the requests themselves are small: none is refused
  EXPECT_FALSE(peers.node.peer.is_closed());
}

// Requests wait for memory while the answers that those before them need get through: no deadlock.
TEST(RpcPeer, AnswersPassRequestsThatWaitForMemory) {
  struct Asking {
    static Task<Answer> serve(RpcPeer*& peer, std::size_t& served) {
      wire::Payload nothing;
      auto got = co_await peer->call(Opcode::key_read, "inner", std::move(nothing));
      EXPECT_TRUE(got);
      ++served;
      co_return Answer();
    }
    static Task<Answer> echo(wire::Frame request) {
      Answer answer;
      answer.control = std::move(request.control);
      co_return answer;
    }
  };
  SimPair pair;
  std::size_t served = 0;
  RpcPeer* back = nullptr;
  const auto serve = [&back, &served](wire::Frame) { return Asking::serve(back, served); };
  RunningPeer client(pair.left, std::move(pair.left_end), Asking::echo);
  RunningPeer node(pair.right, std::move(pair.right_end), serve);
  back = &node.peer;
  std::vector<Outcome> outcomes;
  for (int i = 0; i < 1000; ++i) {
    pair.left.spawn(ask(client.peer, Opcode::disk_call, "outer", {}, outcomes));
  }
  EXPECT_TRUE(pair.run_until([&] { return outcomes.size() == 1000; }));
  EXPECT_EQ(served, 1000U);
  pair.left.kill();
  pair.right.kill();
}

TEST(RpcPeer, CallsBeyondTheWindowWaitForTheirTurn) {
  TwoPeers peers;
  constexpr std::size_t kCalls = limits::kRequestsInFlightMax + 10;
  for (std::size_t i = 0; i < kCalls; ++i) peers.call(std::to_string(i));
  peers.pair.run_for(10s);
  EXPECT_EQ(peers.desk.requests.size(), limits::kRequestsInFlightMax);
  peers.desk.answer_all();
  peers.pair.run_for(10s);
  EXPECT_EQ(peers.desk.requests.size(), kCalls);
  peers.desk.answer_all();
  EXPECT_TRUE(peers.pair.run_until([&] { return peers.outcomes.size() == kCalls; }));
}

TEST(RpcPeer, ACallWaitingForTheWindowKeepsItsDeadline) {
  TwoPeers peers;
  for (std::size_t i = 0; i < limits::kRequestsInFlightMax; ++i) peers.call("");
  peers.call("one more", Opcode::ping, peers.pair.world.now() + 3s);
  peers.pair.run_for(4s);
  ASSERT_EQ(peers.outcomes.size(), 1U);
  EXPECT_EQ(peers.outcomes[0].answer.error(), Errc::timed_out);
}

TEST(RpcPeer, AnOversizeRequestIsRefusedHere) {
  TwoPeers peers;
  peers.call(std::string(limits::kControlBytesMax + 1, 'x'));
  peers.call("after");
  peers.pair.run_for(1s);
  ASSERT_EQ(peers.outcomes.size(), 1U);
  EXPECT_EQ(peers.outcomes[0].answer.error(), Errc::bad_frame);
  EXPECT_EQ(peers.desk.requests.at(0)->asked, "after");
}

TEST(RpcPeer, AnOversizeAnswerIsAnErrorForItsAskerOnly) {
  TwoPeers peers;
  peers.call("a");
  peers.call("b");
  ASSERT_TRUE(peers.pair.run_until([&] { return peers.desk.requests.size() == 2; }));
  peers.desk.answer(0, "", limits::kPayloadBytesMax + 1);
  peers.desk.answer(1, "fine");
  peers.pair.run_for(1s);
  EXPECT_EQ(code_of(peers.outcomes.at(0).answer), Errc::unknown);
  EXPECT_EQ(peers.outcomes.at(1).answer->control, "fine");
}

TEST(RpcPeer, LastHeardIsWhenTheLastFrameCame) {
  TwoPeers peers;
  peers.pair.run_for(10s);
  const TimePoint before = peers.pair.world.now();
  peers.call("a");
  peers.pair.run_for(1s);
  EXPECT_GT(peers.node.peer.last_heard(), before);
  EXPECT_LT(peers.client.peer.last_heard(), before);
}

// A process that dies in the middle of everything frees what it has, in whatever order.
TEST(RpcPeer, DyingInTheMiddleLeavesNothingBehind) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    TwoPeers peers;
    for (int i = 0; i < 20; ++i) peers.call(std::to_string(i));
    peers.pair.run_for(std::chrono::microseconds(30 * seed));
    for (std::size_t n = 0; n < peers.desk.requests.size(); n += 3) peers.desk.answer(n, "");
    peers.pair.run_for(std::chrono::microseconds(40));
    (seed % 2 == 0 ? peers.pair.left : peers.pair.right).kill();
    peers.pair.run_for(1s);
  }
}

}  // namespace
}  // namespace vmstore::net::test
