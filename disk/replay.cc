// SPDX-License-Identifier: Apache-2.0
#include "disk/replay.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/limits.h"
#include "base/log.h"

namespace vmstore::disk {
namespace {

constexpr std::uint32_t kReadBytes = static_cast<std::uint32_t>(limits::kMiB);
constexpr std::size_t kKeysMax = 1 << 20;

/// A key that the catalogue or a log names must be there: `not_found` is damage (I9).
Error damage_if_absent(const Error& error) noexcept {
  return error == Errc::not_found ? Error(Errc::unknown) : error;
}

/// Reads the records of one key from `offset` up to `end` (log bytes).
class KeyScan {
 public:
  KeyScan(Copies& copies, KeyId key, std::uint64_t offset, std::uint64_t end, Epoch token)
      : copies_(copies), key_(key), offset_(offset), end_(end), token_(token) {}

  [[nodiscard]] Task<Result<void>> run(const RecordVisitor& visitor) {
    while (offset_ < end_) {
      const auto wanted =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(kReadBytes, end_ - offset_));
      auto answer = co_await copies_.read_log(key_, offset_, wanted, token_);
      if (!answer) co_return damage_if_absent(answer.error());
      const Result<std::size_t> used = take_records(answer->bytes.bytes(), visitor);
      if (!used) co_return used.error();
      if (*used == 0) co_return damaged("no whole record");
    }
    if (offset_ != end_) co_return damaged("a record reaches beyond the end");
    co_return success();
  }

 private:
  Error damaged(const char* what) const {
    VMS_LOG(error, "replay", "log of key " << key_.hex() << " at " << offset_ << ": " << what);
    return Errc::unknown;
  }

  [[nodiscard]] Result<std::size_t> take_records(ByteSpan bytes, const RecordVisitor& visitor) {
    std::size_t used = 0;
    while (used < bytes.size()) {
      auto decoded = wire::decode_record(bytes.subspan(used));
      if (!decoded && decoded.error() == Errc::wrong_offset) break;  // cut short: read on from here
      if (!decoded && decoded.error() == Errc::newer_format) return decoded.error();
      if (!decoded && decoded.error() == Errc::unsupported) return decoded.error();
      if (!decoded) return damaged("damaged record");
      ReplayedRecord record;
      record.header = std::move(decoded->header);
      record.bytes = decoded->bytes;
      record.at = {key_, offset_, record.header.sequence};
      if (record.header.key != key_) return damaged("record of another key");
      VMS_CHECK(visitor(record));
      used += record.bytes;
      offset_ += record.bytes;
    }
    return used;
  }

  Copies& copies_;
  KeyId key_;
  std::uint64_t offset_;
  std::uint64_t end_;
  Epoch token_;
};

struct KeyPart {
  KeyId key;
  std::uint64_t end = 0;  // log bytes
};

/// The header record of a key.
Task<Result<wire::RecordHeader>> key_header(Copies& copies, KeyId key) {
  const auto answer = co_await copies.read_log(key, 0, limits::kLogHeadBytes);
  if (!answer) co_return damage_if_absent(answer.error());
  auto decoded = wire::decode_record(answer->bytes.bytes());
  if (!decoded) co_return Errc::unknown;
  if (decoded->header.kind != wire::RecordKind::key_header) co_return Errc::unknown;
  co_return std::move(decoded->header);
}

/// The keys from `from` to `to.key` in order, each with the end of its part of the log.
Task<Result<std::vector<KeyPart>>> parts_between(Copies& copies,
                                                 KeyId from,
                                                 KeyId to,
                                                 std::uint64_t to_end) {
  std::vector<KeyPart> parts;
  KeyPart part;
  part.key = to;
  part.end = to_end;
  while (parts.size() < kKeysMax) {
    parts.push_back(part);
    if (part.key == from) {
      std::reverse(parts.begin(), parts.end());
      co_return parts;
    }
    VMS_CO_TRY(const auto header, co_await key_header(copies, part.key));
    if (header.predecessor.is_none()) break;
    part.key = header.predecessor;
    part.end = header.predecessor_length.log_bytes;
  }
  VMS_LOG(error, "replay", "no way from key " << from.hex() << " to key " << to.hex());
  co_return Errc::unknown;
}

}  // namespace

