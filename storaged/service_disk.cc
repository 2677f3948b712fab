// SPDX-License-Identifier: Apache-2.0
// disk_*: who serves a disk, and the relay to that session.
//
// Invariants: a hold is taken only for the epoch that the disk's record has, and is registered
// before the record is read for that: who takes a newer epoch and looks for holders afterwards
// finds it, or it is refused [C3]; "nobody holds it" is
// answered only when that is known: not in the first lease term after a start for a disk whose
// record says that it is held [R17], and not while a lost session's lease still runs.
// Steps of docs/protocol/handover.pml: client, acquire.
#include <chrono>
#include <utility>

#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "storaged/node.h"
#include "storaged/service.h"
#include "storaged/session.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kHoldsMax = 1024;  // disks of one session
constexpr int kRenewMax = 4096;
// Longer than any wait that a holder itself bounds (hand-over, no space); then the caller asks
// again. A snapshot that waits for its pages takes longest.
constexpr std::chrono::seconds kRelayTimeout{60};

template <class Message>
Result<DiskId> get_disk(const Message& message) {
  const auto disk = wire::get_id<DiskId>(message.disk());
  if (disk.is_none()) return Errc::invalid_argument;
  return disk;
}

std::uint32_t to_ms(Duration duration) {
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
  return static_cast<std::uint32_t>(ms);
}

/// The disk's record; `not_found` when there certainly is no such disk.
Task<Result<meta::pb::DiskRecord>> disk_record(Node& node, DiskId disk) {
  VMS_CO_TRY(const auto found, co_await node.meta().get(meta::disk_key(disk)));
  if (!found.entry) co_return Errc::not_found;
  co_return meta::decode<meta::pb::DiskRecord>(found.entry->value);
}

Task<net::Answer> hold(Node& node, Session& session, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::DiskHoldRequest>(request.control));
  VMS_ANSWER_TRY(const DiskId disk, get_disk(message));
  if (message.epoch() == 0) co_return refuse(Errc::invalid_argument);
  VMS_ANSWER_TRY(const auto record, co_await disk_record(node, disk));
  if (record.epoch() > message.epoch()) co_return refuse(Errc::stale_token);
  if (record.epoch() < message.epoch()) co_return refuse(Errc::invalid_argument);
  if (session.is_closed()) co_return refuse(Errc::closing);  // nobody would end the lease
  const Epoch epoch(message.epoch());
  Leases& leases = node.leases();
  if (leases.count(session.id()) >= kHoldsMax) co_return refuse(Errc::busy);
  VMS_ANSWER_CHECK(leases.hold(disk, epoch, session.id(), node.scheduler().now()));
  const auto again = co_await disk_record(node, disk);
  if (!again || again->epoch() != message.epoch()) {
    leases.release(disk, epoch, session.id());
    co_return refuse(again ? Error(Errc::stale_token) : again.error());
  }
  if (session.is_closed()) {
    leases.release(disk, epoch, session.id());
    co_return refuse(Errc::closing);
  }
  pb::DiskHoldReply reply;
  reply.set_lease_ms(to_ms(limits::kLeaseTime));
  co_return answer_with(reply);
}

Task<net::Answer> release(Node& node, Session& session, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::DiskReleaseRequest>(request.control));
  VMS_ANSWER_TRY(const DiskId disk, get_disk(message));
  session.note_garbage(disk, 0);
  node.leases().release(disk, Epoch(message.epoch()), session.id());
  co_return answer_with(pb::DiskReleaseReply());
}

Task<net::Answer> renew(Node& node, Session& session, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::DiskRenewRequest>(request.control));
  if (message.disks_size() > kRenewMax) co_return refuse(Errc::invalid_argument);
  std::vector<DiskId> asked;
  for (const auto& id : message.disks()) asked.push_back(wire::get_id<DiskId>(id));
  // The frame itself renewed the leases: every frame does.
  pb::DiskRenewReply reply;
  for (const DiskId disk : node.leases().lost(session.id(), asked)) {
    wire::put_id(*reply.add_lost(), disk);
  }
  co_return answer_with(reply);
}

