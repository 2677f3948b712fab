// SPDX-License-Identifier: Apache-2.0
#include "net/node_client.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "base/limits.h"
#include "tests/unit/net/client_world.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::net::test {
namespace {
using wire::Opcode;

KeyId key_of(std::uint64_t number) {
  return *KeyId::make(number);
}

template <class Message>
Answer answer_of(const Message& message) {
  Answer answer;
  answer.control = wire::serialize(message);
  return answer;
}
Task<Answer> answer_later(Answer answer) {
  co_return answer;
}

/// Answers every request with the same, and keeps the last one.
RpcPeer::Handler always(Answer answer, wire::Frame& asked) {
  return [answer, &asked](wire::Frame request) {
    asked = std::move(request);
    return answer_later(answer);
  };
}

// ---- the session ----

TEST(NodeClientSession, HelloTellsWhoTheNodeIs) {
  ClientWorld w;
  w.start_node();
  ClientOptions options;
  options.program = "nbdkit-vmstore vm1";
  w.make_client(options);
  const auto info = w.wait_connected(10s);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->store, (StoreId{1, 2}));
  EXPECT_EQ(info->node, (NodeId{3, 4}));
  EXPECT_EQ(info->incarnation, (Incarnation{5, 6}));
  EXPECT_EQ(info->start_count, 7U);
  EXPECT_EQ(info->session, SessionId(1));
  EXPECT_TRUE(w.client->is_connected());
  EXPECT_EQ(w.client->session_count(), 1U);
  EXPECT_EQ(w.node->programs, std::vector<std::string>{"nbdkit-vmstore vm1"});
}

TEST(NodeClientSession, WithoutANodeCallsFailAtOnceAndWaitingTimesOut) {
  ClientWorld w;
  w.make_client();
  EXPECT_EQ(code_of(w.run(w.client->status())), Errc::disconnected);
  EXPECT_EQ(code_of(w.wait_connected(3s)), Errc::timed_out);
  EXPECT_FALSE(w.client->is_connected());
  w.start_node();
  EXPECT_EQ(code_of(w.wait_connected(3s)), Errc::ok);
}

TEST(NodeClientSession, ComesBackAfterEachLossAndSaysSo) {
  ClientWorld w;
  w.connect();
  for (std::uint64_t round = 2; round <= 5; ++round) {
    sim::Running<bool> lost(*w.client_process, w.client->session_changed().wait_pulse());
    w.world.run_for(1ms);
    w.kill_node();
    EXPECT_TRUE(lost.wait(1s));
    EXPECT_FALSE(w.client->is_connected());
    sim::Running<bool> back(*w.client_process, w.client->session_changed().wait_pulse());
    w.start_node();
    EXPECT_TRUE(back.wait(3s));
    EXPECT_TRUE(w.client->is_connected());
    EXPECT_EQ(w.client->session_count(), round);
  }
}

TEST(NodeClientSession, CallsUnderWayAreDisconnectedWhenTheSessionEnds) {
  ClientWorld w;
  w.connect();
  w.node->silent = true;
  sim::Running<Result<void>> call(*w.client_process, w.client->committed(key_of(16), Epoch(1), {}));
  w.world.run_for(10ms);
  w.kill_node();
  EXPECT_TRUE(call.wait(1s));
  EXPECT_EQ(code_of(call.outcome()), Errc::disconnected);
}

TEST(NodeClientSession, TheNextEndpointOfAListServesWhenOneIsDead) {
  ClientWorld w;
  w.start_node();
  ClientOptions options;
  options.more = {Endpoint{"unix:/dead"}, Endpoint{kNodeEndpoint}};
  w.make_client(options, "unix:/nobody");
  EXPECT_EQ(code_of(w.wait_connected(1s)), Errc::ok);
  // What the catalogue tells of comes behind the list, and the list is tried again.
  w.client->set_alternatives({Endpoint{"unix:/gone"}, Endpoint{kNodeEndpoint}});
  w.kill_node();
  w.world.run_for(1s);
  w.start_node();
  EXPECT_EQ(code_of(w.wait_connected(10s)), Errc::ok);
}

/// Counts how often a node is dialled.
class CountingDialer final : public Dialer {
 public:
  explicit CountingDialer(Scheduler& scheduler) : scheduler_(scheduler) {}
  Task<Result<std::unique_ptr<Connection>>> dial(Endpoint /*endpoint*/) override {
    times.push_back(scheduler_.now());
    co_return Errc::unavailable;
  }
  std::vector<TimePoint> times;

