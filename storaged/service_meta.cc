// SPDX-License-Identifier: Apache-2.0
// meta_*: the metadata API of the node.
//
// Invariants: clients write only what is theirs (disks, names, snapshots, trash, the key counter),
// and only values that decode; the key counter never goes back, or keys would be used twice; an
// answer never outgrows a frame.
#include <algorithm>
#include <optional>
#include <utility>

#include "base/limits.h"
#include "base/units.h"
#include "meta/records.h"
#include "meta/request_check.h"
#include "meta/schema.h"
#include "storaged/node.h"
#include "storaged/rights.h"
#include "storaged/service.h"
#include "storaged/session.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kIdChars = 32;

bool is_key_or_prefix(std::string_view text) noexcept {
  return !text.empty() && text.front() == '/' && text.size() <= limits::kMetaKeyBytesMax;
}

/// `text` is a disk id in hex, and that of `record`.
template <class Record>
bool names_disk(std::string_view text, const Record& record_id) {
  const auto id = DiskId::parse(text);
  return id && *id == meta::from_pb<DiskId>(record_id);
}

Result<void> check_disk(std::string_view id, std::string_view value) {
  VMS_TRY(const auto record, meta::decode<meta::pb::DiskRecord>(value));
  if (!names_disk(id, record.id())) return Errc::invalid_argument;
  return success();
}

Result<void> check_snapshot(std::string_view rest, std::string_view value) {
  if (rest.size() < kIdChars + 2 || rest[kIdChars] != '/') return Errc::invalid_argument;
  VMS_TRY(const auto record, meta::decode<meta::pb::SnapshotRecord>(value));
  const std::string_view name = rest.substr(kIdChars + 1);
  const bool fits = names_disk(rest.substr(0, kIdChars), record.disk()) &&
                    is_valid_name_part(name) && record.name() == name;
  if (!fits) return Errc::invalid_argument;
  return success();
}

/// A change a client may make. Removing needs a key of a known kind, putting also a good value.
Result<void> check_op(const pb::MetaOp& op) {
  if (!is_key_or_prefix(op.key())) return Errc::invalid_argument;
  const bool puts = op.what_case() == pb::MetaOp::kPut;
  if (!puts && !op.remove()) return Errc::invalid_argument;
  if (op.put().size() > limits::kMetaValueBytesMax) return Errc::invalid_argument;
  const std::string_view key = op.key();
  const auto rest_after = [key](std::string_view prefix) -> std::optional<std::string_view> {
    if (!key.starts_with(prefix)) return std::nullopt;
    return key.substr(prefix.size());
  };
  if (const auto rest = rest_after(meta::kDiskPrefix)) {
    return puts ? check_disk(*rest, op.put()) : success();
  }
  if (const auto rest = rest_after(meta::kTrashPrefix)) {
    return puts ? check_disk(*rest, op.put()) : success();
  }
  if (const auto rest = rest_after(meta::kSnapPrefix)) {
    return puts ? check_snapshot(*rest, op.put()) : success();
  }
  if (const auto rest = rest_after(meta::kTrashSnapPrefix)) {
    return puts ? check_snapshot(*rest, op.put()) : success();
  }
  if (const auto rest = rest_after(meta::kNamePrefix)) {
    if (!puts) return success();
    if (!is_valid_disk_name(*rest)) return Errc::invalid_argument;
    const auto id = meta::decode_id<DiskId>(op.put());
    if (!id) return id.error();
    return success();
  }
  return Errc::permission;  // the store's own: /store, /node/, /gc, the counter, what is unknown
}

Result<meta::Compare> get_compare(const pb::MetaCompare& message) {
  if (!is_key_or_prefix(message.key())) return Errc::invalid_argument;
  meta::Compare compare;
  compare.key = message.key();
  switch (message.what_case()) {
    case pb::MetaCompare::kModRevision:
      compare.what = message.mod_revision();
      return compare;
    case pb::MetaCompare::kValue:
      if (message.value().size() > limits::kMetaValueBytesMax) return Errc::invalid_argument;
      compare.what = message.value();
      return compare;
    case pb::MetaCompare::kExists:
      compare.what = message.exists();
      return compare;
    case pb::MetaCompare::WHAT_NOT_SET:
      break;
  }
  return Errc::invalid_argument;
}

Result<std::vector<meta::Op>> get_ops(
    const google::protobuf::RepeatedPtrField<pb::MetaOp>& messages) {
  if (static_cast<std::size_t>(messages.size()) > limits::kMetaTxnOpsMax) {
    return Errc::invalid_argument;
  }
  std::vector<meta::Op> ops;
  for (const auto& message : messages) {
    VMS_CHECK(check_op(message));
    meta::Op op;
    op.key = message.key();
    if (message.what_case() == pb::MetaOp::kPut) op.put = message.put();
    ops.push_back(std::move(op));
  }
  return ops;
}

Result<meta::Txn> get_txn(const pb::MetaTxnRequest& message) {
  if (static_cast<std::size_t>(message.compares_size()) > limits::kMetaTxnOpsMax) {
    return Errc::invalid_argument;
  }
  meta::Txn txn;
  for (const auto& compare : message.compares()) {
    VMS_TRY(auto checked, get_compare(compare));
    txn.compares.push_back(std::move(checked));
  }
  VMS_TRY(txn.then_ops, get_ops(message.then_ops()));
  VMS_TRY(txn.else_ops, get_ops(message.else_ops()));
  return txn;
}

