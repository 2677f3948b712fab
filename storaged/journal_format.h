// SPDX-License-Identifier: Apache-2.0
// The bytes of the journal: ring heads and groups. docs/format/journal.md is the byte layout.
//
// Invariants: every 4 KiB unit of a group begins with a prefix of ours, so nothing a guest wrote
// can look like the start of a group; decode accepts only what encode can produce and allocates no
// more than the bytes it was given (I11); a group is complete only when its directory and every
// body match their checksums.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/result.h"
#include "storaged/block_run.h"
#include "wire/record.h"

namespace vmstore::storaged {

inline constexpr std::uint32_t kJournalVersion = 1;
inline constexpr std::uint64_t kJournalUnitBytes = 4096;
inline constexpr std::size_t kUnitPrefixBytes = 16;
inline constexpr std::size_t kUnitBodyBytes = kJournalUnitBytes - kUnitPrefixBytes;
/// Two heads, then the ring.
inline constexpr std::uint64_t kRingStart = 2 * kJournalUnitBytes;
inline constexpr std::size_t kGroupEntriesMax = 1024;
inline constexpr std::uint64_t kGroupUnitsMax = limits::kJournalGroupBytesMax / kJournalUnitBytes;
inline constexpr std::uint64_t kGroupNumberMax = std::uint64_t{1} << 62;
/// Runs of one punch entry; a longer list takes several entries.
inline constexpr std::size_t kPunchRunsMax = 2048;

/// The file's first two units hold one of these each, written in turn.
struct RingHead {
  std::uint64_t generation = 0;
  Incarnation incarnation;
  std::uint64_t file_bytes = 0;
  std::uint64_t tail_offset = kRingStart;  // where the first group to replay begins
  std::uint64_t tail_number = 1;           // its number
  bool clean = false;                      // nothing follows the tail: closed in order
  friend bool operator==(const RingHead&, const RingHead&) = default;
};
[[nodiscard]] std::array<std::byte, kJournalUnitBytes> encode_ring_head(const RingHead& head);
/// `not_found`: zeros. `foreign_store`: something else. `corrupt`, `newer_format`.
[[nodiscard]] Result<RingHead> decode_ring_head(ByteSpan unit);
struct ChosenRingHead {
  RingHead head;
  bool other_bad = false;  // so a newer head may be lost: `clean` is not to be believed
};
[[nodiscard]] Result<ChosenRingHead> choose_ring_head(ByteSpan first_two_units);

enum class EntryKind : std::uint8_t {
  append = 1,         // record and blocks
  append_header = 2,  // record; its blocks were synced in the data file before
  fence = 3,
  seal = 4,
  punch = 5,
  create = 6,
  remove = 7,
};

/// The fixed part of an entry. What `place` means: append*: the length before it; seal: the sealed
/// length; create: the length after the header record; else zero.
struct EntryFields {
  EntryKind kind = EntryKind::fence;
  KeyId key;
  Epoch token;
  std::uint64_t head_generation = 0;  // of the key's synced log head this entry builds on
  KeyLength place;
  Sequence committed;
  std::uint64_t last_record = 0;  // seal: log offset of the newest record that stays
  friend bool operator==(const EntryFields&, const EntryFields&) = default;
};

/// What goes into a group. The spans must stay valid while it is encoded.
struct OutgoingEntry {
  EntryFields fields;
  ByteSpan body;
  std::span<const ByteSpan> blocks;  // whole blocks in pieces; append only
};

/// Bytes of the group in the ring, a multiple of kJournalUnitBytes.
[[nodiscard]] std::uint64_t group_bytes(std::span<const OutgoingEntry> entries,
                                        std::size_t previous_keys) noexcept;
/// Bytes that one entry adds at most, without rounding.
[[nodiscard]] std::uint64_t entry_bytes(const OutgoingEntry& entry) noexcept;
/// Encodes into `out`, whose size is group_bytes(). `previous_keys`: the keys of the group before,
/// so that the loss of one group names what it touched. REQUIRES: within the maxima above.
void encode_group(std::uint64_t number,
                  std::span<const KeyId> previous_keys,
                  std::span<const OutgoingEntry> entries,
                  MutableBytes out);

struct GroupPeek {
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;
};
/// Reads the start of a group from its first unit. `not_found`: no group starts here. `corrupt`:
/// damaged. `unsupported`: whole, but nothing that this version writes.
[[nodiscard]] Result<GroupPeek> peek_group(ByteSpan unit);

struct DecodedEntry {
  EntryFields fields;
  ByteSpan body;
  ByteSpan blocks;
  /// append*: the record; only when body_ok.
  wire::RecordHeader record;
  bool body_ok = false;
};
struct DecodedGroup {
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;
  std::vector<KeyId> previous_keys;
  std::vector<DecodedEntry> entries;  // their spans point into `content`
  std::vector<std::byte> content;
  [[nodiscard]] bool complete() const noexcept;
};
/// Decodes the group at the start of `bytes`. Errors as peek_group(), of its directory too. A body
/// that does not match is only marked, so that one bad sector costs one entry.
[[nodiscard]] Result<DecodedGroup> decode_group(ByteSpan bytes);

/// The body of a punch entry.
[[nodiscard]] std::vector<std::byte> encode_punch(std::span<const BlockRun> runs);
[[nodiscard]] Result<std::vector<BlockRun>> decode_punch(ByteSpan body);

/// The body of a create entry.
struct CreateBody {
  DiskId disk;
  Incarnation incarnation;
  std::array<std::byte, 32> domain{};
  std::uint32_t copies = 1;
  bool shared = false;
  std::vector<std::byte> header_record;
  friend bool operator==(const CreateBody&, const CreateBody&) = default;
};
[[nodiscard]] std::vector<std::byte> encode_create(const CreateBody& body);
[[nodiscard]] Result<CreateBody> decode_create(ByteSpan body);

/// The length after an append* entry.
[[nodiscard]] KeyLength length_after(const DecodedEntry& entry) noexcept;

}  // namespace vmstore::storaged
