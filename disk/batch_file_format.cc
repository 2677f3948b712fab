// SPDX-License-Identifier: Apache-2.0
#include "disk/batch_file_format.h"

#include <bit>

#include "base/checksum.h"

namespace vmstore::disk::batch_format {
namespace {

// The file never leaves the host, but its bytes are defined: little-endian.
static_assert(std::endian::native == std::endian::little, "swap bytes in load_word and store_word");

constexpr std::uint64_t kTakeoverFlag = 1;
constexpr std::uint64_t kKindMask = 0xff;
constexpr unsigned kFlushShift = 8;
constexpr unsigned kSlotShift = 16;
constexpr unsigned kCountBits = 48;
constexpr std::uint64_t kSlotMask = 0xffff;
static_assert(kBatchSlots <= kSlotMask);

template <std::size_t kCount>
std::uint64_t sum_of(const std::array<std::uint64_t, kCount>& words) noexcept {
  return xxh3(std::as_bytes(std::span(words)));
}

std::uint64_t static_sum(const StaticWords& words) noexcept {
  return xxh3(std::as_bytes(std::span(words).first(words.size() - 1)));
}

std::uint64_t entry_tag(const EntryWords& words, std::uint64_t position) noexcept {
  const std::array<std::uint64_t, 4> tagged = {position, words[0], words[1], words[2]};
  return sum_of(tagged);
}

bool is_range(std::uint64_t lbn, std::uint64_t blocks) noexcept {
  return blocks > 0 && lbn < kIndexBlocks && blocks <= kIndexBlocks - lbn;
}

bool is_disk_size(std::uint64_t bytes) noexcept {
  return bytes >= limits::kDiskBytesMin && bytes <= limits::kDiskBytesMax &&
         bytes % kSectorBytes == 0;
}

/// What a store may write and a reader may accept.
bool is_possible(const BatchEntry& entry) noexcept {
  switch (entry.kind) {
    case BatchEntry::Kind::blocks:
      return is_range(entry.lbn.value, entry.blocks) && entry.slot < kBatchSlots &&
             entry.blocks <= kBatchSlots - entry.slot;
    case BatchEntry::Kind::zero:
      return is_range(entry.lbn.value, entry.blocks);
    case BatchEntry::Kind::resize:
      return is_disk_size(entry.disk_bytes);
    case BatchEntry::Kind::close:
      return entry.sequence.value > 0;
  }
  return false;
}

/// The fields as words, without the tag.
EntryWords entry_words(const BatchEntry& entry) noexcept {
  const std::uint64_t flush = entry.flush_mark ? 1 : 0;
  EntryWords words{};
  words[0] = static_cast<std::uint64_t>(entry.kind) | (flush << kFlushShift) |
             (std::uint64_t{entry.slot} << kSlotShift);
  words[1] = entry.lbn.value | entry.disk_bytes | entry.sequence.value;  // at most one is set
  words[2] = entry.blocks;
  return words;
}

}  // namespace

std::uint64_t load_word(ByteSpan memory, std::size_t place) noexcept {
  VMS_ASSERT(place % kWordBytes == 0 && place + kWordBytes <= memory.size());
  std::uint64_t word = 0;
  std::memcpy(&word, memory.data() + place, sizeof word);
  return word;
}

std::uint64_t encode_count(std::uint64_t count) noexcept {
  VMS_ASSERT(count >> kCountBits == 0);  // 2^48 entries: 1,000 years of 9,000 a second
  return count | (xxh3(std::as_bytes(std::span(&count, 1))) << kCountBits);
}

Result<std::uint64_t> decode_count(std::uint64_t word) {
  const std::uint64_t count = word & ((std::uint64_t{1} << kCountBits) - 1);
  if (encode_count(count) != word) return Errc::corrupt;
  return count;
}

StaticWords encode_static(const BatchFileIdentity& identity) noexcept {
  StaticWords words = {kMagic,
                       kVersion,
                       identity.store.high,
                       identity.store.low,
                       identity.disk.high,
                       identity.disk.low,
                       identity.boot.high,
                       identity.boot.low,
                       0,  // flags
                       kBatchEntries,
                       kBatchSlots,
                       limits::kBatchFileBytes,
                       0};
  words.back() = static_sum(words);
  return words;
}

StateWords encode_state(const BatchFileState& state, std::uint64_t number) noexcept {
  StateWords words = {number,
                      state.epochs[0].value,
                      state.epochs[1].value,
                      state.takeover_base.value_or(Sequence()).value,
                      state.takeover_base ? kTakeoverFlag : 0,
                      state.guest.pid,
                      state.guest.start_time,
                      0};
  words.back() = xxh3(std::as_bytes(std::span(words).first(words.size() - 1)));
  return words;
}

Result<BatchFileState> decode_state(const StateWords& words, std::uint64_t number) {
  BatchFileState state;
  state.epochs = {Epoch(words[1]), Epoch(words[2])};
  if ((words[4] & kTakeoverFlag) != 0) state.takeover_base = Sequence(words[3]);
  state.guest = {words[5], words[6]};
  // Whatever encode_state() cannot produce is damage: the sum, the number, flags, reserved values.
  if (encode_state(state, number) != words) return Errc::corrupt;
  return state;
}

EntryWords encode_entry(const BatchEntry& entry, std::uint64_t position) noexcept {
  VMS_ASSERT(is_possible(entry));
  EntryWords words = entry_words(entry);
  words.back() = entry_tag(words, position);
  return words;
}

Result<BatchEntry> decode_entry(const EntryWords& words, std::uint64_t position) {
  if (words.back() != entry_tag(words, position)) return Errc::corrupt;
  BatchEntry entry;
  entry.kind = static_cast<BatchEntry::Kind>(words[0] & kKindMask);
  switch (entry.kind) {
    case BatchEntry::Kind::blocks:
      entry.slot = static_cast<std::uint32_t>((words[0] >> kSlotShift) & kSlotMask);
      [[fallthrough]];
    case BatchEntry::Kind::zero:
      entry.lbn = Lbn(words[1]);
      entry.blocks = words[2];
      break;
    case BatchEntry::Kind::resize:
      entry.disk_bytes = words[1];
      break;
    case BatchEntry::Kind::close:
      entry.sequence = Sequence(words[1]);
      entry.flush_mark = ((words[0] >> kFlushShift) & 1) != 0;
      break;
    default:
      return Errc::corrupt;
  }
  if (!is_possible(entry)) return Errc::corrupt;
  EntryWords again = entry_words(entry);
  again.back() = words.back();
  if (again != words) return Errc::corrupt;  // reserved bits are set
  return entry;
}

}  // namespace vmstore::disk::batch_format
