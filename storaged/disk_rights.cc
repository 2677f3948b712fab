// SPDX-License-Identifier: Apache-2.0
#include "storaged/disk_rights.h"

#include "meta/records.h"
#include "meta/schema.h"
#include "net/certificate_name.h"
#include "storaged/node.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged {
namespace {

using wire::Opcode;

/// The requests that are looked at here; what they do not name they do not change.
bool names_a_disk(Opcode opcode) {
  switch (opcode) {
    case Opcode::key_create:
    case Opcode::key_append:
    case Opcode::key_fence:
    case Opcode::key_seal:
    case Opcode::key_reserve:
    case Opcode::key_free:
    case Opcode::key_committed:
    case Opcode::key_repair:
    case Opcode::disk_hold:
    case Opcode::disk_call:
      return true;
    default:
      return false;
  }
}

template <class Message>
Result<DiskId> named_disk(const wire::Frame& request) {
  VMS_TRY(const auto message, wire::parse<Message>(request.control));
  return wire::get_id<DiskId>(message.disk());
}

template <class Message>
Result<std::uint64_t> named_key(const wire::Frame& request) {
  VMS_TRY(const auto message, wire::parse<Message>(request.control));
  return message.key();
}

}  // namespace

Result<DiskId> DiskRights::disk_of_key(std::uint64_t number) const {
  VMS_TRY(const KeyId key, wire::get_key(number));
  VMS_TRY(const KeyState state, node_.store().info(key));
  return state.disk;
}

Result<DiskId> DiskRights::disk_of(const wire::Frame& request) const {
  Result<std::uint64_t> key = Errc::unsupported;
  switch (request.header.opcode) {
    case Opcode::key_create:
      return named_disk<pb::KeyCreateRequest>(request);
    case Opcode::disk_hold:
      return named_disk<pb::DiskHoldRequest>(request);
    case Opcode::disk_call:
      return named_disk<pb::DiskCallRequest>(request);
    case Opcode::key_append:
      key = named_key<pb::KeyAppendRequest>(request);
      break;
    case Opcode::key_fence:
      key = named_key<pb::KeyFenceRequest>(request);
      break;
    case Opcode::key_seal:
      key = named_key<pb::KeySealRequest>(request);
      break;
    case Opcode::key_reserve:
      key = named_key<pb::KeyReserveRequest>(request);
      break;
    case Opcode::key_free:
      key = named_key<pb::KeyFreeRequest>(request);
      break;
    case Opcode::key_committed:
      key = named_key<pb::KeyCommittedRequest>(request);
      break;
    default:
      return Errc::permission;
  }
  if (!key) return key.error();
  return disk_of_key(*key);
}

Task<Result<void>> DiskRights::check(const wire::Frame& request) {
  if (!are_limited() || !names_a_disk(request.header.opcode)) co_return success();
  VMS_CO_TRY(const DiskId disk, disk_of(request));
  if (passed_.contains(disk)) co_return success();
  VMS_CO_TRY(const auto found, co_await node_.meta().get(meta::disk_key(disk)));
  if (!found.entry) co_return Errc::permission;
  VMS_CO_TRY(const auto record, meta::decode<meta::pb::DiskRecord>(found.entry->value));
  if (!net::is_for_disk(patterns_, record.name())) co_return Errc::permission;
  passed_.insert(disk);
  co_return success();
}

}  // namespace vmstore::storaged
