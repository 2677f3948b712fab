// SPDX-License-Identifier: Apache-2.0
// Byte layout: docs/format/record.md. check_header() states what a record may say; encode asserts
// it and decode answers with it, so that both sides accept exactly the same records.
#include "wire/record.h"

#include <algorithm>
#include <string_view>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/limits.h"
#include "base/log.h"

namespace vmstore::wire {
namespace {

constexpr std::uint32_t kMagic = 0x52534d56;  // "VMSR"
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kChecksumOffset = 24;
constexpr std::uint16_t kFlagFlushMark = 1;
constexpr std::size_t kRunBytes = 24;
constexpr std::size_t kLabelBytes = 8;
constexpr std::size_t kSumBytes = 8;
constexpr unsigned kTopByteShift = 56;
constexpr std::uint64_t kBelowTopByte = (std::uint64_t{1} << kTopByteShift) - 1;
constexpr std::uint64_t kLbnEnd = limits::kDiskBytesMax / kBlockBytes;
constexpr std::uint8_t kTopLevel = 3;
constexpr unsigned kPageFanOutBits = 9;

static_assert(kRecordFixedBytes + limits::kRecordRunsMax * kRunBytes +
                  limits::kRecordBlocksMax * (kLabelBytes + kSumBytes) <=
              limits::kRecordHeaderBytesMax);

/// Why a header cannot be a record; code `ok` when it can.
struct Verdict {
  Errc code = Errc::ok;
  std::string_view reason;
};

constexpr Verdict kGood{};
constexpr Verdict impossible(std::string_view reason) {
  return {Errc::corrupt, reason};
}
constexpr Verdict reserved(std::string_view reason) {
  return {Errc::unsupported, reason};
}

Verdict check_key(KeyId key, bool may_be_none) {
  if (key.is_none()) return may_be_none ? kGood : impossible("no key");
  return key.is_usable() ? kGood : reserved("a reserved key number");
}

Verdict check_address(Address address, std::uint64_t blocks) {
  if (address.is_unmapped()) return impossible("an address run without an address");
  if (address.slot() != 0) return reserved("a slot of a packed block");
  if (blocks > BlockIndex::kEnd - address.block().value) {
    return impossible("an address run past the end of its key");
  }
  return check_key(address.key(), /*may_be_none=*/false);
}

Verdict check_run(const Run& run) {
  if (run.count == 0 || run.count > kLbnEnd) return impossible("a run's length");
  if (run.lbn.value >= kLbnEnd || run.count > kLbnEnd - run.lbn.value) {
    return impossible("a run past the largest disk");
  }
  switch (run.kind) {
    case RunKind::at_address:
      return check_address(run.address, run.count);
    case RunKind::stored:
    case RunKind::zero:
      return run.address.is_unmapped() ? kGood : impossible("an address in a run that has none");
  }
  return static_cast<std::uint8_t>(run.kind) == 0 ? impossible("a run without a kind")
                                                  : reserved("a kind of run");
}

Verdict check_runs(const RecordHeader& header) {
  if (header.runs.size() > limits::kRecordRunsMax) return impossible("too many runs");
  std::uint64_t stored = 0;
  for (const Run& run : header.runs) {
    const Verdict verdict = check_run(run);
    if (verdict.code != Errc::ok) return verdict;
    if (run.kind == RunKind::stored) stored += run.count;  // <= 1024 * 2^36: no overflow
  }
  return stored == header.block_count() ? kGood : impossible("runs and blocks do not match");
}

Verdict check_labels(const RecordHeader& header) {
  if (header.pages.empty()) return impossible("a pages record without pages");
  if (header.pages.size() != header.block_count()) return impossible("labels and blocks");
  for (const PageLabel& label : header.pages) {
    if (label.level > kTopLevel) return impossible("a page's level");
    const std::uint64_t span = std::uint64_t{1} << (kPageFanOutBits * (label.level + 1U));
    if (label.first_lbn.value >= kLbnEnd || label.first_lbn.value % span != 0) {
      return impossible("a page's first block");
    }
  }
  return kGood;
}

Verdict check_disk_bytes(std::uint64_t bytes) {
  const bool good =
      bytes >= limits::kDiskBytesMin && bytes <= limits::kDiskBytesMax && bytes % kSectorBytes == 0;
  return good ? kGood : impossible("a disk's size");
}

Verdict check_root(const RecordHeader& header) {
  if (header.block_count() != 0) return impossible("a root record with blocks");
  if (header.top_page.slot() != 0) return reserved("a packed top page");
  if (!header.top_page.is_unmapped()) {
    const Verdict verdict = check_address(header.top_page, 1);
    if (verdict.code != Errc::ok) return verdict;
  }
  return check_key(header.replay_from.key, /*may_be_none=*/true);
}

Verdict check_key_header(const RecordHeader& header) {
  if (header.block_count() != 0) return impossible("a key header with blocks");
  if (header.predecessor_length.blocks.value > BlockIndex::kEnd) {
    return impossible("the predecessor's length");
  }
  if (header.predecessor.is_none() && header.predecessor_length != KeyLength()) {
    return impossible("the length of no predecessor");
  }
  return check_key(header.predecessor, /*may_be_none=*/true);
}

/// Fields that a record of its kind does not have must be empty.
Verdict check_absent(const RecordHeader& h) {
  const bool has_runs = h.kind == RecordKind::data || h.kind == RecordKind::resize;
  if (!has_runs && !h.runs.empty()) return impossible("runs in a record that has none");
  if (h.kind != RecordKind::pages && !h.pages.empty()) return impossible("labels without pages");
  const bool has_size = h.kind == RecordKind::root || h.kind == RecordKind::resize;
  if (!has_size && h.disk_bytes != 0) return impossible("a size in a record that has none");
  const bool no_root = h.top_page.is_unmapped() && h.replay_from == LogPosition();
  if (h.kind != RecordKind::root && !no_root) return impossible("root fields elsewhere");
  const bool no_predecessor = h.predecessor.is_none() && h.predecessor_length == KeyLength();
  if (h.kind != RecordKind::key_header && !no_predecessor) {
    return impossible("a predecessor elsewhere");
  }
  return kGood;
}

Verdict check_common(const RecordHeader& h) {
  if (h.sequence.value == 0) return impossible("no sequence");
  if (h.committed >= h.sequence) return impossible("a record committed before it was made");
  if (h.block_count() > limits::kRecordBlocksMax) return impossible("too many blocks");
  if (h.data_offset.value > BlockIndex::kEnd - h.block_count()) {
    return impossible("blocks past the end of the key");
  }
  if (std::ranges::find(h.block_sums, 0U) != h.block_sums.end()) return impossible("a sum of 0");
  const Verdict key = check_key(h.key, /*may_be_none=*/false);
  return key.code != Errc::ok ? key : check_key(h.root.key, /*may_be_none=*/true);
}

Verdict check_kind(const RecordHeader& header) {
  switch (header.kind) {
    case RecordKind::data:
      return check_runs(header);
    case RecordKind::resize: {
      const Verdict verdict = check_disk_bytes(header.disk_bytes);
      return verdict.code != Errc::ok ? verdict : check_runs(header);
    }
    case RecordKind::pages:
      return check_labels(header);
    case RecordKind::root: {
      const Verdict verdict = check_disk_bytes(header.disk_bytes);
      return verdict.code != Errc::ok ? verdict : check_root(header);
    }
    case RecordKind::key_header:
      return check_key_header(header);
  }
  return static_cast<std::uint8_t>(header.kind) == 0 ? impossible("a record without a kind")
                                                     : reserved("a kind of record");
}

Verdict check_header(const RecordHeader& header) {
  for (const auto check : {check_common, check_absent, check_kind}) {
    const Verdict verdict = check(header);
    if (verdict.code != Errc::ok) return verdict;
  }
  return kGood;
}

void put_id(ByteWriter& out, DiskId id) {
  out.put(id.high).put(id.low);
}
void put_position(ByteWriter& out, const LogPosition& p) {
  out.put(p.key.value()).put(p.log_offset).put(p.sequence.value);
}

/// The 32 bytes whose meaning depends on the kind.
void put_kind_fields(ByteWriter& out, const RecordHeader& h) {
  if (h.kind == RecordKind::key_header) {
    const KeyLength& length = h.predecessor_length;
    out.put(h.predecessor.value()).put(length.last_sequence.value);
    out.put(length.log_bytes).put(length.blocks.value);
    return;
  }
  out.put(h.top_page.raw());  // zero outside root records, as check_absent() saw
  put_position(out, h.replay_from);
}

void put_tables(ByteWriter& out, const RecordHeader& h) {
  for (const Run& run : h.runs) {
    const auto kind = static_cast<std::uint64_t>(run.kind);
    out.put(run.lbn.value).put(run.count | (kind << kTopByteShift)).put(run.address.raw());
  }
  for (const PageLabel& label : h.pages) {
    out.put(label.first_lbn.value | (std::uint64_t{label.level} << kTopByteShift));
  }
  for (const std::uint64_t sum : h.block_sums) out.put(sum);
}

/// XXH3 of the whole encoded record with the checksum's own field taken as zeros.
std::uint64_t record_checksum(ByteSpan record) {
  constexpr std::array<std::byte, sizeof(std::uint64_t)> kZeros{};
  const std::array<ByteSpan, 3> pieces = {record.first(kChecksumOffset),
                                          ByteSpan(kZeros),
                                          record.subspan(kChecksumOffset + kZeros.size())};
  return xxh3(pieces);
}

/// The first 32 bytes. Their places are the same in every version.
struct Preamble {
  std::uint8_t version = 0;
  std::uint8_t kind = 0;
  std::uint16_t flags = 0;
  std::uint32_t total_bytes = 0;
  std::uint32_t run_count = 0;
  std::uint32_t page_count = 0;
  std::uint32_t block_count = 0;
  std::uint64_t checksum = 0;
};

Preamble get_preamble(ByteReader& in) {
  Preamble p;
  in.skip(sizeof(kMagic));
  p.version = in.get<std::uint8_t>();
  p.kind = in.get<std::uint8_t>();
  p.flags = in.get<std::uint16_t>();
  p.total_bytes = in.get<std::uint32_t>();
  p.run_count = in.get<std::uint32_t>();
  p.page_count = in.get<std::uint32_t>();
  p.block_count = in.get<std::uint32_t>();
  p.checksum = in.get<std::uint64_t>();
  return p;
}

bool counts_match(const Preamble& p) {
  if (p.run_count > limits::kRecordRunsMax || p.page_count > limits::kRecordBlocksMax ||
      p.block_count > limits::kRecordBlocksMax) {
    return false;
  }
  const std::size_t bytes = kRecordFixedBytes + p.run_count * kRunBytes +
                            p.page_count * kLabelBytes + p.block_count * kSumBytes;
  return p.total_bytes == bytes;
}

/// Checks everything about the record's frame; afterwards total_bytes are there and undamaged.
Result<Preamble> check_preamble(ByteSpan log) {
  if (is_all_zero(log.first(std::min(log.size(), kRecordFixedBytes)))) return Errc::not_found;
  ByteWriter magic;
  magic.put(kMagic);
  const ByteSpan start = log.first(std::min(log.size(), magic.size()));
  if (!std::ranges::equal(start, magic.bytes().first(start.size()))) return Errc::corrupt;
  if (log.size() < kRecordFixedBytes) return Errc::wrong_offset;
  ByteReader in(log);
  const Preamble preamble = get_preamble(in);
  if (preamble.version == 0) return Errc::corrupt;
  const bool newer = preamble.version > kVersion;
  const std::uint64_t total = preamble.total_bytes;
  if (total < kRecordFixedBytes || total % 8 != 0 || total > limits::kRecordHeaderBytesMax) {
    return newer ? Errc::newer_format : Errc::corrupt;
  }
  if (!newer && !counts_match(preamble)) return Errc::corrupt;
  if (log.size() < total) return Errc::wrong_offset;
  // Before anything is called newer or unsupported it must be undamaged: damage can be repaired.
  if (record_checksum(log.first(total)) != preamble.checksum) return Errc::corrupt;
  if (newer) return Errc::newer_format;
  if ((preamble.flags & ~kFlagFlushMark) != 0) return Errc::unsupported;
  return preamble;
}

/// Reads the fixed part behind the preamble. Numbers that do not fit their type set `fits` false.
class FieldReader {
 public:
  explicit FieldReader(ByteReader& in) : in_(in) {}
  std::uint64_t u64() { return in_.get<std::uint64_t>(); }
  KeyId key() {
    const auto key = KeyId::make(u64());
    fits_ = fits_ && key.has_value();
    return key.value_or(KeyId());
  }
  LogPosition position() {
    LogPosition p;
    p.key = key();
    p.log_offset = u64();
    p.sequence = Sequence(u64());
    return p;
  }
  [[nodiscard]] bool fits() const { return fits_; }