 private:
  Scheduler& scheduler_;
};

TEST(NodeClientSession, PausesDoubleUpToTheLast) {
  sim::World world(1);
  sim::VirtualScheduler process(world, "client");
  CountingDialer dialer(process);
  ClientOptions options;
  options.retry_first = std::chrono::milliseconds(20);
  options.retry_last = std::chrono::milliseconds(100);
  NodeClient client(process, dialer, options);
  process.post([&] { client.start(); });
  world.run_for(1s);
  std::vector<Duration> pauses;
  for (std::size_t i = 1; i < 6; ++i) pauses.push_back(dialer.times.at(i) - dialer.times[i - 1]);
  EXPECT_EQ(pauses, (std::vector<Duration>{20ms, 40ms, 80ms, 100ms, 100ms}));
  sim::run(process, client.stop());
  process.kill();
}

TEST(NodeClientSession, ARefusalIsToldAtOnceAndOvercomeWhenPutRight) {
  for (const Errc refusal : {Errc::permission, Errc::foreign_store, Errc::newer_format}) {
    ClientWorld w;
    w.start_node();
    w.node->hello_status = refusal;
    w.make_client();
    EXPECT_EQ(code_of(w.wait_connected(10s)), refusal);
    w.node->hello_status = Errc::ok;
    w.world.run_for(3s);
    EXPECT_EQ(code_of(w.wait_connected(1s)), Errc::ok);
  }
}

TEST(NodeClientSession, OnlyTheExpectedStoreIsAccepted) {
  ClientWorld w;
  w.start_node();
  ClientOptions options;
  options.store = StoreId{9, 9};
  w.make_client(options);
  EXPECT_EQ(code_of(w.wait_connected(10s)), Errc::foreign_store);
}

// The wrong file system was mounted for a while: no request goes there, and none fails of it.
TEST(NodeClientSession, AnotherStoreUnderALivingClientIsWaitedOut) {
  ClientWorld w;
  w.connect();
  w.kill_node();
  w.start_node();
  const StoreId own = w.node->store_id;
  w.node->store_id = StoreId{8, 8};
  w.world.run_for(5s);
  EXPECT_FALSE(w.client->is_connected());
  EXPECT_EQ(code_of(w.wait_connected(1s)), Errc::timed_out);
  w.node->store_id = own;
  w.world.run_for(5s);
  EXPECT_TRUE(w.client->is_connected());
}

// A node that starts may refuse for a while: a guest that was served once goes on waiting.
TEST(NodeClientSession, PermissionLostAfterASessionIsWaitedFor) {
  ClientWorld w;
  w.connect();
  w.kill_node();
  w.start_node();
  w.node->hello_status = Errc::permission;
  w.world.run_for(1s);  // until the loss is seen
  EXPECT_EQ(code_of(w.wait_connected(5s)), Errc::timed_out);
  w.node->hello_status = Errc::ok;
  EXPECT_EQ(code_of(w.wait_connected(5s)), Errc::ok);
}

TEST(NodeClientSession, AVersionItDoesNotSpeakIsNewerFormat) {
  ClientWorld w;
  w.start_node();
  w.node->version = 2;
  w.make_client();
  EXPECT_EQ(code_of(w.wait_connected(10s)), Errc::newer_format);
}

TEST(NodeClientSession, AHelloThatIsNeverAnsweredIsGivenUpAndTriedAgain) {
  ClientWorld w;
  w.start_node();
  w.node->answers_hello = false;
  w.make_client();
  EXPECT_EQ(code_of(w.wait_connected(4s)), Errc::timed_out);
  w.node->answers_hello = true;
  EXPECT_EQ(code_of(w.wait_connected(4s)), Errc::ok);
  EXPECT_EQ(w.node->programs.size(), 2U);
}

TEST(NodeClientSession, ASilentNodeThatOwesAnAnswerIsGivenUp) {
  ClientWorld w;
  w.connect();
  w.node->silent = true;
  const TimePoint asked = w.world.now();
  EXPECT_EQ(code_of(w.run(w.client->status())), Errc::disconnected);
  EXPECT_LT(w.world.now() - asked, 4s);
  EXPECT_GT(w.world.now() - asked, 2s);
}

