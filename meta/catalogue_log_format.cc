// SPDX-License-Identifier: Apache-2.0
#include "meta/catalogue_log_format.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/checksum.h"
#include "base/log.h"
#include "meta/request_check.h"

namespace vmstore::meta::log_format {
namespace {

constexpr std::string_view kFileMagic = "VMSCATLG";
constexpr std::uint32_t kGroupMagic = 0x47544143;  // "CATG"
// No byte of it is zero, so that the last piece of a group that was written is never all zero.
constexpr std::uint64_t kGroupTail = 0x646e6570756f7267;  // "groupend"
constexpr std::uint8_t kPut = 1;
constexpr std::uint8_t kRemoved = 2;
constexpr std::size_t kChangeHeadBytes = 16;
constexpr std::size_t kSumBytes = 8;
constexpr std::size_t kPieceBytes = 512;  // what a device writes whole or not at all

struct GroupHead {
  std::uint32_t payload_bytes = 0;
  std::uint64_t number = 0;
  std::uint64_t revision = 0;
  std::uint32_t changes = 0;
  std::uint64_t payload_sum = 0;
};

std::optional<GroupHead> read_head(ByteSpan bytes) {
  if (bytes.size() < kGroupHeadBytes) return std::nullopt;
  ByteReader reader(bytes.first(kGroupHeadBytes));
  GroupHead head;
  if (reader.get<std::uint32_t>() != kGroupMagic) return std::nullopt;
  head.payload_bytes = reader.get<std::uint32_t>();
  head.number = reader.get<std::uint64_t>();
  head.revision = reader.get<std::uint64_t>();
  head.changes = reader.get<std::uint32_t>();
  const auto reserved = reader.get<std::uint32_t>();
  head.payload_sum = reader.get<std::uint64_t>();
  const auto sum = reader.get<std::uint64_t>();
  if (sum != xxh3(bytes.first(kGroupHeadBytes - kSumBytes)) || reserved != 0) return std::nullopt;
  return head;
}

std::size_t group_bytes(const GroupHead& head) {
  return kGroupHeadBytes + std::size_t{head.payload_bytes} + kGroupTailBytes;
}

/// True if the payload is there and is what was written.
bool is_whole(const GroupHead& head, ByteSpan bytes) {
  if (head.payload_bytes > kGroupPayloadMax || bytes.size() < group_bytes(head)) return false;
  const ByteSpan payload = bytes.subspan(kGroupHeadBytes, head.payload_bytes);
  ByteReader tail(bytes.subspan(kGroupHeadBytes + payload.size()));
  return xxh3(payload) == head.payload_sum && tail.get<std::uint64_t>() == kGroupTail;
}

Result<void> apply_change(ByteReader& reader, std::uint64_t revision_max, Image& image) {
  Entry entry;
  entry.mod_revision = reader.get<std::uint64_t>();
  const auto kind = reader.get<std::uint8_t>();
  const auto reserved = reader.get<std::uint8_t>();
  const auto key_bytes = reader.get<std::uint16_t>();
  const auto value_bytes = reader.get<std::uint32_t>();
  entry.key = as_text(reader.get_bytes(key_bytes));
  entry.value = as_text(reader.get_bytes(value_bytes));
  const bool kind_is_known = kind == kPut || (kind == kRemoved && value_bytes == 0);
  if (!reader.ok() || !kind_is_known || reserved != 0 || !check_key(entry.key) ||
      value_bytes > limits::kMetaValueBytesMax || entry.mod_revision > revision_max) {
    return Errc::unknown;
  }
  if (kind == kRemoved) {
    image.entries.erase(entry.key);
  } else {
    image.entries.insert_or_assign(entry.key, std::move(entry));
  }
  return success();
}

Result<void> apply_group(const GroupHead& head, ByteSpan payload, Image& image) {
  if (head.revision < image.revision) return Errc::unknown;
  ByteReader reader(payload);
  for (std::uint32_t i = 0; i < head.changes; ++i) {
    VMS_CHECK(apply_change(reader, head.revision, image));
  }
  if (reader.remaining() != 0) return Errc::unknown;
  image.revision = head.revision;
  return success();
}

/// True if a piece of file[from, to) never reached the device: it reads as zeros, and nothing that
/// was written there does.
bool has_missing_piece(ByteSpan file, std::uint64_t from, std::uint64_t to) {
  while (from < to) {
    const std::uint64_t end = std::min(to, from / kPieceBytes * kPieceBytes + kPieceBytes);
    if (is_all_zero(file.subspan(from, end - from))) return true;
    from = end;
  }
  return false;
}

/// True if the head of a group newer than `number` lies anywhere behind `from`.
bool has_later_group(ByteSpan file, std::uint64_t from, std::uint64_t number) {
  for (; file.size() - from >= kGroupHeadBytes; ++from) {
    const ByteSpan here = file.subspan(from);
    if (std::to_integer<std::uint32_t>(here[0]) != (kGroupMagic & 0xffU)) continue;
    const auto head = read_head(here);
    if (head && head->number > number) return true;
  }
  return false;
}

/// True if what lies behind `from`, where group `number` should be, is its torn beginning.
bool is_torn_end(ByteSpan file, std::uint64_t from, std::uint64_t number) {
  const ByteSpan rest = file.subspan(from);
  if (rest.size() > kGroupHeadBytes + kGroupPayloadMax + kGroupTailBytes) return false;
  if (has_later_group(file, from + 1, number)) return false;
  const auto head = read_head(rest);
  if (!head) {
    const std::uint64_t end = std::min<std::uint64_t>(file.size(), from + kGroupHeadBytes);
    return rest.size() < kGroupHeadBytes || has_missing_piece(file, from, end);
  }
  if (head->number != number || head->payload_bytes > kGroupPayloadMax) return false;
  if (rest.size() < group_bytes(*head)) return true;
  return rest.size() == group_bytes(*head) && has_missing_piece(file, from, file.size());
}

}  // namespace

std::vector<std::byte> encode_header(const Header& header) {
  ByteWriter writer;
  writer.put_bytes(as_byte_span(kFileMagic)).put(kFormat);
  writer.put(static_cast<std::uint32_t>(kHeaderBytes));
  writer.put(header.base_groups).put(header.base_bytes).put(header.revision);
  writer.put_zeros(kHeaderBytes - kSumBytes - writer.size());
  writer.put(xxh3(writer.bytes()));
  return writer.take();
}

Result<Header> decode_header(ByteSpan file) {
  if (file.size() < kHeaderBytes) return Errc::unknown;
  ByteReader reader(file.first(kHeaderBytes));
  if (as_text(reader.get_bytes(kFileMagic.size())) != kFileMagic) return Errc::foreign_store;
  if (reader.get<std::uint32_t>() > kFormat) return Errc::newer_format;
  const auto header_bytes = reader.get<std::uint32_t>();
  Header header;
  header.base_groups = reader.get<std::uint64_t>();
  header.base_bytes = reader.get<std::uint64_t>();
  header.revision = reader.get<std::uint64_t>();
  ByteReader end(file.subspan(kHeaderBytes - kSumBytes, kSumBytes));
  const bool sum_is_right = end.get<std::uint64_t>() == xxh3(file.first(kHeaderBytes - kSumBytes));
  if (!sum_is_right || header_bytes != kHeaderBytes) return Errc::unknown;
  return header;
}

std::size_t payload_bytes(const Event& change) {
  return kChangeHeadBytes + change.entry.key.size() +
         (change.removed ? 0 : change.entry.value.size());
}

std::vector<std::byte> encode_group(std::uint64_t number,
                                    std::uint64_t revision,
                                    const Changes& changes) {
  ByteWriter payload;
  for (const Event& change : changes) {
    const std::string_view value = change.removed ? std::string_view() : change.entry.value;
    payload.put(change.entry.mod_revision).put(change.removed ? kRemoved : kPut);
    payload.put(std::uint8_t{0}).put(static_cast<std::uint16_t>(change.entry.key.size()));
    payload.put(static_cast<std::uint32_t>(value.size()));
    payload.put_bytes(as_byte_span(change.entry.key)).put_bytes(as_byte_span(value));
  }
  VMS_ASSERT(payload.size() <= kGroupPayloadMax);
  ByteWriter writer;
  writer.put(kGroupMagic).put(static_cast<std::uint32_t>(payload.size()));
  writer.put(number).put(revision).put(static_cast<std::uint32_t>(changes.size()));
  writer.put(std::uint32_t{0}).put(xxh3(payload.bytes()));
  writer.put(xxh3(writer.bytes()));
  writer.put_bytes(payload.bytes()).put(kGroupTail);
  return writer.take();
}

Result<Scan> scan(ByteSpan file) {
  VMS_TRY(const Header header, decode_header(file));
  Scan scan;
  scan.bytes = kHeaderBytes;
  while (scan.bytes < file.size()) {
    const ByteSpan rest = file.subspan(scan.bytes);
    const auto head = read_head(rest);
    if (!head || head->number != scan.groups + 1 || !is_whole(*head, rest)) break;
    VMS_CHECK(apply_group(*head, rest.subspan(kGroupHeadBytes, head->payload_bytes), scan.image));
    scan.last_group_at = scan.bytes;
    scan.bytes += group_bytes(*head);
    ++scan.groups;
    const bool base_ends = scan.groups == header.base_groups;
    if (base_ends != (scan.bytes == header.base_bytes)) return Errc::unknown;
  }
  const bool base_is_whole = scan.groups >= header.base_groups && scan.bytes >= header.base_bytes;
  if (!base_is_whole || scan.image.revision < header.revision) {
    VMS_LOG(error, "meta", "the catalogue log is damaged in its base at byte " << scan.bytes);
    return Errc::unknown;
  }
  scan.torn_bytes = file.size() - scan.bytes;
  if (scan.torn_bytes > 0 && !is_torn_end(file, scan.bytes, scan.groups + 1)) {
    VMS_LOG(error, "meta", "the catalogue log is damaged at byte " << scan.bytes);
    return Errc::unknown;
  }
  return scan;
}

}  // namespace vmstore::meta::log_format
