// SPDX-License-Identifier: Apache-2.0
// key_*: block files. Each request becomes one call of BlockStore, after every number was checked.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/log.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "storaged/node.h"
#include "storaged/service.h"
#include "storaged/session.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged {
namespace {

constexpr int kFreeRunsMax = 4096;
constexpr std::uint32_t kCopiesMax = 16;
// How far behind the end of a key space may be reserved: a roll is due long before.
constexpr std::uint64_t kReserveAheadBytes = 2 * limits::kKeyRollBytes;
// A token rises by one with each owner; what lies beyond is no token but an attempt to fence a disk
// for ever.
constexpr std::uint64_t kTokenMax = std::uint64_t{1} << 62;

Result<Epoch> get_token(std::uint64_t number) {
  if (number == 0 || number > kTokenMax) return Errc::invalid_argument;
  return Epoch(number);
}

/// Which key, with which token: what most requests begin with.
struct KeyAndToken {
  KeyId key;
  Epoch token;
};
template <class Request>
Result<KeyAndToken> get_key_and_token(const Request& request) {
  VMS_TRY(const KeyId key, wire::get_key(request.key()));
  VMS_TRY(const Epoch token, get_token(request.token()));
  return KeyAndToken{key, token};
}

/// The record a client sent: decodable, whole, and of the key that the request names. That it is of
/// the key's disk, too, is checked where the key is at hand.
Result<wire::RecordHeader> get_record(const std::string& bytes, KeyId key) {
  if (bytes.empty() || bytes.size() > limits::kRecordHeaderBytesMax) return Errc::invalid_argument;
  VMS_TRY(auto decoded, wire::decode_record(as_byte_span(bytes)));
  if (decoded.bytes != bytes.size() || decoded.header.key != key) return Errc::invalid_argument;
  return std::move(decoded.header);
}

std::vector<std::byte> to_bytes(const std::string& text) {
  const ByteSpan bytes = as_byte_span(text);
  return {bytes.begin(), bytes.end()};
}

/// A token is the epoch of its disk's record, which rises first: nobody was ever given a higher
/// one, and it would lock out all who will be. A disk that is gone has no owner.
Task<Result<void>> check_epoch(Node& node, DiskId disk, Epoch token) {
  std::vector<std::string> places;
  places.push_back(meta::disk_key(disk));
  places.push_back(meta::trash_key(disk));
  for (const std::string& place : places) {
    VMS_CO_TRY(const auto entry, co_await read_entry_now(node.meta(), place));
    if (!entry) continue;
    VMS_CO_TRY(const auto record, meta::decode<meta::pb::DiskRecord>(entry->value));
    if (token <= Epoch(record.epoch())) co_return success();
    VMS_LOG(warning,
            "storaged",
            "token " << token.value << " for disk " << disk.hex() << ", whose epoch is "
                     << record.epoch() << ": refused");
    co_return Errc::invalid_argument;
  }
  co_return Errc::stale_token;
}

/// The same before a key is fenced with it. The store knows what to say of a lower one.
Task<Result<void>> check_token(Node& node, KeyId key, Epoch token) {
  VMS_CO_TRY(const KeyState state, node.store().info(key));
  if (token <= state.token) co_return success();
  co_return co_await check_epoch(node, state.disk, token);
}

/// A token with a read fences what is read, as recovery wants it (DESIGN 6 e).
Task<Result<void>> fence_for_read(Node& node, KeyId key, std::uint64_t number) {
  if (number == 0) co_return success();
  VMS_CO_TRY(const Epoch token, get_token(number));
  VMS_CO_TRY(const KeyState state, node.store().info(key));
  if (state.token > token) co_return Errc::stale_token;
  if (state.token == token) co_return success();
  VMS_CO_CHECK(co_await check_epoch(node, state.disk, token));
  const auto fenced = co_await node.store().fence(key, token);
  if (!fenced) co_return fenced.error();
  co_return success();
}

// ---- writing ----

Task<net::Answer> create(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyCreateRequest>(request.control));
  VMS_ANSWER_TRY(const auto which, get_key_and_token(message));
  const auto disk = wire::get_id<DiskId>(message.disk());
  if (disk.is_none() || message.copies() == 0 || message.copies() > kCopiesMax) {
    co_return refuse(Errc::invalid_argument);
  }
  if (!message.domain().empty() || message.shared()) co_return refuse(Errc::unsupported);
  VMS_ANSWER_TRY(const auto header, get_record(message.header_record(), which.key));
  const bool fits = header.kind == wire::RecordKind::key_header && header.disk == disk &&
                    header.epoch == which.token;
  if (!fits) co_return refuse(Errc::invalid_argument);
  VMS_ANSWER_CHECK(node.names().check_key_header(header));
  VMS_ANSWER_CHECK(co_await check_epoch(node, disk, which.token));
  auto record = to_bytes(message.header_record());
  VMS_ANSWER_TRY(
      const KeyState state,
      co_await node.store().create(
          which.key, disk, which.token, std::move(record), message.copies(), message.shared()));
  pb::KeyCreateReply reply;
  wire::put_id(*reply.mutable_incarnation(), state.incarnation);
  wire::put_length(*reply.mutable_length(), state.length);
  co_return answer_with(reply);
}