TEST(NodeClientSession, ASlowAnswerIsWaitedForWhileTheNodeAnswersHeartbeats) {
  ClientWorld w;
  w.connect();
  struct Slow {
    static Task<Answer> answer(Scheduler& scheduler) {
      co_await sleep_for(scheduler, 60s);
      co_return answer_of(pb::NodeStatusReply());
    }
  };
  w.node->handler = [&](wire::Frame) { return Slow::answer(*w.node_process); };
  EXPECT_EQ(code_of(w.run(w.client->status())), Errc::ok);
  EXPECT_EQ(w.client->session_count(), 1U);
  EXPECT_GT(w.node->pings, 50U);
}

TEST(NodeClientSession, AnIdleClientSaysNothing) {
  ClientWorld w;
  w.connect();
  w.world.run_for(1s);
  const auto frames = w.network.frames_sent();
  w.world.run_for(std::chrono::minutes(10));
  EXPECT_EQ(w.network.frames_sent(), frames);
  EXPECT_TRUE(w.client->is_connected());
}

TEST(NodeClientSession, StopEndsEverything) {
  for (int when = 0; when < 40; ++when) {
    ClientWorld w;
    w.start_node();
    w.make_client();
    w.world.run_for(std::chrono::microseconds(40 * when));
    sim::Running<Result<SessionInfo>> waiting(*w.client_process, w.client->wait_connected({}));
    w.stop();
    ASSERT_TRUE(waiting.wait(1s));
    EXPECT_EQ(code_of(w.run(w.client->wait_connected({}))),
              w.client->session_count() > 0 && waiting.outcome() ? Errc::closing
                                                                 : code_of(waiting.outcome()));
    EXPECT_EQ(code_of(w.run(w.client->status())), Errc::disconnected);
    EXPECT_FALSE(w.client->is_connected());
  }
}

TEST(NodeClientSession, DyingAtAnyInstantLeavesNothingBehind) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    ClientWorld w(seed);
    w.start_node();
    w.make_client();
    w.world.run_for(std::chrono::microseconds(30 * seed));
    std::vector<std::unique_ptr<sim::Running<Result<meta::GetAnswer>>>> calls;
    for (int i = 0; i < 10; ++i) {
      calls.push_back(std::make_unique<sim::Running<Result<meta::GetAnswer>>>(
          *w.client_process, w.client->meta().get("/a")));
    }
    w.world.run_for(std::chrono::microseconds(20 * seed));
    if (seed % 2 == 0) w.kill_node();
    w.world.run_for(std::chrono::microseconds(seed % 7 * 100));
    w.client_process->kill();
  }
}

// ---- calls ----

class NodeClientCalls : public testing::Test {
 protected:
  void SetUp() override { w.connect(); }
  template <class Message>
  [[nodiscard]] Message asked_message() const {
    const auto message = wire::parse<Message>(asked.control);
    EXPECT_TRUE(message);
    return message ? *message : Message();
  }
  void answer_with(Answer answer) { w.node->handler = always(std::move(answer), asked); }
  template <class Message>
  void answer_with_message(const Message& message) {
    answer_with(answer_of(message));
  }
  ClientWorld w;
  wire::Frame asked;
};

TEST_F(NodeClientCalls, CreateKey) {
  pb::KeyCreateReply reply;
  wire::put_id(*reply.mutable_incarnation(), Incarnation{1, 2});
  answer_with_message(reply);
  const std::vector<std::byte> record(168, std::byte{9});
  const auto incarnation =
      w.run(w.client->create_key(key_of(77), DiskId{5, 6}, Epoch(3), record, 2));
  ASSERT_TRUE(incarnation);
  EXPECT_EQ(*incarnation, (Incarnation{1, 2}));
  const auto sent = asked_message<pb::KeyCreateRequest>();
  EXPECT_EQ(asked.header.opcode, Opcode::key_create);
  EXPECT_EQ(sent.key(), 77U);
  EXPECT_EQ(wire::get_id<DiskId>(sent.disk()), (DiskId{5, 6}));
  EXPECT_EQ(sent.token(), 3U);
  EXPECT_EQ(sent.header_record(), std::string(168, '\x09'));
  EXPECT_EQ(sent.copies(), 2U);
}

