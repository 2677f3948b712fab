// SPDX-License-Identifier: Apache-2.0
// disk_*: holds, leases, and the relay to a disk's holder.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "storaged/session.h"
#include "tests/unit/storaged_service/service_fixture.h"

namespace vmstore::storaged::test {
namespace {

constexpr Duration kLease = limits::kLeaseTime;

class ServiceDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_.start_well();
    put_disk(1);
  }
  void put_disk(std::uint64_t epoch) {
    machine_.put_meta(meta::disk_key(kDisk), meta::encode(disk_record(kDisk, "a", epoch)));
  }
  std::unique_ptr<Client> client(const std::string& name, Client::Handler handler = {}) {
    auto made = std::make_unique<Client>(machine_, name, std::move(handler));
    made->greet();
    return made;
  }
  static Errc hold(Client& client, std::uint64_t epoch, DiskId disk = kDisk) {
    pb::DiskHoldRequest request;
    wire::put_id(*request.mutable_disk(), disk);
    request.set_epoch(epoch);
    return client.error_of(wire::Opcode::disk_hold, request);
  }
  static pb::DiskHolderReply holder(Client& client, DiskId disk = kDisk) {
    pb::DiskHolderRequest request;
    wire::put_id(*request.mutable_disk(), disk);
    const auto reply = client.call<pb::DiskHolderReply>(wire::Opcode::disk_holder, request);
    EXPECT_TRUE(reply) << to_string(reply.error());
    return reply ? *reply : pb::DiskHolderReply();
  }
  /// How many of the one disk the client does not hold any more.
  static int lost(Client& client) {
    pb::DiskRenewRequest renew;
    wire::put_id(*renew.add_disks(), kDisk);
    const auto reply = client.call<pb::DiskRenewReply>(wire::Opcode::disk_renew, renew);
    EXPECT_TRUE(reply) << to_string(reply.error());
    return reply ? reply->lost_size() : -1;
  }
  static pb::DiskCallRequest info_call() {
    pb::DiskCallRequest request;
    wire::put_id(*request.mutable_disk(), kDisk);
    request.mutable_info();
    return request;
  }
  /// The term after a start in which unregistered holders are believed is over.
  void pass_grace() { machine_.world.run_for(kLease + std::chrono::seconds(1)); }

  Machine machine_;
};

TEST_F(ServiceDisk, HolderIsToldToEverybody) {
  const auto owner = client("nbdkit a");
  const auto asker = client("asker");
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  const auto reply = holder(*asker);
  EXPECT_TRUE(reply.held());
  EXPECT_EQ(reply.epoch(), 1U);
  EXPECT_EQ(reply.program(), "nbdkit a");
  EXPECT_EQ(reply.pid(), owner->process().pid());
  EXPECT_GT(reply.lease_left_ms(), 4000U);
}

TEST_F(ServiceDisk, OnlyTheRecordedEpochIsHeld) {
  const auto owner = client("owner");
  EXPECT_EQ(hold(*owner, 2), Errc::invalid_argument);
  EXPECT_EQ(hold(*owner, 1, DiskId{9, 9}), Errc::not_found);
  put_disk(2);
  EXPECT_EQ(hold(*owner, 1), Errc::stale_token);
  EXPECT_EQ(hold(*owner, 2), Errc::ok);
}

TEST_F(ServiceDisk, HigherEpochReplacesTheHolderAndItLearns) {
  const auto old_owner = client("old");
  const auto new_owner = client("new");
  ASSERT_EQ(hold(*old_owner, 1), Errc::ok);
  put_disk(2);
  ASSERT_EQ(hold(*new_owner, 2), Errc::ok);
  EXPECT_EQ(holder(*old_owner).program(), "new");
  EXPECT_EQ(hold(*old_owner, 1), Errc::stale_token);
  EXPECT_EQ(lost(*old_owner), 1);
  EXPECT_EQ(lost(*new_owner), 0);
}