 private:
  ByteReader& in_;
  bool fits_ = true;
};

bool get_fixed(ByteReader& in, RecordHeader& h) {
  FieldReader fields(in);
  h.disk.high = fields.u64();
  h.disk.low = fields.u64();
  h.key = fields.key();
  h.epoch = Epoch(fields.u64());
  h.sequence = Sequence(fields.u64());
  h.committed = Sequence(fields.u64());
  h.wall_time = WallTime(Duration(static_cast<std::int64_t>(fields.u64())));
  h.root = fields.position();
  h.generation = Generation(fields.u64());
  h.data_offset = BlockIndex{fields.u64()};
  h.disk_bytes = fields.u64();
  if (h.kind == RecordKind::key_header) {
    h.predecessor = fields.key();
    h.predecessor_length.last_sequence = Sequence(fields.u64());
    h.predecessor_length.log_bytes = fields.u64();
    h.predecessor_length.blocks = BlockIndex{fields.u64()};
  } else {
    h.top_page = Address::from_raw(fields.u64());
    h.replay_from = fields.position();
  }
  return fields.fits();
}

void get_tables(ByteReader& in, const Preamble& preamble, RecordHeader& h) {
  h.runs.reserve(preamble.run_count);
  for (std::uint32_t i = 0; i < preamble.run_count; ++i) {
    Run run;
    run.lbn = Lbn(in.get<std::uint64_t>());
    const auto count = in.get<std::uint64_t>();
    run.kind = static_cast<RunKind>(count >> kTopByteShift);
    run.count = count & kBelowTopByte;
    run.address = Address::from_raw(in.get<std::uint64_t>());
    h.runs.push_back(run);
  }
  h.pages.reserve(preamble.page_count);
  for (std::uint32_t i = 0; i < preamble.page_count; ++i) {
    const auto label = in.get<std::uint64_t>();
    h.pages.push_back(
        {static_cast<std::uint8_t>(label >> kTopByteShift), Lbn(label & kBelowTopByte)});
  }
  h.block_sums.reserve(preamble.block_count);
  for (std::uint32_t i = 0; i < preamble.block_count; ++i) {
    h.block_sums.push_back(in.get<std::uint64_t>());
  }
}

}  // namespace

std::size_t encoded_bytes(const RecordHeader& header) noexcept {
  return kRecordFixedBytes + header.runs.size() * kRunBytes + header.pages.size() * kLabelBytes +
         header.block_sums.size() * kSumBytes;
}

std::vector<std::byte> encode_record(const RecordHeader& header) {
  const Verdict verdict = check_header(header);
  if (verdict.code != Errc::ok) {
    VMS_LOG(error, "wire", "refusing to encode a record: " << verdict.reason);
  }
  VMS_ASSERT(verdict.code == Errc::ok);
  const std::size_t total = encoded_bytes(header);
  ByteWriter out;
  out.reserve(total);
  out.put(kMagic).put(kVersion).put(static_cast<std::uint8_t>(header.kind));
  out.put(static_cast<std::uint16_t>(header.flush_mark ? kFlagFlushMark : 0));
  out.put(static_cast<std::uint32_t>(total));
  out.put(static_cast<std::uint32_t>(header.runs.size()));
  out.put(static_cast<std::uint32_t>(header.pages.size()));
  out.put(static_cast<std::uint32_t>(header.block_sums.size()));
  out.put(std::uint64_t{0});  // the checksum, below
  put_id(out, header.disk);
  out.put(header.key.value()).put(header.epoch.value);
  out.put(header.sequence.value).put(header.committed.value);
  out.put(static_cast<std::uint64_t>(header.wall_time.time_since_epoch().count()));
  put_position(out, header.root);
  out.put(header.generation.value).put(header.data_offset.value).put(header.disk_bytes);
  put_kind_fields(out, header);
  VMS_ASSERT(out.size() == kRecordFixedBytes);
  put_tables(out, header);
  VMS_ASSERT(out.size() == total);
  out.patch(kChecksumOffset, record_checksum(out.bytes()));
  return out.take();
}

Result<DecodedRecord> decode_record(ByteSpan log) {
  VMS_TRY(const Preamble preamble, check_preamble(log));
  DecodedRecord decoded;
  decoded.bytes = preamble.total_bytes;
  RecordHeader& header = decoded.header;
  header.kind = static_cast<RecordKind>(preamble.kind);
  header.flush_mark = (preamble.flags & kFlagFlushMark) != 0;
  ByteReader in(log.first(preamble.total_bytes));
  static_cast<void>(get_preamble(in));
  const bool fits = get_fixed(in, header);
  get_tables(in, preamble, header);
  VMS_ASSERT(in.ok() && in.remaining() == 0);  // counts_match() saw to it
  if (!fits) return Errc::corrupt;
  const Verdict verdict = check_header(header);
  if (verdict.code != Errc::ok) return verdict.code;
  return decoded;
}

}  // namespace vmstore::wire