TEST_F(NodeClientCalls, Append) {
  const KeyLength length{Sequence(8), 1000, BlockIndex{12}};
  pb::KeyAppendReply reply;
  wire::put_length(*reply.mutable_length(), length);
  answer_with_message(reply);
  const std::string block(2 * kBlockBytes, 'b');
  const std::vector<ByteSpan> pieces = {as_byte_span(block).first(kBlockBytes),
                                        as_byte_span(block).subspan(kBlockBytes)};
  const auto answer = w.run(w.client->append(key_of(16),
                                             Epoch(2),
                                             Sequence(8),
                                             832,
                                             BlockIndex{10},
                                             Sequence(7),
                                             std::vector<std::byte>(168),
                                             wire::Payload(pieces, nullptr)));
  ASSERT_TRUE(answer);
  EXPECT_EQ(*answer, length);
  const auto sent = asked_message<pb::KeyAppendRequest>();
  EXPECT_EQ(sent.sequence(), 8U);
  EXPECT_EQ(sent.log_offset(), 832U);
  EXPECT_EQ(sent.data_offset(), 10U);
  EXPECT_EQ(sent.committed(), 7U);
  EXPECT_EQ(sent.record().size(), 168U);
  EXPECT_TRUE(asked.header.payload_has_own_sums);
  EXPECT_EQ(as_text(asked.payload.bytes()), block);
}

TEST_F(NodeClientCalls, FenceSealAndInfo) {
  const KeyLength length{Sequence(8), 1000, BlockIndex{12}};
  pb::KeyFenceReply fenced;
  wire::put_length(*fenced.mutable_length(), length);
  fenced.set_sealed(true);
  fenced.set_committed(6);
  wire::put_id(*fenced.mutable_incarnation(), Incarnation{1, 2});
  fenced.set_last_record("abc");
  answer_with_message(fenced);
  const auto fence = w.run(w.client->fence(key_of(16), Epoch(2)));
  ASSERT_TRUE(fence);
  EXPECT_EQ(fence->length, length);
  EXPECT_TRUE(fence->sealed);
  EXPECT_EQ(fence->committed, Sequence(6));
  EXPECT_EQ(fence->last_record.size(), 3U);

  pb::KeySealReply sealed;
  wire::put_length(*sealed.mutable_length(), length);
  answer_with_message(sealed);
  EXPECT_EQ(*w.run(w.client->seal(key_of(16), Epoch(2), length)), length);
  EXPECT_EQ(*wire::get_length(asked_message<pb::KeySealRequest>().length()), length);

  pb::KeyInfoReply info;
  info.set_copies(3);
  answer_with_message(info);
  EXPECT_EQ((*w.run(w.client->key_info(key_of(16))))->copies(), 3U);
}

/// Two blocks as a node would send them.
struct TwoBlocks {
  TwoBlocks() {
    answer.payload = wire::Payload::allocate(2 * kBlockBytes);
    std::ranges::fill(answer.payload.writable(), std::byte{3});
    answer.payload_has_own_sums = true;
    for (std::size_t i = 0; i < 2; ++i) {
      reply.add_sums(block_sum(answer.payload.bytes().subspan(i * kBlockBytes, kBlockBytes)));
    }
  }
  Answer made() {
    answer.control = wire::serialize(reply);
    return answer;
  }
  pb::KeyReadReply reply;
  Answer answer;
};

std::vector<ReadRange> two_ranges() {
  return {{*Address::make(key_of(16), {5}), 1}, {*Address::make(key_of(17), {9}), 1}};
}

TEST_F(NodeClientCalls, ReadBringsBlocksAndTheirSums) {
  TwoBlocks blocks;
  answer_with(blocks.made());
  const auto read = w.run(w.client->read(two_ranges()));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->payload.size(), 2 * kBlockBytes);
  EXPECT_EQ(read->sums.size(), 2U);
  const auto sent = asked_message<pb::KeyReadRequest>();
  ASSERT_EQ(sent.ranges_size(), 2);
  EXPECT_EQ(sent.ranges(1).address(), two_ranges()[1].address.raw());
  EXPECT_EQ(sent.ranges(1).blocks(), 1U);
}

