// SPDX-License-Identifier: Apache-2.0
// Appends: checked, placed, written, and answered when nothing before them in their key is missing.
// Steps of docs/protocol/ownership.pml: take_append; journal.pml: arrivals.
#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/fault.h"
#include "base/log.h"
#include "storaged/block_store_state.h"

namespace vmstore::storaged {
namespace {

bool sums_match(const wire::Payload& blocks, std::span<const std::uint64_t> sums) {
  std::size_t index = 0;
  for (const ByteSpan piece : blocks.pieces()) {
    for (std::size_t at = 0; at < piece.size(); at += kBlockBytes) {
      if (block_sum(piece.subspan(at, kBlockBytes)) != sums[index++]) return false;
    }
  }
  return true;
}

Result<void> write_checked(KeyFiles& files,
                           BlockIndex first,
                           const wire::Payload& blocks,
                           std::span<const std::uint64_t> sums) {
  if (!sums_match(blocks, sums)) return Errc::corrupt;
  VMS_FAULT("data.before_write");
  VMS_CHECK(files.write_blocks_uncached(first, blocks));
  VMS_FAULT("data.after_write");
  return success();
}

/// `folder`: the file is new, its name must be durable as well; else empty.
Result<void> sync_blocks(Files& folders, KeyFiles& files, const std::string& folder) {
  VMS_FAULT("data.before_sync");
  // First, so that without a descriptor for it nothing of the file was tried.
  if (!folder.empty()) VMS_CHECK(folders.sync_folder(folder));
  VMS_CHECK(files.sync(KeyFileKind::data));
  VMS_FAULT("data.after_sync");
  return success();
}

Result<std::vector<std::byte>> read_log_bytes(KeyFiles& files,
                                              std::uint64_t offset,
                                              std::size_t bytes) {
  std::vector<std::byte> content(bytes);
  VMS_CHECK(files.read_log(offset, content));
  return content;
}

/// While it lives the append may write to the data file. If it has failed meanwhile, no other may
/// be accepted for the same place before this ends.
class Preparing {
 public:
  explicit Preparing(Op& op) : op_(op) { op_.preparing = true; }
  Preparing(const Preparing&) = delete;
  Preparing& operator=(const Preparing&) = delete;
  ~Preparing() {
    op_.preparing = false;
    if (!op_.unwinding) return;
    --op_.key->unwinding;
    op_.key->changed.pulse();
  }

 private:
  Op& op_;
};

class BytesInFlight {
 public:
  BytesInFlight(std::uint64_t& total, std::uint64_t bytes) : total_(total), bytes_(bytes) {
    total_ += bytes_;
  }
  BytesInFlight(const BytesInFlight&) = delete;
  BytesInFlight& operator=(const BytesInFlight&) = delete;
  ~BytesInFlight() { total_ -= bytes_; }

