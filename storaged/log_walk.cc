// SPDX-License-Identifier: Apache-2.0
#include "storaged/log_walk.h"

#include <algorithm>
#include <utility>

namespace vmstore::storaged {
namespace {

constexpr std::uint64_t kWindowBytes = limits::kMiB;

}  // namespace

Result<ByteSpan> LogWalk::view(std::uint64_t offset) {
  const std::uint64_t left = log_bytes_ - offset;
  const std::uint64_t wanted = std::min(left, limits::kRecordHeaderBytesMax);
  if (offset < window_offset_ || offset + wanted > window_offset_ + window_.size()) {
    window_.resize(std::min(left, kWindowBytes));
    window_offset_ = offset;
    const auto read = files_.read_log(offset, window_);
    if (!read) {
      window_.clear();
      return read.error();
    }
  }
  return ByteSpan(window_).subspan(offset - window_offset_, wanted);
}

Result<std::optional<LogWalk::Step>> LogWalk::next() {
  if (at_.log_bytes >= log_bytes_) return std::optional<Step>();
  VMS_TRY(const ByteSpan bytes, view(at_.log_bytes));
  auto decoded = wire::decode_record(bytes);
  if (!decoded) {
    const bool newer = decoded.error() == Errc::newer_format;
    return newer ? decoded.error() : Error(Errc::corrupt);
  }
  const bool first = at_.log_bytes == 0;
  Step step;
  step.record = std::move(decoded->header);
  step.log_offset = at_.log_bytes;
  if (first != (step.record.kind == wire::RecordKind::key_header)) return Errc::corrupt;
  if (first) {
    at_.last_sequence = Sequence(step.record.sequence.value - 1);
  } else {
    if (step.record.sequence != at_.last_sequence.next()) return Errc::corrupt;
    if (step.record.data_offset != at_.blocks) return Errc::corrupt;
    at_.last_sequence = step.record.sequence;
    at_.blocks.value += step.record.block_count();
  }
  at_.log_bytes += decoded->bytes;
  step.end = at_;
  return std::optional<Step>(std::move(step));
}

Result<LogWalk::Step> find_record_end(KeyFiles& files, std::uint64_t log_bytes, Sequence sequence) {
  LogWalk walk(files, log_bytes);
  for (;;) {
    VMS_TRY(auto step, walk.next());
    if (!step || step->end.last_sequence > sequence) return Errc::wrong_offset;
    if (step->end.last_sequence == sequence) return std::move(*step);
  }
}

}  // namespace vmstore::storaged