// I8: what a node sends is believed only as far as it proves itself.
TEST_F(NodeClientCalls, ReadRefusesWhatDoesNotMatch) {
  TwoBlocks changed;
  changed.answer.payload.writable()[kBlockBytes + 17] ^= std::byte{1};
  TwoBlocks wrong_sum;
  wrong_sum.reply.set_sums(0, wrong_sum.reply.sums(0) + 1);
  TwoBlocks missing_sum;
  missing_sum.reply.mutable_sums()->RemoveLast();
  TwoBlocks extra_sum;
  extra_sum.reply.add_sums(1);
  TwoBlocks cut;
  cut.answer.payload = wire::Payload::allocate(kBlockBytes);
  TwoBlocks none;
  none.answer.payload = wire::Payload();
  none.reply.clear_sums();
  for (TwoBlocks* const bad : {&changed, &wrong_sum, &missing_sum, &extra_sum, &cut, &none}) {
    answer_with(bad->made());
    EXPECT_EQ(code_of(w.run(w.client->read(two_ranges()))), Errc::corrupt);
  }
  EXPECT_TRUE(w.client->is_connected());
}

TEST_F(NodeClientCalls, ReadOfNothingOrTooMuchIsRefusedHere) {
  const Address address = *Address::make(key_of(16), {0});
  EXPECT_EQ(code_of(w.run(w.client->read({}))), Errc::invalid_argument);
  const std::vector<ReadRange> too_much = {{address, limits::kReadBlocksMax}, {address, 1}};
  EXPECT_EQ(code_of(w.run(w.client->read(too_much))), Errc::invalid_argument);
}

TEST_F(NodeClientCalls, ReadLogBringsItsBytes) {
  pb::KeyReadLogReply reply;
  reply.set_log_bytes(5000);
  reply.set_sealed(true);
  Answer answer = answer_of(reply);
  answer.payload = wire::Payload::allocate(1000);
  answer_with(answer);
  const auto log = w.run(w.client->read_log(key_of(16), 4000, 1000, Epoch(9)));
  ASSERT_TRUE(log);
  EXPECT_EQ(log->bytes.size(), 1000U);
  EXPECT_EQ(log->log_bytes, 5000U);
  EXPECT_TRUE(log->sealed);
  EXPECT_EQ(asked_message<pb::KeyReadLogRequest>().token(), 9U);
  EXPECT_EQ(code_of(w.run(w.client->read_log(key_of(16), 4000, 999))), Errc::corrupt);
}

TEST_F(NodeClientCalls, ReserveFreeAndCommitted) {
  pb::KeyReserveReply reserved;
  reserved.set_data_blocks(300);
  reserved.set_log_bytes(70000);
  answer_with_message(reserved);
  const auto length = w.run(w.client->reserve(key_of(16), Epoch(1), BlockIndex{256}, 65536));
  ASSERT_TRUE(length);
  EXPECT_EQ(length->blocks, BlockIndex{300});
  EXPECT_EQ(length->log_bytes, 70000U);

  answer_with_message(pb::KeyFreeReply());
  std::vector<NodeClient::FreeRun> runs = {{BlockIndex{4}, 2}};
  EXPECT_EQ(code_of(w.run(w.client->free_blocks(key_of(16), Epoch(1), DiskId{1, 1}, runs, {77}))),
            Errc::ok);
  EXPECT_EQ(asked_message<pb::KeyFreeRequest>().runs(0).count(), 2U);
  EXPECT_EQ(asked_message<pb::KeyFreeRequest>().garbage_blocks(), 77U);

  answer_with_message(pb::KeyCommittedReply());
  EXPECT_EQ(code_of(w.run(w.client->committed(key_of(16), Epoch(1), Sequence(5)))), Errc::ok);
  EXPECT_EQ(asked_message<pb::KeyCommittedRequest>().committed(), 5U);
}

TEST_F(NodeClientCalls, HoldReleaseAndHolder) {
  answer_with_message(pb::DiskHoldReply());
  EXPECT_EQ(code_of(w.run(w.client->hold(DiskId{1, 2}, Epoch(4)))), Errc::ok);
  EXPECT_EQ(asked_message<pb::DiskHoldRequest>().epoch(), 4U);
  answer_with_message(pb::DiskReleaseReply());
  EXPECT_EQ(code_of(w.run(w.client->release(DiskId{1, 2}, Epoch(4)))), Errc::ok);
  pb::DiskHolderReply holder;
  holder.set_held(true);
  holder.set_epoch(4);
  holder.set_program("somebody");
  answer_with_message(holder);
  const auto info = w.run(w.client->holder(DiskId{1, 2}));
  ASSERT_TRUE(info);
  EXPECT_TRUE(info->held);
  EXPECT_EQ(info->epoch, Epoch(4));
  EXPECT_EQ(info->program, "somebody");
}