 private:
  std::uint64_t& total_;
  std::uint64_t bytes_;
};

}  // namespace

Result<BlockStore::State::CheckedAppend> BlockStore::State::check_append(
    const AppendRequest& request) const {
  if (request.record.size() > limits::kRecordHeaderBytesMax) return Errc::invalid_argument;
  VMS_TRY(auto decoded, wire::decode_record(request.record));
  CheckedAppend checked;
  checked.record = std::move(decoded.header);
  const wire::RecordHeader& record = checked.record;
  const bool fits = decoded.bytes == request.record.size() && record.key == request.key &&
                    record.sequence == request.sequence && request.sequence.value > 0 &&
                    record.data_offset == request.data_offset && record.epoch <= request.token &&
                    record.kind != wire::RecordKind::key_header &&
                    record.block_count() <= limits::kRecordBlocksMax &&
                    record.block_count() * kBlockBytes == request.blocks.size() &&
                    request.data_offset.value <= BlockIndex::kEnd - record.block_count();
  if (!fits) return Errc::invalid_argument;
  for (const ByteSpan piece : request.blocks.pieces()) {
    if (piece.size() % kBlockBytes != 0) return Errc::invalid_argument;
  }
  checked.small = request.blocks.size() <= limits::kJournalSmallBytesMax;
  if (checked.small && !sums_match(request.blocks, record.block_sums)) return Errc::corrupt;
  return checked;
}

Task<Result<void>> BlockStore::State::sync_data(std::shared_ptr<Key> key,
                                                std::shared_ptr<KeyFiles> opened) {
  // The caller's write has returned: any sync that begins from now on covers it.
  const std::uint64_t ticket = ++key->data_writes;
  while (key->data_writes_synced < ticket) {
    if (key->failed) co_return Errc::io_error;
    if (key->data_syncing) {
      static_cast<void>(co_await key->changed.wait_pulse());
      continue;
    }
    const std::uint64_t covers = key->data_writes;
    const std::string folder = begin_data_sync(*key);
    auto work = [this, &opened, &folder] { return sync_blocks(files, *opened, folder); };
    const auto synced = co_await run_opening(work);
    if (!synced && is_out_of_descriptors(synced.error())) {
      abandon_data_sync(*key);
      co_return synced;
    }
    if (synced) key->data_writes_synced = covers;
    end_data_sync(*key, synced);
  }
  co_return success();
}

std::string BlockStore::State::begin_data_sync(Key& key) {
  key.data_syncing = true;
  return key.names_unsynced ? key_folder(key.id()) : std::string();
}

void BlockStore::State::abandon_data_sync(Key& key) {
  key.data_syncing = false;
  key.changed.pulse();
}

void BlockStore::State::end_data_sync(Key& key, const Result<void>& synced) {
  key.data_syncing = false;
  ++counters.syncs;
  if (synced) key.names_unsynced = false;
  if (!synced) fail_key(key, "its data cannot be synced", synced.error(), Doubt::newest_blocks);
  key.changed.pulse();
}

Task<Result<void>> BlockStore::State::write_large(Op& op, const wire::Payload& blocks) {
  Key& key = *op.key;
  // Alone, one hop does both; else each writes at once and the syncs are shared.
  const bool alone = key.large_writing == 0 && !key.data_syncing;
  ++key.large_writing;
  const std::string folder = alone ? begin_data_sync(key) : std::string();
  Result<void> synced = Errc::busy;  // not tried
  auto work = [&]() -> Result<void> {
    VMS_CHECK(write_checked(*op.files, op.fields.place.blocks, blocks, op.sums));
    if (alone) synced = sync_blocks(files, *op.files, folder);
    return success();
  };
  const auto written = co_await run_on(pool, scheduler, work);
  --key.large_writing;
  const bool not_tried = !written || (!synced && is_out_of_descriptors(synced.error()));
  if (alone && !not_tried) end_data_sync(key, synced);
  if (alone && not_tried) abandon_data_sync(key);
  if (!written) {
    // Of one that ended already, with the key or with an append before it, nothing is missed.
    const bool harmless =
        op.ended || written.error() == Errc::corrupt || written.error() == Errc::no_space;
    if (!harmless) {
      fail_key(key, "its data cannot be written", written.error(), Doubt::newest_blocks);
    }
    co_return written.error();
  }
  if (op.ended) co_return op.result;  // an append before it failed
  if (alone && !not_tried) co_return synced;
  co_return co_await sync_data(op.key, op.files);
}

Task<Result<void>> BlockStore::State::prepare_append(Op& op, const wire::Payload& blocks) {
  const Preparing preparing(op);
  VMS_CO_TRY(op.files, co_await files_of(op.key));
  if (op.key->state.damaged) co_return Errc::unknown;
  if (!has_space(*op.key, op.end)) {
    Key::Allocated ends;
    ends.data = op.end.blocks.value * kBlockBytes;
    ends.log = limits::kLogHeadBytes + op.end.log_bytes;
    ends.sums = op.end.blocks.value * kSumBytes;
    VMS_CO_CHECK(co_await allocate(op.key, op.files, ends, true));
  }
  if (op.ended) co_return op.result;
  if (op.fields.kind == EntryKind::append_header) VMS_CO_CHECK(co_await write_large(op, blocks));
  co_return success();
}

Task<Result<KeyLength>> BlockStore::State::answer_repeated(std::shared_ptr<Key> key,
                                                           const AppendRequest& request) {
  // It may be on its way: an answer is only given for what is durable.
  while (key->state.length.last_sequence < request.sequence) {
    if (key->accepted.last_sequence < request.sequence) co_return Errc::wrong_offset;
    static_cast<void>(co_await key->changed.wait_pulse());
    if (broken) co_return *broken;
    if (key->state.damaged) co_return Errc::unknown;
  }
  const std::uint64_t bytes = request.record.size();
  const KeyLength& length = key->state.length;
  if (request.log_offset > length.log_bytes || bytes > length.log_bytes - request.log_offset) {
    co_return Errc::wrong_offset;
  }
  VMS_CO_TRY(const auto opened, co_await files_of(key));
  auto work = [&opened, &request, bytes] {
    return read_log_bytes(*opened, request.log_offset, bytes);
  };
  VMS_CO_TRY(const auto there, co_await run_on(pool, scheduler, work));
  // The record holds sequence, data offset and the sums of its blocks: equal bytes are the same
  // one.
  if (!std::equal(there.begin(), there.end(), request.record.begin())) co_return Errc::wrong_offset;
  co_return key->state.length;
}

Task<Result<KeyLength>> BlockStore::append(AppendRequest request) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto checked, s.check_append(request));
  VMS_CO_TRY(const auto key, s.find_undamaged(request.key));
  if (checked.record.disk != key->state.disk) co_return Errc::invalid_argument;
  while (key->unwinding > 0) static_cast<void>(co_await key->changed.wait_pulse());
  if (s.broken) co_return *s.broken;
  if (!key->live) co_return Errc::not_found;
  if (key->state.damaged) co_return Errc::unknown;
  // Made by an earlier incarnation of this folder, and so perhaps older than a fence that a
  // takeover believes in on another copy: an owner that was fenced there must not get its answer
  // here [H4].
  if (key->state.incarnation != s.incarnation) co_return Errc::unknown;
  if (request.token < key->token) co_return Errc::stale_token;
  if (request.sequence <= key->accepted.last_sequence) {
    co_return co_await s.answer_repeated(key, request);
  }
  if (key->state.sealed) co_return Errc::sealed;
  if (key->sealing) co_return Errc::busy;
  if (request.sequence != key->accepted.last_sequence.next() ||
      request.log_offset != key->accepted.log_bytes ||
      request.data_offset != key->accepted.blocks) {
    co_return Errc::wrong_offset;
  }
  if (s.append_bytes_in_flight > kAppendBytesInFlightMax) co_return Errc::busy;
  const BytesInFlight in_flight(s.append_bytes_in_flight, request.blocks.size());

  Op op(s.scheduler, key, checked.small ? EntryKind::append : EntryKind::append_header);
  op.fields.token = request.token;
  op.fields.place = key->accepted;
  op.fields.committed = std::min(request.committed, key->state.length.last_sequence);
  op.end = key->accepted;
  op.end.last_sequence = request.sequence;
  op.end.log_bytes += request.record.size();
  op.end.blocks.value += checked.record.block_count();
  op.body = request.record;
  op.sums = checked.record.block_sums;
  if (checked.small) {
    op.blocks = request.blocks.pieces();
    op.payload = &request.blocks;
  }
  key->accepted = op.end;
  key->token = request.token;
  if (checked.small && key->files && State::has_space(*key, op.end)) {
    op.files = key->files;
    op.ready = true;
  }
  s.submit(op);
  if (!op.ready) {
    const auto prepared = co_await s.prepare_append(op, request.blocks);
    if (!prepared) s.fail_from(op, prepared.error());
    if (!op.ended) s.make_ready(op);
  }
  co_await op.done.wait();
  VMS_CO_CHECK(op.result);
  co_return op.end;
}

}  // namespace vmstore::storaged
