// SPDX-License-Identifier: Apache-2.0
#include "storaged/journal_scan.h"

#include <algorithm>
#include <optional>

#include "base/log.h"

namespace vmstore::storaged {
namespace {

bool is_absent(const Error& error) {
  return error == Errc::not_found || error == Errc::corrupt;
}

}  // namespace

JournalScan::JournalScan(File& file, const RingHead& head)
    : file_(file), head_(head), window_(limits::kJournalGroupBytesMax) {}

Result<ByteSpan> JournalScan::view(std::uint64_t offset, std::uint64_t bytes) {
  bytes = std::min(bytes, head_.file_bytes - offset);
  const bool inside = offset >= window_offset_ && offset + bytes <= window_offset_ + window_bytes_;
  if (!inside) {
    const auto wanted = std::min<std::uint64_t>(window_.size(), head_.file_bytes - offset);
    window_bytes_ = 0;
    VMS_TRY(const auto got, file_.read(offset, window_.bytes().first(wanted)));
    if (got != wanted) return Errc::io_error;  // the ring was made with its full size
    window_offset_ = offset;
    window_bytes_ = wanted;
  }
  return ByteSpan(window_.bytes().subspan(offset - window_offset_, bytes));
}

Result<DecodedGroup> JournalScan::group_at(std::uint64_t offset, std::uint64_t number) {
  if (offset + kJournalUnitBytes > head_.file_bytes) return Errc::not_found;
  VMS_TRY(const ByteSpan unit, view(offset, kJournalUnitBytes));
  VMS_TRY(const GroupPeek peek, peek_group(unit));
  if (peek.number != number) return Errc::not_found;
  if (offset + peek.bytes > head_.file_bytes) return Errc::corrupt;
  VMS_TRY(const ByteSpan bytes, view(offset, peek.bytes));
  return decode_group(bytes);
}

Result<DecodedGroup> JournalScan::find_group(std::uint64_t* offset, std::uint64_t number) {
  auto group = group_at(*offset, number);
  if (group || !is_absent(group.error()) || *offset == kRingStart) return group;
  auto wrapped = group_at(kRingStart, number);
  if (!wrapped && !is_absent(wrapped.error())) return wrapped.error();
  if (!wrapped || *offset + wrapped->bytes <= head_.file_bytes) return group.error();
  *offset = kRingStart;
  return wrapped;
}

Result<GroupPlace> JournalScan::search_above(std::uint64_t number) {
  std::optional<GroupPlace> lowest;
  for (std::uint64_t offset = kRingStart; offset < head_.file_bytes; offset += kJournalUnitBytes) {
    VMS_TRY(const ByteSpan unit, view(offset, kJournalUnitBytes));
    const auto peek = peek_group(unit);
    if (!peek && !is_absent(peek.error())) return peek.error();
    if (!peek || peek->number <= number) continue;
    if (!lowest || peek->number < lowest->number) {
      lowest = GroupPlace{offset, peek->number, peek->bytes};
    }
  }
  if (!lowest) return Errc::not_found;
  return *lowest;
}

void JournalScan::take(JournalContent& content,
                       std::uint64_t offset,
                       const DecodedGroup& group) const {
  for (const DecodedEntry& entry : group.entries) {
    if (!entry.body_ok) {
      VMS_LOG(error,
              "journal",
              "group " << group.number << ": the entry of key " << entry.fields.key.hex()
                       << " is damaged");
      content.damaged_keys.insert(entry.fields.key);
    } else if (entry.fields.kind == EntryKind::remove) {
      content.removed_keys.insert(entry.fields.key);
    }
  }
  content.groups.push_back({offset, group.number, group.bytes});
  content.end_offset = offset + group.bytes;
  content.next_number = group.number + 1;
}

Result<void> JournalScan::step_over(JournalContent& content) {
  VMS_TRY(const GroupPlace above, search_above(content.next_number));
  const auto next = group_at(above.offset, above.number);
  if (!next && !is_absent(next.error())) return next.error();
  if (!next || above.number != content.next_number + 1) {
    VMS_LOG(error,
            "journal",
            "group " << content.next_number << " is damaged, group " << above.number
                     << " lies behind it, and what was lost "
                     << "cannot be told");
    return Errc::corrupt;
  }
  VMS_LOG(error,
          "journal",
          "group " << content.next_number
                   << " is damaged; keys touched: " << next->previous_keys.size());
  content.damaged_keys.insert(next->previous_keys.begin(), next->previous_keys.end());
  content.end_offset = above.offset;
  content.next_number = above.number;
  return success();
}

Result<JournalContent> JournalScan::run() {
  JournalContent content;
  content.end_offset = head_.tail_offset;
  content.next_number = head_.tail_number;
  for (;;) {
    std::uint64_t offset = content.end_offset;
    const auto group = find_group(&offset, content.next_number);
    if (!group && !is_absent(group.error())) return group.error();
    if (group && group->complete()) {
      take(content, offset, *group);
      continue;
    }
    if (group) {  // the directory is whole, a body is not
      const auto above = search_above(group->number);
      if (above) {
        take(content, offset, *group);
        continue;
      }
      if (above.error() != Errc::not_found) return above.error();
      break;
    }
    const auto stepped = step_over(content);
    if (stepped) continue;
    if (stepped.error() == Errc::not_found) break;
    return stepped.error();
  }
  ++content.next_number;  // a torn group may have left its number behind
  return content;
}

Result<DecodedGroup> JournalScan::read_group(const GroupPlace& place) {
  auto group = group_at(place.offset, place.number);
  if (!group && group.error() == Errc::not_found) return Errc::corrupt;
  return group;
}

}  // namespace vmstore::storaged
