// SPDX-License-Identifier: Apache-2.0
#include "storaged/journal_format.h"

#include <algorithm>
#include <cstring>

#include "base/checksum.h"

namespace vmstore::storaged {
namespace {

constexpr std::uint64_t kRingMagic = 0x474e4952534d56U;  // "VMSRING\0"
constexpr std::uint32_t kUnitMagic = 0x424a4d56U;        // "VMJB"
constexpr std::size_t kRingHeadSumOffset = 504;          // a head fits one sector
constexpr std::size_t kGroupFixedBytes = 48;
constexpr std::size_t kDirectoryEntryBytes = 88;
constexpr std::size_t kPreviousKeyBytes = 8;
constexpr std::size_t kRunBytes = 16;
constexpr std::size_t kCreateFixedBytes = 72;

/// Puts a stream of bytes behind the prefixes of a group's units.
class UnitWriter {
 public:
  UnitWriter(std::uint64_t number, MutableBytes out) : number_(number), out_(out) {}
  void put(ByteSpan bytes) {
    while (!bytes.empty()) {
      if (room_ == 0) begin_unit();
      const std::size_t part = std::min(room_, bytes.size());
      std::memcpy(out_.data() + position_, bytes.data(), part);
      position_ += part;
      room_ -= part;
      bytes = bytes.subspan(part);
    }
  }
  void finish() {
    std::fill_n(out_.begin() + static_cast<std::ptrdiff_t>(position_), room_, std::byte{0});
    position_ += room_;
    VMS_ASSERT(position_ == out_.size());
  }