/// Without grants nothing tells that an older block is still there when a record names it, and
/// garbage collection relies on it that none does (docs/decisions/002-one-node-gc.md).
bool names_older_blocks(const wire::RecordHeader& header) {
  return header.generation != Generation() ||
         std::any_of(header.runs.begin(), header.runs.end(), [](const wire::Run& run) {
           return run.kind == wire::RunKind::at_address;
         });
}

struct Append {
  AppendRequest request;
  Epoch made_by;  // the record's own: older where a takeover completes a copy
};

Result<Append> get_append(const NameCheck& names, wire::Frame& request) {
  VMS_TRY(const auto message, wire::parse<pb::KeyAppendRequest>(request.control));
  VMS_TRY(const auto which, get_key_and_token(message));
  VMS_TRY(const auto header, get_record(message.record(), which.key));
  if (names_older_blocks(header)) return Errc::unsupported;
  AppendRequest append;
  append.key = which.key;
  append.token = which.token;
  append.sequence = Sequence(message.sequence());
  append.log_offset = message.log_offset();
  VMS_TRY(append.data_offset, wire::get_blocks(message.data_offset()));
  append.committed = Sequence(message.committed());
  const bool fits = header.kind != wire::RecordKind::key_header &&
                    header.sequence == append.sequence && header.epoch <= append.token &&
                    header.data_offset == append.data_offset &&
                    header.block_count() * kBlockBytes == request.payload.size() &&
                    append.data_offset.value + header.block_count() <= BlockIndex::kEnd &&
                    append.committed < append.sequence;
  if (!fits) return Errc::invalid_argument;
  VMS_CHECK(names.check_append(header, request.payload));
  append.record = to_bytes(message.record());
  append.blocks = std::move(request.payload);
  return Append{std::move(append), header.epoch};
}

Task<net::Answer> append(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(auto asked, get_append(node.names(), request));
  AppendRequest append = std::move(asked.request);
  // An owner has fenced before: then nothing is waited for, and appends keep their order.
  const auto state = node.store().info(append.key);
  const bool completes = asked.made_by < append.token;
  if (state && completes && append.token != state->token) co_return refuse(Errc::invalid_argument);
  if (state && append.token > state->token) {
    VMS_ANSWER_CHECK(co_await check_epoch(node, state->disk, append.token));
  }
  VMS_ANSWER_TRY(const KeyLength length, co_await node.store().append(std::move(append)));
  // Held back after the commit, so that what is queued behind it keeps its order.
  const Duration delay = node.space().append_delay();
  if (delay > Duration(0)) co_await sleep_for(node.scheduler(), delay);
  pb::KeyAppendReply reply;
  wire::put_length(*reply.mutable_length(), length);
  co_return answer_with(reply);
}

Task<net::Answer> fence(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyFenceRequest>(request.control));
  VMS_ANSWER_TRY(const auto which, get_key_and_token(message));
  VMS_ANSWER_CHECK(co_await check_token(node, which.key, which.token));
  VMS_ANSWER_TRY(const auto fenced, co_await node.store().fence(which.key, which.token));
  pb::KeyFenceReply reply;
  wire::put_length(*reply.mutable_length(), fenced.state.length);
  reply.set_sealed(fenced.state.sealed);
  reply.set_committed(fenced.state.committed.value);
  wire::put_id(*reply.mutable_incarnation(), fenced.state.incarnation);
  reply.set_last_record(std::string(as_text(fenced.last_record)));
  co_return answer_with(reply);
}

Task<net::Answer> seal(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeySealRequest>(request.control));
  VMS_ANSWER_TRY(const auto which, get_key_and_token(message));
  VMS_ANSWER_TRY(const KeyLength wanted, wire::get_length(message.length()));
  VMS_ANSWER_CHECK(co_await check_token(node, which.key, which.token));
  VMS_ANSWER_TRY(const KeyLength length,
                 co_await node.store().seal(which.key, which.token, wanted));
  pb::KeySealReply reply;
  wire::put_length(*reply.mutable_length(), length);
  co_return answer_with(reply);
}