/// Somebody whom nobody can reach now may hold the disk for `left` more, unless its record says
/// that it was given back: session 0.
Task<Result<pb::DiskHolderReply>> held_out_of_reach(Node& node, DiskId disk, Duration left) {
  pb::DiskHolderReply reply;
  if (left <= Duration(0)) co_return reply;
  const auto record = co_await disk_record(node, disk);
  if (!record && record.error() == Errc::not_found) co_return reply;
  if (!record) co_return record.error();
  if (record->state() == meta::pb::DiskRecord::released) co_return reply;
  reply.set_held(true);
  reply.set_epoch(record->epoch());
  reply.set_lease_left_ms(to_ms(left));
  co_return reply;
}

/// What is known of a disk that no session is registered for: whoever held it before the node
/// started may be on its way back.
Task<Result<pb::DiskHolderReply>> unregistered(Node& node, DiskId disk) {
  const Duration grace = node.leases().grace_left(node.scheduler().now());
  co_return co_await held_out_of_reach(node, disk, grace);
}

/// What the other nodes know. One that cannot be asked may have the holder's session: until it was
/// silent for a lease's term the disk counts as held.
Task<Result<pb::DiskHolderReply>> ask_peers(Node& node, DiskId disk, NodeId* where) {
  pb::DiskHolderReply reply;
  if (node.is_alone()) co_return reply;
  net::NodePool& peers = *node.peers();
  const std::vector<NodeId> members = peers.members();
  Duration silence_left(0);
  for (const NodeId id : members) {
    if (id == node.identity().node) continue;
    const Duration silent = peers.silent_for(id);
    net::NodeClient* const peer = peers.find(id);
    Result<net::HolderInfo> answer(Errc::unavailable);
    if (peer != nullptr && silent == Duration(0)) answer = co_await peer->holder(disk, true);
    if (answer && answer->held) {
      *where = id;
      reply.set_held(true);
      reply.set_epoch(answer->epoch.value);
      reply.set_session(answer->session.value);
      reply.set_program(answer->program);
      reply.set_pid(answer->pid);
      reply.set_lease_left_ms(to_ms(answer->lease_left));
      if (answer->session.value != 0) co_return reply;  // it can be reached there
    }
    if (!answer) {
      const Duration left = Duration(limits::kLeaseTime) - peers.silent_for(id);
      silence_left = std::max(silence_left, left);
    }
  }
  if (reply.held()) co_return reply;
  co_return co_await held_out_of_reach(node, disk, silence_left);
}

Task<net::Answer> holder(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::DiskHolderRequest>(request.control));
  VMS_ANSWER_TRY(const DiskId disk, get_disk(message));
  const auto held = node.holder(disk);
  if (!held) {
    VMS_ANSWER_TRY(auto reply, co_await unregistered(node, disk));
    if (!message.here_only() && !reply.held()) {
      NodeId where;
      VMS_ANSWER_TRY(reply, co_await ask_peers(node, disk, &where));
    }
    co_return answer_with(reply);
  }
  pb::DiskHolderReply reply;
  reply.set_held(true);
  reply.set_epoch(held->epoch.value);
  reply.set_lease_left_ms(to_ms(node.leases().left(*held, node.scheduler().now())));
  if (const auto session = node.find_session(held->session)) {
    if (!session->is_closed()) reply.set_session(held->session.value);  // else not reachable here
    reply.set_program(session->program());
    reply.set_pid(session->pid());
  }
  co_return answer_with(reply);
}