 private:
  void begin_unit() {
    ByteWriter prefix;
    prefix.put(kUnitMagic).put(unit_++).put(number_);
    VMS_ASSERT(position_ + kJournalUnitBytes <= out_.size());
    std::memcpy(out_.data() + position_, prefix.bytes().data(), kUnitPrefixBytes);
    position_ += kUnitPrefixBytes;
    room_ = kUnitBodyBytes;
  }
  std::uint64_t number_;
  MutableBytes out_;
  std::uint32_t unit_ = 0;
  std::size_t position_ = 0;
  std::size_t room_ = 0;
};

std::size_t blocks_bytes(const OutgoingEntry& entry) noexcept {
  std::size_t total = 0;
  for (const ByteSpan piece : entry.blocks) total += piece.size();
  return total;
}

void put_directory_entry(ByteWriter& writer, const OutgoingEntry& entry) {
  const EntryFields& f = entry.fields;
  writer.put(static_cast<std::uint8_t>(f.kind)).put_zeros(3);
  writer.put(static_cast<std::uint32_t>(entry.body.size()));
  writer.put(static_cast<std::uint32_t>(blocks_bytes(entry))).put(std::uint32_t{0});
  writer.put(f.key.value()).put(f.token.value).put(f.head_generation);
  writer.put(f.place.last_sequence.value).put(f.place.log_bytes).put(f.place.blocks.value);
  writer.put(f.committed.value).put(f.last_record).put(xxh3(entry.body));
}

struct RawEntry {
  EntryFields fields;
  std::uint32_t body_bytes = 0;
  std::uint32_t blocks_bytes = 0;
  std::uint64_t body_sum = 0;
};

Result<RawEntry> read_directory_entry(ByteReader& reader) {
  RawEntry raw;
  EntryFields& f = raw.fields;
  const auto kind = reader.get<std::uint8_t>();
  const bool zeros = is_all_zero(reader.get_bytes(3));
  raw.body_bytes = reader.get<std::uint32_t>();
  raw.blocks_bytes = reader.get<std::uint32_t>();
  const auto reserved = reader.get<std::uint32_t>();
  const auto key = KeyId::make(reader.get<std::uint64_t>());
  f.token = Epoch(reader.get<std::uint64_t>());
  f.head_generation = reader.get<std::uint64_t>();
  f.place.last_sequence = Sequence(reader.get<std::uint64_t>());
  f.place.log_bytes = reader.get<std::uint64_t>();
  f.place.blocks = BlockIndex{reader.get<std::uint64_t>()};
  f.committed = Sequence(reader.get<std::uint64_t>());
  f.last_record = reader.get<std::uint64_t>();
  raw.body_sum = reader.get<std::uint64_t>();
  const bool known = kind >= static_cast<std::uint8_t>(EntryKind::append) &&
                     kind <= static_cast<std::uint8_t>(EntryKind::remove);
  if (!reader.ok() || !known || !zeros || reserved != 0 || !key || !key->is_usable() ||
      raw.blocks_bytes % kBlockBytes != 0) {
    return Errc::unsupported;
  }
  f.kind = static_cast<EntryKind>(kind);
  f.key = *key;
  return raw;
}

/// The record and, for a small append, its blocks are whole and belong where the entry says.
bool check_append(DecodedEntry& entry) {
  auto decoded = wire::decode_record(entry.body);
  if (!decoded || decoded->bytes != entry.body.size()) return false;
  const wire::RecordHeader& record = decoded->header;
  const EntryFields& f = entry.fields;
  const std::uint64_t blocks = record.block_count();
  if (record.key != f.key || record.data_offset != f.place.blocks ||
      record.sequence != f.place.last_sequence.next() ||
      f.place.blocks.value + blocks > BlockIndex::kEnd) {
    return false;
  }
  if (f.kind == EntryKind::append) {
    if (entry.blocks.size() != blocks * kBlockBytes) return false;
    for (std::size_t i = 0; i < blocks; ++i) {
      const ByteSpan block = entry.blocks.subspan(i * kBlockBytes, kBlockBytes);
      if (block_sum(block) != record.block_sums[i]) return false;
    }
  } else if (!entry.blocks.empty()) {
    return false;
  }
  entry.record = std::move(decoded->header);
  return true;
}

bool check_body(DecodedEntry& entry) {
  switch (entry.fields.kind) {
    case EntryKind::append:
    case EntryKind::append_header:
      return check_append(entry);
    case EntryKind::punch:
      return entry.blocks.empty() && decode_punch(entry.body).has_value();
    case EntryKind::create:
      return entry.blocks.empty() && decode_create(entry.body).has_value();
    case EntryKind::fence:
    case EntryKind::seal:
    case EntryKind::remove:
      return entry.body.empty() && entry.blocks.empty();
  }
  return false;
}

struct GroupFixed {
  GroupPeek peek;
  std::uint32_t entries = 0;
  std::uint32_t previous = 0;
  std::uint64_t directory_sum = 0;
  [[nodiscard]] std::size_t directory_bytes() const noexcept {
    return entries * kDirectoryEntryBytes + previous * kPreviousKeyBytes;
  }
};

Result<GroupFixed> read_fixed(ByteSpan unit) {
  if (unit.size() < kUnitPrefixBytes + kGroupFixedBytes) return Errc::corrupt;
  ByteReader prefix(unit);
  if (prefix.get<std::uint32_t>() != kUnitMagic || prefix.get<std::uint32_t>() != 0) {
    return Errc::not_found;
  }
  const auto number = prefix.get<std::uint64_t>();
  const ByteSpan fixed_bytes = unit.subspan(kUnitPrefixBytes, kGroupFixedBytes);
  ByteReader reader(fixed_bytes);
  GroupFixed fixed;
  fixed.peek.number = reader.get<std::uint64_t>();
  const auto units = reader.get<std::uint32_t>();
  fixed.entries = reader.get<std::uint32_t>();
  fixed.previous = reader.get<std::uint32_t>();
  const auto reserved = reader.get<std::uint32_t>();
  const auto reserved_too = reader.get<std::uint64_t>();
  fixed.directory_sum = reader.get<std::uint64_t>();
  const auto sum = reader.get<std::uint64_t>();
  if (sum != xxh3(fixed_bytes.first(kGroupFixedBytes - sizeof sum))) return Errc::corrupt;
  const bool plausible = fixed.peek.number == number && number > 0 && number < kGroupNumberMax &&
                         units > 0 && units <= kGroupUnitsMax && fixed.entries > 0 &&
                         fixed.entries <= kGroupEntriesMax && fixed.previous <= kGroupEntriesMax &&
                         reserved == 0 && reserved_too == 0 &&
                         kGroupFixedBytes + fixed.directory_bytes() <= units * kUnitBodyBytes;
  if (!plausible) return Errc::unsupported;
  fixed.peek.bytes = units * kJournalUnitBytes;
  return fixed;
}

/// The stream without prefixes. A unit of another group inside leaves a stretch of zeros, which the
/// checksums then refuse.
std::vector<std::byte> gather(ByteSpan group, std::uint64_t number) {
  std::vector<std::byte> content(group.size() / kJournalUnitBytes * kUnitBodyBytes);
  for (std::size_t unit = 0; unit * kJournalUnitBytes < group.size(); ++unit) {
    const ByteSpan bytes = group.subspan(unit * kJournalUnitBytes, kJournalUnitBytes);
    ByteReader prefix(bytes);
    const bool ours = prefix.get<std::uint32_t>() == kUnitMagic &&
                      prefix.get<std::uint32_t>() == unit && prefix.get<std::uint64_t>() == number;
    if (!ours) continue;
    std::memcpy(content.data() + unit * kUnitBodyBytes, prefix.rest().data(), kUnitBodyBytes);
  }
  return content;
}

}  // namespace

std::array<std::byte, kJournalUnitBytes> encode_ring_head(const RingHead& head) {
  ByteWriter writer;
  writer.put(kRingMagic).put(kJournalVersion).put(std::uint32_t{head.clean ? 1U : 0U});
  writer.put(head.generation).put(head.incarnation.high).put(head.incarnation.low);
  writer.put(head.file_bytes).put(head.tail_offset).put(head.tail_number);
  writer.put_zeros(kRingHeadSumOffset - writer.size());
  writer.put(xxh3(writer.bytes()));
  std::array<std::byte, kJournalUnitBytes> unit{};
  std::copy(writer.bytes().begin(), writer.bytes().end(), unit.begin());
  return unit;
}

Result<RingHead> decode_ring_head(ByteSpan unit) {
  if (unit.size() != kJournalUnitBytes) return Errc::corrupt;
  if (is_all_zero(unit)) return Errc::not_found;
  ByteReader reader(unit);
  if (reader.get<std::uint64_t>() != kRingMagic) return Errc::foreign_store;
  const auto version = reader.get<std::uint32_t>();
  ByteReader sum(unit.subspan(kRingHeadSumOffset));
  if (sum.get<std::uint64_t>() != xxh3(unit.first(kRingHeadSumOffset))) return Errc::corrupt;
  if (version > kJournalVersion) return Errc::newer_format;
  const auto flags = reader.get<std::uint32_t>();
  RingHead head;
  head.clean = flags == 1;
  head.generation = reader.get<std::uint64_t>();
  head.incarnation.high = reader.get<std::uint64_t>();
  head.incarnation.low = reader.get<std::uint64_t>();
  head.file_bytes = reader.get<std::uint64_t>();
  head.tail_offset = reader.get<std::uint64_t>();
  head.tail_number = reader.get<std::uint64_t>();
  const std::size_t used = kJournalUnitBytes - reader.remaining();
  const bool plausible = version == kJournalVersion && flags <= 1 && head.generation > 0 &&
                         head.tail_number > 0 && head.tail_number < kGroupNumberMax &&
                         head.tail_offset >= kRingStart && head.tail_offset <= head.file_bytes &&
                         head.tail_offset % kJournalUnitBytes == 0 &&
                         head.file_bytes % kJournalUnitBytes == 0 &&
                         is_all_zero(unit.first(kRingHeadSumOffset).subspan(used)) &&
                         is_all_zero(unit.subspan(kRingHeadSumOffset + sizeof(std::uint64_t)));
  if (!plausible) return Errc::corrupt;
  return head;
}

Result<ChosenRingHead> choose_ring_head(ByteSpan first_two_units) {
  if (first_two_units.size() != kRingStart) return Errc::corrupt;
  const auto first = decode_ring_head(first_two_units.first(kJournalUnitBytes));
  const auto second = decode_ring_head(first_two_units.subspan(kJournalUnitBytes));
  for (const auto* head : {&first, &second}) {
    if (!*head && head->error() == Errc::newer_format) return Errc::newer_format;
  }
  if (!first && !second) {
    const bool foreign =
        first.error() == Errc::foreign_store && second.error() == Errc::foreign_store;
    return foreign ? Errc::foreign_store : Errc::corrupt;
  }
  const bool take_first = first && (!second || first->generation > second->generation);
  ChosenRingHead chosen;
  chosen.head = take_first ? *first : *second;
  chosen.other_bad = !first || !second;
  return chosen;
}

std::uint64_t entry_bytes(const OutgoingEntry& entry) noexcept {
  return kDirectoryEntryBytes + entry.body.size() + blocks_bytes(entry);
}

std::uint64_t group_bytes(std::span<const OutgoingEntry> entries,
                          std::size_t previous_keys) noexcept {
  std::uint64_t stream = kGroupFixedBytes + previous_keys * kPreviousKeyBytes;
  for (const OutgoingEntry& entry : entries) stream += entry_bytes(entry);
  return (stream + kUnitBodyBytes - 1) / kUnitBodyBytes * kJournalUnitBytes;
}

void encode_group(std::uint64_t number,
                  std::span<const KeyId> previous_keys,
                  std::span<const OutgoingEntry> entries,
                  MutableBytes out) {
  VMS_ASSERT(!entries.empty() && entries.size() <= kGroupEntriesMax);
  VMS_ASSERT(previous_keys.size() <= kGroupEntriesMax);
  VMS_ASSERT(number > 0 && number < kGroupNumberMax);
  VMS_ASSERT(out.size() == group_bytes(entries, previous_keys.size()));
  VMS_ASSERT(out.size() <= limits::kJournalGroupBytesMax);
  ByteWriter directory;
  directory.reserve(entries.size() * kDirectoryEntryBytes + previous_keys.size() * 8);
  for (const OutgoingEntry& entry : entries) put_directory_entry(directory, entry);
  for (const KeyId key : previous_keys) directory.put(key.value());
  ByteWriter fixed;
  fixed.put(number).put(static_cast<std::uint32_t>(out.size() / kJournalUnitBytes));
  fixed.put(static_cast<std::uint32_t>(entries.size()));
  fixed.put(static_cast<std::uint32_t>(previous_keys.size())).put_zeros(12);
  fixed.put(xxh3(directory.bytes()));
  fixed.put(xxh3(fixed.bytes()));
  VMS_ASSERT(fixed.size() == kGroupFixedBytes);
  UnitWriter writer(number, out);
  writer.put(fixed.bytes());
  writer.put(directory.bytes());
  for (const OutgoingEntry& entry : entries) {
    writer.put(entry.body);
    for (const ByteSpan piece : entry.blocks) writer.put(piece);
  }
  writer.finish();
}

Result<GroupPeek> peek_group(ByteSpan unit) {
  VMS_TRY(const auto fixed, read_fixed(unit));
  return fixed.peek;
}

bool DecodedGroup::complete() const noexcept {
  return std::all_of(entries.begin(), entries.end(), [](const auto& e) { return e.body_ok; });
}

Result<DecodedGroup> decode_group(ByteSpan bytes) {
  VMS_TRY(const auto fixed, read_fixed(bytes));
  if (bytes.size() < fixed.peek.bytes) return Errc::corrupt;
  DecodedGroup group;
  group.number = fixed.peek.number;
  group.bytes = fixed.peek.bytes;
  group.content = gather(bytes.first(group.bytes), group.number);
  const ByteSpan content(group.content);
  const ByteSpan directory = content.subspan(kGroupFixedBytes, fixed.directory_bytes());
  if (xxh3(directory) != fixed.directory_sum) return Errc::corrupt;
  ByteReader reader(directory);
  ByteReader bodies(content.subspan(kGroupFixedBytes + fixed.directory_bytes()));
  group.entries.reserve(fixed.entries);
  for (std::uint32_t i = 0; i < fixed.entries; ++i) {
    VMS_TRY(const auto raw, read_directory_entry(reader));
    DecodedEntry entry;
    entry.fields = raw.fields;
    entry.body = bodies.get_bytes(raw.body_bytes);
    entry.blocks = bodies.get_bytes(raw.blocks_bytes);
    if (!bodies.ok()) return Errc::unsupported;
    entry.body_ok = xxh3(entry.body) == raw.body_sum && check_body(entry);
    group.entries.push_back(std::move(entry));
  }
  for (std::uint32_t i = 0; i < fixed.previous; ++i) {
    const auto key = KeyId::make(reader.get<std::uint64_t>());
    if (!key) return Errc::unsupported;
    group.previous_keys.push_back(*key);
  }
  return group;
}

std::vector<std::byte> encode_punch(std::span<const BlockRun> runs) {
  VMS_ASSERT(!runs.empty() && runs.size() <= kPunchRunsMax);
  ByteWriter writer;
  writer.reserve(runs.size() * kRunBytes);
  for (const BlockRun& run : runs) writer.put(run.first.value).put(run.blocks);
  return writer.take();
}

Result<std::vector<BlockRun>> decode_punch(ByteSpan body) {
  if (body.empty() || body.size() % kRunBytes != 0 || body.size() / kRunBytes > kPunchRunsMax) {
    return Errc::corrupt;
  }
  std::vector<BlockRun> runs(body.size() / kRunBytes);
  ByteReader reader(body);
  for (BlockRun& run : runs) {
    run.first.value = reader.get<std::uint64_t>();
    run.blocks = reader.get<std::uint64_t>();
    if (run.blocks == 0 || run.blocks > BlockIndex::kEnd ||
        run.first.value > BlockIndex::kEnd - run.blocks) {
      return Errc::corrupt;
    }
  }
  return runs;
}

std::vector<std::byte> encode_create(const CreateBody& body) {
  ByteWriter writer;
  writer.put(body.disk.high).put(body.disk.low);
  writer.put(body.incarnation.high).put(body.incarnation.low).put_bytes(body.domain);
  writer.put(body.copies).put(std::uint32_t{body.shared ? 1U : 0U});
  VMS_ASSERT(writer.size() == kCreateFixedBytes);
  writer.put_bytes(body.header_record);
  return writer.take();
}

Result<CreateBody> decode_create(ByteSpan bytes) {
  ByteReader reader(bytes);
  CreateBody body;
  body.disk.high = reader.get<std::uint64_t>();
  body.disk.low = reader.get<std::uint64_t>();
  body.incarnation.high = reader.get<std::uint64_t>();
  body.incarnation.low = reader.get<std::uint64_t>();
  const ByteSpan domain = reader.get_bytes(body.domain.size());
  std::copy(domain.begin(), domain.end(), body.domain.begin());
  body.copies = reader.get<std::uint32_t>();
  const auto flags = reader.get<std::uint32_t>();
  body.shared = flags == 1;
  const ByteSpan record = reader.rest();
  if (!reader.ok() || flags > 1 || body.copies == 0 || record.empty() ||
      record.size() > limits::kRecordHeaderBytesMax) {
    return Errc::corrupt;
  }
  body.header_record.assign(record.begin(), record.end());
  return body;
}

KeyLength length_after(const DecodedEntry& entry) noexcept {
  KeyLength length = entry.fields.place;
  length.last_sequence = entry.record.sequence;
  length.log_bytes += entry.body.size();
  length.blocks.value += entry.record.block_count();
  return length;
}

}  // namespace vmstore::storaged