Task<net::Answer> reserve(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyReserveRequest>(request.control));
  VMS_ANSWER_TRY(const auto which, get_key_and_token(message));
  VMS_ANSWER_TRY(const BlockIndex blocks, wire::get_blocks(message.data_blocks()));
  VMS_ANSWER_TRY(const KeyState state, node.store().info(which.key));
  const bool near = blocks.value <= state.length.blocks.value + kReserveAheadBytes / kBlockBytes &&
                    message.log_bytes() <= state.length.log_bytes + kReserveAheadBytes;
  if (!near) co_return refuse(Errc::invalid_argument);
  VMS_ANSWER_TRY(
      const KeyLength granted,
      co_await node.store().reserve(which.key, which.token, blocks, message.log_bytes()));
  pb::KeyReserveReply reply;
  reply.set_data_blocks(granted.blocks.value);
  reply.set_log_bytes(granted.log_bytes);
  co_return answer_with(reply);
}

Task<net::Answer> free_blocks(Node& node, Session& session, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyFreeRequest>(request.control));
  VMS_ANSWER_TRY(const auto which, get_key_and_token(message));
  const auto disk = wire::get_id<DiskId>(message.disk());
  if (disk.is_none() || message.runs_size() == 0 || message.runs_size() > kFreeRunsMax) {
    co_return refuse(Errc::invalid_argument);
  }
  std::vector<BlockRun> runs;
  for (const auto& run : message.runs()) {
    VMS_ANSWER_TRY(const BlockIndex first, wire::get_blocks(run.block()));
    if (run.count() == 0 || run.count() > BlockIndex::kEnd - first.value) {
      co_return refuse(Errc::invalid_argument);
    }
    runs.push_back({first, run.count()});
  }
  VMS_ANSWER_CHECK(
      co_await node.store().free_private(which.key, which.token, disk, std::move(runs)));
  session.note_garbage(disk, message.garbage_blocks());
  node.note_slowed(message.slowed_ns());
  co_return answer_with(pb::KeyFreeReply());
}

Task<net::Answer> committed(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyCommittedRequest>(request.control));
  VMS_ANSWER_TRY(const auto which, get_key_and_token(message));
  node.store().note_committed(which.key, which.token, Sequence(message.committed()));
  co_return answer_with(pb::KeyCommittedReply());
}

// ---- reading ----

Result<std::vector<ReadRangeRequest>> get_ranges(const pb::KeyReadRequest& message) {
  if (message.ranges_size() == 0) return Errc::invalid_argument;
  std::vector<ReadRangeRequest> ranges;
  std::uint64_t blocks = 0;
  for (const auto& range : message.ranges()) {
    const Address address = Address::from_raw(range.address());
    blocks += range.blocks();
    if (range.blocks() == 0 || blocks > limits::kReadBlocksMax) return Errc::invalid_argument;
    if (address.slot() != 0) return Errc::unsupported;
    if (!address.key().is_usable()) return Errc::invalid_argument;
    if (address.block().value + range.blocks() > BlockIndex::kEnd) return Errc::invalid_argument;
    ranges.push_back({address, range.blocks()});
  }
  return ranges;
}

Task<net::Answer> read(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyReadRequest>(request.control));
  VMS_ANSWER_TRY(auto ranges, get_ranges(message));
  for (const ReadRangeRequest& range : ranges) {
    VMS_ANSWER_CHECK(co_await fence_for_read(node, range.address.key(), message.token()));
  }
  VMS_ANSWER_TRY(auto found, co_await node.store().read(std::move(ranges)));
  pb::KeyReadReply reply;
  for (const std::uint64_t sum : found.sums) reply.add_sums(sum);
  net::Answer answer = answer_with(reply);
  answer.payload = std::move(found.payload);
  answer.payload_has_own_sums = true;
  co_return answer;
}

Task<net::Answer> read_log(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyReadLogRequest>(request.control));
  VMS_ANSWER_TRY(const KeyId key, wire::get_key(message.key()));
  if (message.bytes_max() == 0 || message.bytes_max() > limits::kPayloadBytesMax) {
    co_return refuse(Errc::invalid_argument);
  }
  VMS_ANSWER_CHECK(co_await fence_for_read(node, key, message.token()));
  VMS_ANSWER_TRY(auto found,
                 co_await node.store().read_log(key, message.log_offset(), message.bytes_max()));
  pb::KeyReadLogReply reply;
  reply.set_log_bytes(found.log_bytes);
  reply.set_sealed(found.sealed);
  net::Answer answer = answer_with(reply);
  answer.payload = std::move(found.bytes);
  co_return answer;
}