/// What records name must be there: a collection follows it, and ends where it is not.
Task<Result<void>> check_names(Node& node, const std::vector<meta::Op>& ops) {
  for (const meta::Op& op : ops) {
    if (!op.put) continue;
    const std::string_view key = op.key;
    if (key.starts_with(meta::kDiskPrefix) || key.starts_with(meta::kTrashPrefix)) {
      VMS_CO_TRY(auto disk, meta::decode<meta::pb::DiskRecord>(*op.put));
      VMS_CO_CHECK(co_await node.names().check_disk(std::move(disk)));
    }
    if (key.starts_with(meta::kSnapPrefix) || key.starts_with(meta::kTrashSnapPrefix)) {
      VMS_CO_TRY(auto snapshot, meta::decode<meta::pb::SnapshotRecord>(*op.put));
      VMS_CO_CHECK(co_await node.names().check_snapshot(std::move(snapshot)));
    }
  }
  co_return success();
}

void put_entry(pb::MetaEntry& out, meta::Entry& entry) {
  out.set_key(std::move(entry.key));
  out.set_value(std::move(entry.value));
  out.set_mod_revision(entry.mod_revision);
}

/// The store bounds its answers (limits::kMetaRangeBytesMax), so they fit a frame.
template <class Reply>
void put_range(Reply& reply, meta::RangeAnswer& found) {
  for (meta::Entry& entry : found.entries) put_entry(*reply.add_entries(), entry);
  reply.set_more(found.more);
  reply.set_revision(found.revision);
}

// ---- verbs ----

Task<net::Answer> get(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::MetaGetRequest>(request.control));
  if (!is_key_or_prefix(message.key())) co_return refuse(Errc::invalid_argument);
  VMS_ANSWER_TRY(auto found, co_await node.meta().get(message.key()));
  pb::MetaGetReply reply;
  reply.set_found(found.entry.has_value());
  reply.set_revision(found.revision);
  if (found.entry) put_entry(*reply.mutable_entry(), *found.entry);
  co_return answer_with(reply);
}

Task<net::Answer> txn(Node& node, Session& session, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::MetaTxnRequest>(request.control));
  VMS_ANSWER_TRY(auto wanted, get_txn(message));
  if (session.role() != net::Role::admin) {
    std::vector<std::string> disks = session.disks().patterns();
    VMS_ANSWER_TRY(wanted,
                   co_await narrow_for_client(node.meta(), std::move(wanted), std::move(disks)));
  }
  VMS_ANSWER_CHECK(co_await check_names(node, wanted.then_ops));
  VMS_ANSWER_CHECK(co_await check_names(node, wanted.else_ops));
  VMS_ANSWER_TRY(const auto outcome, co_await node.meta().txn(std::move(wanted)));
  pb::MetaTxnReply reply;
  reply.set_held(outcome.held);
  reply.set_revision(outcome.revision);
  co_return answer_with(reply);
}

Task<net::Answer> range(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::MetaRangeRequest>(request.control));
  if (!is_key_or_prefix(message.prefix()) || message.after().size() > limits::kMetaKeyBytesMax) {
    co_return refuse(Errc::invalid_argument);
  }
  constexpr auto kMost = static_cast<std::uint32_t>(limits::kMetaRangeMax);
  meta::RangeRequest wanted;
  wanted.prefix = message.prefix();
  wanted.after = message.after();
  wanted.limit = message.limit() == 0 ? kMost : std::min(message.limit(), kMost);
  wanted.revision = message.revision();
  VMS_ANSWER_TRY(auto found, co_await node.meta().range(std::move(wanted)));
  pb::MetaRangeReply reply;
  put_range(reply, found);
  co_return answer_with(reply);
}

Task<net::Answer> watch(Session& session, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::MetaWatchRequest>(request.control));
  if (!is_key_or_prefix(message.prefix())) co_return refuse(Errc::invalid_argument);
  VMS_ANSWER_TRY(const std::uint64_t number,
                 co_await session.start_watch(message.prefix(), message.from_revision()));
  pb::MetaWatchReply reply;
  reply.set_watch(number);
  reply.set_revision(message.from_revision());
  co_return answer_with(reply);
}

Task<net::Answer> unwatch(Session& session, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::MetaUnwatchRequest>(request.control));
  session.end_watch(message.watch());
  co_return answer_with(pb::MetaUnwatchReply());
}

/// Everything, page by page. Each page is of its own revision; a caller that gets two different
/// ones begins again.
Task<net::Answer> backup(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::MetaBackupRequest>(request.control));
  if (message.after().size() > limits::kMetaKeyBytesMax) co_return refuse(Errc::invalid_argument);
  meta::RangeRequest wanted;
  wanted.prefix = "/";
  wanted.after = message.after();
  wanted.limit = static_cast<std::uint32_t>(limits::kMetaRangeMax);
  VMS_ANSWER_TRY(auto found, co_await node.meta().range(std::move(wanted)));
  pb::MetaBackupReply reply;
  put_range(reply, found);
  co_return answer_with(reply);
}

}  // namespace

Task<net::Answer> serve_meta(Node& node, Session& session, wire::Frame request) {
  switch (request.header.opcode) {
    case wire::Opcode::meta_get:
      return get(node, std::move(request));
    case wire::Opcode::meta_txn:
      return txn(node, session, std::move(request));
    case wire::Opcode::meta_range:
      return range(node, std::move(request));
    case wire::Opcode::meta_watch:
      return watch(session, std::move(request));
    case wire::Opcode::meta_unwatch:
      return unwatch(session, std::move(request));
    case wire::Opcode::meta_backup:
      return backup(node, std::move(request));
    default:
      return refused(Errc::unsupported);
  }
}

}  // namespace vmstore::storaged