Result<DiskId> check_call(const pb::DiskCallRequest& message) {
  VMS_TRY(const DiskId disk, get_disk(message));
  if (message.what_case() == pb::DiskCallRequest::WHAT_NOT_SET) return Errc::unsupported;
  if (message.has_read()) {
    const pb::ReadCall& read = message.read();
    const bool fits = read.bytes() != 0 && read.bytes() <= limits::kPayloadBytesMax &&
                      read.offset() <= limits::kDiskBytesMax;
    if (!fits) return Errc::invalid_argument;
  }
  return disk;
}

net::Answer passed_on(wire::Frame frame) {
  net::Answer answer;
  answer.control = std::move(frame.control);
  answer.payload = std::move(frame.payload);
  answer.payload_has_own_sums = frame.header.payload_has_own_sums;
  return answer;
}

/// The holder's session is with another node, if with any.
Task<net::Answer> call_through_peer(Node& node, pb::DiskCallRequest message, DiskId disk) {
  NodeId where;
  VMS_ANSWER_TRY(const auto known, co_await ask_peers(node, disk, &where));
  if (!known.held()) co_return refuse(Errc::not_owner);
  net::NodeClient* const peer = where.is_none() ? nullptr : node.peers()->find(where);
  if (peer == nullptr || known.session() == 0) co_return refuse(Errc::unavailable);
  message.set_here_only(true);
  const TimePoint deadline = node.scheduler().now() + kRelayTimeout;
  auto frame = co_await peer->relay(wire::Opcode::disk_call, wire::serialize(message), deadline);
  if (frame) co_return passed_on(std::move(*frame));
  const bool lost = frame.error() == Errc::disconnected || frame.error() == Errc::timed_out;
  const bool matters = message.has_snapshot() || message.has_resize();
  co_return refuse(lost ? Error(matters ? Errc::unknown : Errc::unavailable) : frame.error());
}

/// Asks the holder and passes its answer on. A holder that is gone before it was asked is
/// `not_owner` (or `unavailable` while its lease runs); one that goes while it is asked may have
/// done what it was asked: `unknown`, unless asking again does no harm, then `unavailable` as well.
Task<net::Answer> call(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::DiskCallRequest>(request.control));
  VMS_ANSWER_TRY(const DiskId disk, check_call(message));
  const auto held = node.holder(disk);
  if (!held) {
    VMS_ANSWER_TRY(const auto known, co_await unregistered(node, disk));
    if (known.held()) co_return refuse(Errc::unavailable);
    if (message.here_only()) co_return refuse(Errc::not_owner);
    co_return co_await call_through_peer(node, message, disk);
  }
  const auto session = node.find_session(held->session);
  if (!session || session->is_closed()) co_return refuse(Errc::unavailable);
  const TimePoint deadline = node.scheduler().now() + kRelayTimeout;
  auto frame = co_await session->ask(wire::Opcode::disk_call, std::move(request.control), deadline);
  if (!frame) {
    const Error error = frame.error();
    // It gave the disk back and its word of that was lost: nobody holds it.
    if (error == Errc::not_owner) node.leases().release(disk, held->epoch, held->session);
    const bool lost = error == Errc::disconnected || error == Errc::closing;
    const bool matters = message.has_snapshot() || message.has_resize();
    co_return refuse(lost ? Error(matters ? Errc::unknown : Errc::unavailable) : error);
  }
  co_return passed_on(std::move(*frame));
}

}  // namespace

Task<net::Answer> serve_disk(Node& node, Session& session, wire::Frame request) {
  switch (request.header.opcode) {
    case wire::Opcode::disk_hold:
      return hold(node, session, std::move(request));
    case wire::Opcode::disk_release:
      return release(node, session, std::move(request));
    case wire::Opcode::disk_renew:
      return renew(node, session, std::move(request));
    case wire::Opcode::disk_holder:
      return holder(node, std::move(request));
    case wire::Opcode::disk_call:
      return call(node, std::move(request));
    default:
      return refused(Errc::unsupported);
  }
}

}  // namespace vmstore::storaged