Task<net::Answer> info(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyInfoRequest>(request.control));
  VMS_ANSWER_TRY(const KeyId key, wire::get_key(message.key()));
  VMS_ANSWER_TRY(const auto runs, co_await node.store().present_blocks(key));
  VMS_ANSWER_TRY(const KeyState state, node.store().info(key));
  std::uint64_t blocks = 0;
  for (const BlockRun& run : runs) blocks += run.blocks;
  pb::KeyInfoReply reply;
  wire::put_length(*reply.mutable_length(), state.length);
  reply.set_sealed(state.sealed);
  reply.set_token(state.token.value);
  wire::put_id(*reply.mutable_disk(), state.disk);
  wire::put_id(*reply.mutable_incarnation(), state.incarnation);
  reply.set_shared(state.shared);
  reply.set_copies(state.copies);
  reply.set_data_bytes_allocated(blocks * kBlockBytes);
  reply.set_committed(state.committed.value);
  co_return answer_with(reply);
}

Task<net::Answer> repair(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyRepairRequest>(request.control));
  VMS_ANSWER_TRY(const auto which, get_key_and_token(message));
  RepairRequest wanted;
  wanted.key = which.key;
  wanted.token = which.token;
  wanted.disk = wire::get_id<DiskId>(message.disk());
  wanted.log_offset = message.log_offset();
  wanted.sequence = Sequence(message.sequence());
  wanted.accept_loss = message.accept_loss();
  const bool fits = !wanted.disk.is_none() && wanted.log_offset % 8 == 0 &&
                    (wanted.log_offset == 0) == (message.sequence() == 0);
  if (!fits) co_return refuse(Errc::invalid_argument);
  VMS_ANSWER_CHECK(co_await check_token(node, which.key, which.token));
  VMS_ANSWER_TRY(const auto found, co_await node.store().repair(wanted));
  pb::KeyRepairReply reply;
  reply.set_needed(found.needed);
  wire::put_length(*reply.mutable_known(), found.known);
  wire::put_length(*reply.mutable_kept(), found.kept);
  reply.set_kept_time_ns(static_cast<std::uint64_t>(found.kept_time.time_since_epoch().count()));
  reply.set_cut_path(found.cut_path);
  co_return answer_with(reply);
}

Task<net::Answer> draw(Node& node, Session& session, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyDrawRequest>(request.control));
  const std::uint64_t count = message.count();
  VMS_ANSWER_TRY(const std::uint64_t first, co_await node.numbers().draw(session.draws(), count));
  node.names().note_keys_drawn(first + count);
  pb::KeyDrawReply reply;
  reply.set_first(first);
  co_return answer_with(reply);
}

Task<net::Answer> files(Node& node, Session& session, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::KeyFilesRequest>(request.control));
  VMS_ANSWER_TRY(const KeyId key, wire::get_key(message.key()));
  if (!session.same_host()) co_return refuse(Errc::unsupported);
  VMS_ANSWER_TRY(const auto found, co_await node.store().key_files(key));
  if (found.data_fd < 0 || found.sums_fd < 0) co_return refuse(Errc::unsupported);
  pb::KeyFilesReply reply;
  wire::put_length(*reply.mutable_length(), found.length);
  net::Answer answer = answer_with(reply);
  answer.descriptors.push_back(found.data_fd);
  answer.descriptors.push_back(found.sums_fd);
  // The (empty) payload lives until the answer has left, and with it the descriptors.
  std::vector<ByteSpan> no_bytes;
  answer.payload = wire::Payload(std::move(no_bytes), found.owner);
  co_return answer;
}

}  // namespace

Task<net::Answer> serve_key(Node& node, Session& session, wire::Frame request) {
  switch (request.header.opcode) {
    case wire::Opcode::key_create:
      return create(node, std::move(request));
    case wire::Opcode::key_append:
      return append(node, std::move(request));
    case wire::Opcode::key_fence:
      return fence(node, std::move(request));
    case wire::Opcode::key_seal:
      return seal(node, std::move(request));
    case wire::Opcode::key_read:
      return read(node, std::move(request));
    case wire::Opcode::key_read_log:
      return read_log(node, std::move(request));
    case wire::Opcode::key_reserve:
      return reserve(node, std::move(request));
    case wire::Opcode::key_free:
      return free_blocks(node, session, std::move(request));
    case wire::Opcode::key_committed:
      return committed(node, std::move(request));
    case wire::Opcode::key_files:
      return files(node, session, std::move(request));
    case wire::Opcode::key_info:
      return info(node, std::move(request));
    case wire::Opcode::key_repair:
      return repair(node, std::move(request));
    case wire::Opcode::key_draw:
      return draw(node, session, std::move(request));
    default:
      return refused(Errc::unsupported);
  }
}

}  // namespace vmstore::storaged