TEST_F(ServiceDisk, ReleaseEndsOnlyOnesOwnHold) {
  const auto owner = client("owner");
  const auto other = client("other");
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  pass_grace();
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  pb::DiskReleaseRequest release;
  wire::put_id(*release.mutable_disk(), kDisk);
  release.set_epoch(1);
  EXPECT_EQ(other->error_of(wire::Opcode::disk_release, release), Errc::ok);
  EXPECT_TRUE(holder(*other).held());
  EXPECT_EQ(owner->error_of(wire::Opcode::disk_release, release), Errc::ok);
  EXPECT_FALSE(holder(*other).held());
}

TEST_F(ServiceDisk, ProcessOfThisHostThatEndsGivesUpItsLeasesAtOnce) {
  const auto owner = client("owner");
  const auto asker = client("asker");
  pass_grace();
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  owner->kill();
  EXPECT_FALSE(holder(*asker).held());
}

// It may go on answering reads from what it has, as long as it believes in its lease (C3).
TEST_F(ServiceDisk, ProcessOfThisHostThatOnlyLostItsConnectionKeepsItsLeaseForTheTerm) {
  const auto owner = client("owner");
  const auto asker = client("asker");
  pass_grace();
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  owner->disconnect();
  EXPECT_TRUE(holder(*asker).held());
  machine_.world.run_for(kLease);
  EXPECT_FALSE(holder(*asker).held());
}

// Who takes the next epoch looks for holders behind its change of the record: one that registers
// meanwhile is found, or refused.
TEST_F(ServiceDisk, C3_hold_is_registered_before_the_record_is_believed) {
  const auto owner = client("owner");
  Random random(1);
  meta::MemChances slow;
  slow.delay_most = std::chrono::milliseconds(10);
  machine_.node_meta().set_chances(slow, random);
  pb::DiskHoldRequest request;
  wire::put_id(*request.mutable_disk(), kDisk);
  request.set_epoch(1);
  const TimePoint deadline = machine_.world.now() + kLease;
  sim::Running<Result<wire::Frame>> answer(
      owner->process(),
      owner->peer().call(wire::Opcode::disk_hold, wire::serialize(request), {}, false, deadline));
  const auto is_registered = [&] { return machine_.node().leases().find(kDisk).has_value(); };
  ASSERT_TRUE(machine_.world.run_until(is_registered, kLease));
  put_disk(2);
  ASSERT_TRUE(answer.wait(kLease));
  ASSERT_FALSE(answer.outcome());
  EXPECT_EQ(answer.outcome().error(), Errc::stale_token);
  EXPECT_FALSE(is_registered());
}

TEST_F(ServiceDisk, NetworkSessionThatEndsKeepsItsLeaseForTheTerm) {
  machine_.stop();
  machine_.options.serve_network_peers = true;
  machine_.start_well();
  machine_.next_client.same_host = false;
  const auto owner = client("owner");
  const auto asker = client("asker");
  pass_grace();
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  owner->disconnect();
  EXPECT_TRUE(holder(*asker).held());
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, info_call()), Errc::unavailable);
  machine_.world.run_for(kLease);
  EXPECT_FALSE(holder(*asker).held());
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, info_call()), Errc::not_owner);
}

TEST_F(ServiceDisk, AnyFrameRenewsAndSilenceEndsTheLease) {
  const auto owner = client("owner");
  const auto asker = client("asker");
  pass_grace();
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  for (int i = 0; i < 4; ++i) {
    machine_.world.run_for(kLease / 2);
    ASSERT_EQ(owner->error_of(wire::Opcode::ping, pb::NodeStatusRequest()), Errc::ok);
  }
  EXPECT_TRUE(holder(*asker).held());
  machine_.world.run_for(kLease + std::chrono::milliseconds(1));
  EXPECT_FALSE(holder(*asker).held());
  // It was only asleep, but somebody was told that nobody holds the disk: it has to look at the
  // record before it has it back.
  ASSERT_EQ(owner->error_of(wire::Opcode::ping, pb::NodeStatusRequest()), Errc::ok);
  EXPECT_FALSE(holder(*asker).held());
  EXPECT_EQ(lost(*owner), 1);
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  EXPECT_TRUE(holder(*asker).held());
}