Task<Result<std::vector<KeyId>>> keys_between(Copies& copies, KeyId from, KeyId to) {
  VMS_CO_TRY(const auto parts, co_await parts_between(copies, from, to, 0));
  std::vector<KeyId> keys;
  for (const KeyPart& part : parts) keys.push_back(part.key);
  co_return keys;
}

Task<Result<void>> visit_log(
    Copies& copies, LogPosition from, LogPosition to, Epoch token, RecordVisitor visitor) {
  VMS_CO_TRY(const auto parts, co_await parts_between(copies, from.key, to.key, to.log_offset));
  Sequence expected = from.sequence;
  const RecordVisitor in_order = [&](const ReplayedRecord& record) -> Result<void> {
    if (record.header.kind == wire::RecordKind::key_header) return success();
    if (record.header.sequence < expected) return success();  // appended again after a roll
    if (record.header.sequence > expected) {
      VMS_LOG(
          error,
          "replay",
          "sequence " << expected.value << " is missing before " << record.header.sequence.value);
      return Errc::unknown;
    }
    expected = expected.next();
    return visitor(record);
  };
  for (const KeyPart& part : parts) {
    const std::uint64_t begin = part.key == from.key ? from.log_offset : 0;
    KeyScan scan(copies, part.key, begin, part.end, token);
    VMS_CO_CHECK(co_await scan.run(in_order));
  }
  if (to.sequence.value != 0 && expected != to.sequence) {
    VMS_LOG(error,
            "replay",
            "log ends at sequence " << expected.value << ", not " << to.sequence.value);
    co_return Errc::unknown;
  }
  co_return success();
}

void apply_runs(const wire::RecordHeader& header, snapshot::RunMap& overlay) {
  std::uint64_t stored = 0;
  for (const wire::Run& run : header.runs) {
    snapshot::Extent extent;
    extent.lbn = run.lbn;
    extent.blocks = run.count;
    switch (run.kind) {
      case wire::RunKind::stored:
        extent.where = snapshot::Where::address;
        extent.place = Address::make(header.key, header.data_offset)->plus(stored).raw();
        stored += run.count;
        break;
      case wire::RunKind::at_address:
        extent.where = snapshot::Where::address;
        extent.place = run.address.raw();
        break;
      case wire::RunKind::zero:
        extent.where = snapshot::Where::zero;
        break;
    }
    overlay.put(extent);
  }
}

Task<Result<ReplayedState>> replay_log(Copies& copies, ReplayRequest request) {
  ReplayedState state;
  state.top = request.top;
  state.disk_bytes = request.disk_bytes;
  state.replay_from = request.from;
  state.last_sequence =
      Sequence(request.from.sequence.value == 0 ? 0 : request.from.sequence.value - 1);
  // Records since the newest root, in order: a root may leave out records that came before it.
  std::vector<ReplayedRecord> pending;
  bool base_overlay_valid = true;
  const RecordVisitor visitor = [&](const ReplayedRecord& record) -> Result<void> {
    state.last_sequence = record.header.sequence;
    if (std::find(state.keys.begin(), state.keys.end(), record.at.key) == state.keys.end()) {
      state.keys.push_back(record.at.key);
    }
    if (record.header.kind == wire::RecordKind::root) {
      state.has_root = true;
      state.root = record.at;
      state.top = record.header.top_page;
      state.replay_from = record.header.replay_from;
      state.disk_bytes = record.header.disk_bytes;  // at replay_from: later resizes are pending
      base_overlay_valid = false;
      std::erase_if(pending, [&](const ReplayedRecord& old) {
        return old.header.sequence < record.header.replay_from.sequence;
      });
    }
    pending.push_back(record);
    pending.back().header.block_sums = {};
    return success();
  };
  VMS_CO_CHECK(co_await visit_log(copies, request.from, request.to, request.token, visitor));
  if (base_overlay_valid) state.overlay = std::move(request.overlay);
  for (const ReplayedRecord& record : pending) {
    state.replay_bytes += record.bytes;
    if (record.header.kind == wire::RecordKind::resize) {
      state.disk_bytes = record.header.disk_bytes;
    }
    if (record.header.kind == wire::RecordKind::data ||
        record.header.kind == wire::RecordKind::resize) {
      apply_runs(record.header, state.overlay);
    }
  }
  co_return state;
}

}  // namespace vmstore::disk
