// SPDX-License-Identifier: Apache-2.0
#include "storaged/rights.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "storaged/node.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged {
namespace {

using net::Role;
using wire::Opcode;

constexpr unsigned bit(Role role) {
  return 1U << static_cast<unsigned>(role);
}
constexpr unsigned kNode = bit(Role::node);
constexpr unsigned kAdmin = bit(Role::admin);
constexpr unsigned kClient = bit(Role::client);
constexpr unsigned kReadOnly = bit(Role::read_only);
constexpr unsigned kAll = kNode | kAdmin | kClient | kReadOnly;

struct Right {
  Opcode opcode;
  unsigned roles;
};

/// A node copies and repairs keys and looks at the catalogue; it never changes the catalogue
/// through another node.
constexpr std::array kRights{
    Right{Opcode::ping, kAll},
    Right{Opcode::key_create, kNode | kAdmin | kClient},
    Right{Opcode::key_append, kNode | kAdmin | kClient},
    Right{Opcode::key_fence, kNode | kAdmin | kClient},
    Right{Opcode::key_seal, kNode | kAdmin | kClient},
    Right{Opcode::key_read, kAll},
    Right{Opcode::key_read_log, kAll},
    Right{Opcode::key_reserve, kNode | kAdmin | kClient},
    Right{Opcode::key_free, kNode | kAdmin | kClient},
    Right{Opcode::key_committed, kNode | kAdmin | kClient},
    Right{Opcode::key_files, kAll},
    Right{Opcode::key_info, kAll},
    Right{Opcode::key_repair, kNode | kAdmin},
    Right{Opcode::key_draw, kNode | kAdmin | kClient},
    Right{Opcode::meta_get, kAll},
    Right{Opcode::meta_txn, kAdmin | kClient},
    Right{Opcode::meta_range, kAll},
    Right{Opcode::meta_watch, kAll},
    Right{Opcode::meta_unwatch, kAll},
    Right{Opcode::meta_backup, kAdmin},
    Right{Opcode::disk_hold, kAdmin | kClient},
    Right{Opcode::disk_release, kAdmin | kClient},
    Right{Opcode::disk_renew, kAdmin | kClient},
    Right{Opcode::disk_holder, kAll},
    Right{Opcode::disk_call, kAll},
    Right{Opcode::node_status, kNode | kAdmin | kReadOnly},
    Right{Opcode::gc_run, kAdmin},
};

const Right* find_right(Opcode opcode) noexcept {
  const auto* const found = std::find_if(
      kRights.begin(), kRights.end(), [&](const Right& right) { return right.opcode == opcode; });
  return found == kRights.end() ? nullptr : found;
}

template <class Message>
Result<void> check_token(const wire::Frame& request) {
  VMS_TRY(const auto message, wire::parse<Message>(request.control));
  if (message.token() != 0) return Errc::permission;  // it would fence
  return success();
}

Result<void> check_draw(const wire::Frame& request) {
  VMS_TRY(const auto message, wire::parse<pb::KeyDrawRequest>(request.control));
  if (message.count() > limits::kKeyRangeSize) return Errc::permission;
  return success();
}

Result<void> check_call(const wire::Frame& request) {
  VMS_TRY(const auto message, wire::parse<pb::DiskCallRequest>(request.control));
  const bool reads = message.has_read() || message.has_info() || message.has_extents();
  if (!reads) return Errc::permission;
  return success();
}

/// The parts of a record that serving a disk changes, taken out: what is left makes the disk. A
/// field that this list does not know stays as it is.
meta::pb::DiskRecord without_service(meta::pb::DiskRecord record) {
  record.clear_size_bytes();  // a resize of a disk in use is its holder's
  record.clear_epoch();
  record.clear_state();
  record.clear_writer();
  record.clear_base();
  record.clear_log_from();
  record.clear_open_key();
  record.clear_log_end();
  record.clear_last_sealed();
  record.clear_last_sealed_length();
  record.clear_cut();
  record.clear_key_range_next();
  record.clear_key_range_first();
  record.clear_last_sequence();
  record.clear_open_blocks();
  record.clear_token_nonce();
  return record;
}

Result<void> check_record(std::string_view before, std::string_view after) {
  VMS_TRY(auto old_record, meta::decode<meta::pb::DiskRecord>(before));
  VMS_TRY(auto new_record, meta::decode<meta::pb::DiskRecord>(after));
  const bool epoch_stays_or_rises = new_record.epoch() >= old_record.epoch();
  const bool same = google::protobuf::util::MessageDifferencer::Equals(
      without_service(std::move(old_record)), without_service(std::move(new_record)));
  if (!same || !epoch_stays_or_rises) return Errc::permission;
  return success();
}

/// The key of the disk whose record or snapshot a client may put so, or whose snapshot it may
/// remove.
Result<std::string> disk_touched_by(const meta::Op& op) {
  const std::string_view key = op.key;
  if (key.starts_with(meta::kDiskPrefix) && op.put) return op.key;
  if (!key.starts_with(meta::kSnapPrefix)) return Errc::permission;
  const std::string_view rest = key.substr(meta::kSnapPrefix.size());
  const auto id = DiskId::parse(rest.substr(0, rest.find('/')));
  if (!id) return Errc::invalid_argument;
  return meta::disk_key(*id);
}

}  // namespace