TEST_F(ServiceDisk, R17_restarted_node_gives_recorded_holders_one_full_term) {
  const auto owner = client("owner");
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  machine_.kill();
  machine_.start_well();
  const auto asker = client("asker");
  const auto unknown = holder(*asker);
  EXPECT_TRUE(unknown.held());
  EXPECT_EQ(unknown.session(), 0U);
  EXPECT_EQ(unknown.epoch(), 1U);
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, info_call()), Errc::unavailable);
  // A holder that comes back has its own again, with a face.
  const auto back = client("owner");
  ASSERT_EQ(hold(*back, 1), Errc::ok);
  EXPECT_EQ(holder(*asker).program(), "owner");
  back->disconnect();
  pass_grace();
  EXPECT_FALSE(holder(*asker).held());
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, info_call()), Errc::not_owner);
}

TEST_F(ServiceDisk, ReleasedDiskIsFreeAlsoRightAfterAStart) {
  auto record = disk_record(kDisk, "a", 3);
  record.set_state(meta::pb::DiskRecord::released);
  machine_.put_meta(meta::disk_key(kDisk), meta::encode(record));
  machine_.kill();
  machine_.start_well();
  const auto asker = client("asker");
  EXPECT_FALSE(holder(*asker).held());
  EXPECT_FALSE(holder(*asker, DiskId{9, 9}).held());
}

TEST_F(ServiceDisk, I9_holder_is_unknown_while_the_catalogue_does_not_answer) {
  machine_.kill();
  machine_.start_well();
  const auto asker = client("asker");
  machine_.node_meta().plan(meta::MemFault::refused);
  pb::DiskHolderRequest request;
  wire::put_id(*request.mutable_disk(), kDisk);
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_holder, request), Errc::unavailable);
}

// ---- the relay ----

Task<net::Answer> answer_info(wire::Frame frame) {
  net::Answer answer;
  const auto request = wire::parse<pb::DiskCallRequest>(frame.control);
  if (!request || !request->has_info()) {
    answer.status = Errc::invalid_argument;
    co_return answer;
  }
  pb::DiskCallReply reply;
  reply.set_size_bytes(12345);
  answer.control = wire::serialize(reply);
  answer.payload = make_blocks(1, 5);
  co_return answer;
}

Task<net::Answer> never_answer(wire::Frame /*frame*/) {
  co_await std::suspend_always();
  co_return net::Answer();
}

TEST_F(ServiceDisk, CallReachesTheHolderAndItsAnswerComesBack) {
  const auto owner = client("owner", answer_info);
  const auto asker = client("asker");
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  const auto frame = asker->raw(wire::Opcode::disk_call, wire::serialize(info_call()));
  ASSERT_TRUE(frame) << to_string(frame.error());
  const auto reply = wire::parse<pb::DiskCallReply>(frame->control);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->size_bytes(), 12345U);
  EXPECT_EQ(frame->payload.size(), kBlockBytes);
}

TEST_F(ServiceDisk, HoldersErrorComesBackAsItIs) {
  const auto owner = client("owner");  // answers everything with unsupported
  const auto asker = client("asker");
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, info_call()), Errc::unsupported);
}

Task<net::Answer> answer_status(Errc status) {
  net::Answer answer;
  answer.status = status;
  co_return answer;
}

/// A snapshot that is gone, a key that is missing: the holder lives, and keeps its disk.
TEST_F(ServiceDisk, HoldersOwnNotFoundLeavesItTheDisk) {
  const auto owner =
      client("owner", [](const wire::Frame& /*frame*/) { return answer_status(Errc::not_found); });
  const auto asker = client("asker");
  pass_grace();
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, info_call()), Errc::not_found);
  EXPECT_TRUE(holder(*asker).held());
}

TEST_F(ServiceDisk, HolderThatGaveTheDiskBackHoldsItNoMore) {
  const auto owner =
      client("owner", [](const wire::Frame& /*frame*/) { return answer_status(Errc::not_owner); });
  const auto asker = client("asker");
  pass_grace();
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, info_call()), Errc::not_owner);
  EXPECT_FALSE(holder(*asker).held());
}

TEST_F(ServiceDisk, CallWithoutAHolderIsNotOwner) {
  const auto asker = client("asker");
  pass_grace();
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, info_call()), Errc::not_owner);
}

