// SPDX-License-Identifier: Apache-2.0
#include "storaged/gc_log.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "base/log.h"

namespace vmstore::storaged {
namespace {

constexpr std::uint32_t kReadBytes = limits::kPayloadBytesMax;
constexpr std::size_t kKeysMax = std::size_t{1} << 20;  // of one log

/// A key that a record or another key names must be there: its absence is damage (I9).
Error damage_if_absent(const Error& error) noexcept {
  return error == Errc::not_found ? Error(Errc::unknown) : error;
}

Error damaged(KeyId key, std::uint64_t offset, const char* what) {
  VMS_LOG(error, "gc", "log of key " << key.hex() << " at " << offset << ": " << what);
  return Errc::unknown;
}

/// Decodes whole records from the start of `bytes`, which lie at `offset` of the key's log; returns
/// how many bytes they take.
Result<std::size_t> take_records(KeyId key,
                                 std::uint64_t offset,
                                 ByteSpan bytes,
                                 const GcRecordVisitor& visitor) {
  std::size_t used = 0;
  while (used < bytes.size()) {
    const auto decoded = wire::decode_record(bytes.subspan(used));
    if (!decoded && decoded.error() == Errc::wrong_offset) break;  // cut short: read on from here
    const bool not_ours =
        !decoded && (decoded.error() == Errc::newer_format || decoded.error() == Errc::unsupported);
    if (not_ours) return decoded.error();
    if (!decoded) return damaged(key, offset + used, "damaged record");
    if (decoded->header.key != key) return damaged(key, offset + used, "record of another key");
    if (decoded->header.kind != wire::RecordKind::key_header) VMS_CHECK(visitor(decoded->header));
    used += decoded->bytes;
  }
  return used;
}

}  // namespace

Task<Result<wire::RecordHeader>> GcLog::key_header(KeyId key) {
  const auto found = co_await store_.read_log(key, 0, limits::kLogHeadBytes);
  if (!found) co_return damage_if_absent(found.error());
  auto decoded = wire::decode_record(found->bytes.bytes());
  if (!decoded || decoded->header.kind != wire::RecordKind::key_header) {
    co_return damaged(key, 0, "no key header");
  }
  co_return std::move(decoded->header);
}

Task<Result<std::vector<LogSpan>>> GcLog::spans(LogPosition from, KeyId last, std::uint64_t end) {
  std::vector<LogSpan> found;
  LogSpan span{last, 0, end};
  while (found.size() < kKeysMax && !stop_) {
    if (span.key == from.key) {
      span.from = from.log_offset;
      if (span.from > span.to) co_return damaged(span.key, span.from, "begins behind its end");
      found.push_back(span);
      std::reverse(found.begin(), found.end());
      co_return found;
    }
    found.push_back(span);
    VMS_CO_TRY(const auto header, co_await key_header(span.key));
    if (header.predecessor.is_none()) break;
    span.key = header.predecessor;
    span.to = header.predecessor_length.log_bytes;
  }
  if (stop_) co_return Errc::interrupted;
  VMS_LOG(error, "gc", "no way from key " << from.key.hex() << " to key " << last.hex());
  co_return Errc::unknown;
}

Task<Result<void>> GcLog::visit(LogSpan span, const GcRecordVisitor& visitor) {
  std::uint64_t offset = span.from;
  while (offset < span.to) {
    if (stop_) co_return Errc::interrupted;
    const std::uint64_t left = span.to - offset;
    const auto wanted = static_cast<std::uint32_t>(std::min<std::uint64_t>(kReadBytes, left));
    const auto found = co_await store_.read_log(span.key, offset, wanted);
    if (!found) co_return damage_if_absent(found.error());
    // What lies behind the span is not asked for: only whole records that end within it count.
    const ByteSpan bytes = found->bytes.bytes();
    const ByteSpan within = bytes.first(std::min<std::size_t>(bytes.size(), wanted));
    VMS_CO_TRY(const std::size_t used, take_records(span.key, offset, within, visitor));
    if (used == 0) co_return damaged(span.key, offset, "no whole record");
    offset += used;
  }
  co_return success();
}

}  // namespace vmstore::storaged