std::optional<Role> role_of(const net::PeerCredentials& peer, const NodeOptions& options) {
  if (peer.certificate) return peer.certificate->role;
  if (!peer.same_host)
    return options.serve_network_peers ? std::optional(Role::admin) : std::nullopt;
  const bool is_ours = peer.uid == 0 || peer.uid == options.own_uid;
  return is_ours ? std::optional(Role::admin) : std::nullopt;
}

bool is_known(Opcode opcode) noexcept {
  return find_right(opcode) != nullptr;
}

bool may_ask(Role role, Opcode opcode) noexcept {
  const Right* const right = find_right(opcode);
  return right != nullptr && (right->roles & bit(role)) != 0;
}

Result<void> check_request(Role role, const wire::Frame& request) {
  // More at once is for who puts a backup back: of 2^33 numbers 131,072 such draws take all.
  if (role == Role::client && request.header.opcode == Opcode::key_draw) return check_draw(request);
  if (role != Role::read_only) return success();
  switch (request.header.opcode) {
    case Opcode::key_read:
      return check_token<pb::KeyReadRequest>(request);
    case Opcode::key_read_log:
      return check_token<pb::KeyReadLogRequest>(request);
    case Opcode::disk_call:
      return check_call(request);
    default:
      return success();
  }
}

Task<Result<meta::Txn>> narrow_for_client(meta::MetaStore& store,
                                          meta::Txn txn,
                                          std::vector<std::string> disks) {
  // A compare added here that fails would let them happen.
  if (!txn.else_ops.empty()) co_return Errc::permission;
  std::vector<meta::Compare> compares;
  for (const meta::Op& op : txn.then_ops) {
    VMS_CO_TRY(std::string disk, disk_touched_by(op));
    const auto found = co_await store.get(disk);
    if (!found) co_return found.error();
    if (!found->entry) co_return Errc::permission;
    const std::string& now = found->entry->value;
    VMS_CO_TRY(const auto record, meta::decode<meta::pb::DiskRecord>(now));
    if (!net::is_for_disk(disks, record.name())) co_return Errc::permission;
    if (disk == op.key) VMS_CO_CHECK(check_record(now, *op.put));
    compares.push_back(meta::Compare{std::move(disk), found->entry->mod_revision});
  }
  txn.compares.insert(txn.compares.end(), compares.begin(), compares.end());
  co_return std::move(txn);
}

}  // namespace vmstore::storaged