TEST_F(ServiceDisk, HolderThatGoesWhileItIsAskedLeavesTheOutcomeUnknown) {
  const auto owner = client("owner", never_answer);
  const auto asker = client("asker");
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  pb::DiskCallRequest cut = info_call();
  cut.mutable_snapshot()->set_name("v1");
  sim::Running<Result<wire::Frame>> call(
      asker->process(), asker->peer().call(wire::Opcode::disk_call, wire::serialize(cut)));
  machine_.world.run_for(std::chrono::seconds(1));
  ASSERT_FALSE(call.ended());
  owner->process().freeze();
  ASSERT_TRUE(call.wait(std::chrono::seconds(10)));
  EXPECT_EQ(call.outcome().error(), Errc::unknown);
}

TEST_F(ServiceDisk, WhatChangesNothingMayBeAskedAgainWhenTheHolderGoes) {
  const auto owner = client("owner", never_answer);
  const auto asker = client("asker");
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  sim::Running<Result<wire::Frame>> call(
      asker->process(), asker->peer().call(wire::Opcode::disk_call, wire::serialize(info_call())));
  machine_.world.run_for(std::chrono::seconds(1));
  ASSERT_FALSE(call.ended());
  owner->process().freeze();
  ASSERT_TRUE(call.wait(std::chrono::seconds(10)));
  EXPECT_EQ(call.outcome().error(), Errc::unavailable);
}

TEST_F(ServiceDisk, SilentHolderIsWaitedForOnlySoLong) {
  const auto owner = client("owner", never_answer);
  const auto asker = client("asker");
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, info_call()), Errc::timed_out);
}

TEST_F(ServiceDisk, CallsUnderWayToOneHolderAreBounded) {
  const auto owner = client("owner", never_answer);
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  // Several askers, because a connection of its own has fewer calls served at once.
  using Call = sim::Running<Result<wire::Frame>>;
  std::vector<std::unique_ptr<Client>> askers;
  std::vector<std::unique_ptr<Call>> calls;
  for (int asker = 0; asker < 8; ++asker) {
    askers.push_back(client("asker"));
    for (int i = 0; i < 60; ++i) {
      calls.push_back(std::make_unique<Call>(
          askers.back()->process(),
          askers.back()->peer().call(wire::Opcode::disk_call, wire::serialize(info_call()))));
    }
  }
  machine_.world.run_for(std::chrono::seconds(2));
  const auto busy = std::count_if(calls.begin(), calls.end(), [](const auto& call) {
    return call->ended() && call->outcome().error() == Errc::busy;
  });
  const auto ended =
      std::count_if(calls.begin(), calls.end(), [](const auto& call) { return call->ended(); });
  EXPECT_EQ(busy, ended);
  EXPECT_EQ(calls.size() - static_cast<std::size_t>(ended), kRelaysMax);
  for (const auto& asker : askers) asker->kill();
}

TEST_F(ServiceDisk, BadCallsAreNotRelayed) {
  const auto owner = client("owner", answer_info);
  const auto asker = client("asker");
  ASSERT_EQ(hold(*owner, 1), Errc::ok);
  pb::DiskCallRequest request;
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, request), Errc::invalid_argument);
  wire::put_id(*request.mutable_disk(), kDisk);
  EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, request), Errc::unsupported);
  for (const std::uint64_t number : kHostileNumbers) {
    request.mutable_read()->set_offset(number);
    request.mutable_read()->set_bytes(static_cast<std::uint32_t>(number));
    EXPECT_EQ(asker->error_of(wire::Opcode::disk_call, request), Errc::invalid_argument);
  }
}

TEST_F(ServiceDisk, EveryEpochIsSurvived) {
  const auto owner = client("owner");
  for (const std::uint64_t number : kHostileNumbers) {
    EXPECT_EQ(hold(*owner, number) == Errc::ok, number == 1) << number;
    pb::DiskReleaseRequest release;
    wire::put_id(*release.mutable_disk(), kDisk);
    release.set_epoch(number);
    EXPECT_EQ(owner->error_of(wire::Opcode::disk_release, release), Errc::ok);
  }
}

}  // namespace
}  // namespace vmstore::storaged::test