TEST_F(NodeClientCalls, TheVerdictOfTheNodeIsTheError) {
  for (const Errc verdict : {Errc::stale_token, Errc::sealed, Errc::wrong_offset, Errc::unknown}) {
    Answer answer;
    answer.status = verdict;
    answer_with(answer);
    EXPECT_EQ(code_of(w.run(w.client->fence(key_of(16), Epoch(1)))), verdict);
  }
}

TEST_F(NodeClientCalls, NonsenseEndsTheSessionWithTheOutcomeUnknown) {
  Answer nonsense;
  nonsense.control = "\x0a\xff";
  answer_with(nonsense);
  EXPECT_EQ(code_of(w.run(w.client->fence(key_of(16), Epoch(1)))), Errc::disconnected);
  EXPECT_FALSE(w.client->is_connected());
  w.wait_connected(3s).value();
  pb::KeyAppendReply impossible;
  impossible.mutable_length()->set_blocks(BlockIndex::kEnd + 1);
  answer_with_message(impossible);
  const auto appended = w.run(w.client->append(
      key_of(16), Epoch(1), Sequence(1), 0, BlockIndex{0}, Sequence(), {}, wire::Payload()));
  EXPECT_EQ(code_of(appended), Errc::disconnected);
}

// ---- what the node asks ----

Task<Result<DiskCallAnswer>> serve_size(DiskId disk, std::unique_ptr<pb::DiskCallRequest> call) {
  DiskCallAnswer answer;
  if (call->has_flush()) co_return Errc::busy;
  answer.reply = std::make_unique<pb::DiskCallReply>();
  answer.reply->set_size_bytes(disk.low);
  answer.payload = wire::Payload::allocate(10);
  co_return std::move(answer);
}

Task<Result<wire::Frame>> call_client(RpcPeer& peer, pb::DiskCallRequest request) {
  wire::Payload nothing;
  co_return co_await peer.call(Opcode::disk_call, wire::serialize(request), std::move(nothing));
}

TEST_F(NodeClientCalls, DiskCallsReachTheHandler) {
  pb::DiskCallRequest request;
  wire::put_id(*request.mutable_disk(), DiskId{0, 4096});
  request.mutable_info();
  RpcPeer& session = w.node->newest();
  EXPECT_EQ(code_of(sim::run(*w.node_process, call_client(session, request))), Errc::not_owner);
  w.client->set_disk_call_handler(serve_size);
  const auto answer = sim::run(*w.node_process, call_client(session, request));
  ASSERT_TRUE(answer);
  EXPECT_EQ(wire::parse<pb::DiskCallReply>(answer->control)->size_bytes(), 4096U);
  EXPECT_EQ(answer->payload.size(), 10U);
  request.mutable_flush();
  EXPECT_EQ(code_of(sim::run(*w.node_process, call_client(session, request))), Errc::busy);
}

TEST_F(NodeClientCalls, ADiskCallStillAtWorkDoesNotHoldUpTheNextSession) {
  struct Stuck {
    static Task<Result<DiskCallAnswer>> wait(NodeClient& client) {
      const auto session = client.session_count();
      while (client.session_count() == session) {
        static_cast<void>(co_await client.session_changed().wait_pulse());
      }
      co_return Errc::busy;
    }
  };
  w.client->set_disk_call_handler(
      [this](DiskId, std::unique_ptr<pb::DiskCallRequest>) { return Stuck::wait(*w.client); });
  sim::Running<Result<wire::Frame>> call(*w.node_process,
                                         call_client(w.node->newest(), pb::DiskCallRequest()));
  w.world.run_for(100ms);
  w.node->end_sessions();
  w.world.run_for(3s);
  EXPECT_TRUE(w.client->is_connected());
  EXPECT_EQ(w.client->session_count(), 2U);
}

TEST_F(NodeClientCalls, CallHolderBringsReplyAndPayload) {
  pb::DiskCallReply reply;
  reply.set_size_bytes(77);
  Answer answer = answer_of(reply);
  answer.payload = wire::Payload::allocate(5);
  answer_with(answer);
  pb::DiskCallRequest request;
  request.mutable_read()->set_bytes(5);
  const auto called = w.run(w.client->call_holder(request));
  ASSERT_TRUE(called);
  EXPECT_EQ(called->reply->size_bytes(), 77U);
  EXPECT_EQ(called->payload.size(), 5U);
}

}  // namespace
}  // namespace vmstore::net::test
