// SPDX-License-Identifier: Apache-2.0
// Places and codecs of the batch file; private to batch_file*.cc. docs/format/batch_file.md.
//
// Invariant: every field is one aligned word of 8 bytes, so that a single store changes it whole.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>

#include "base/assert.h"
#include "disk/batch_file.h"

namespace vmstore::disk::batch_format {

inline constexpr std::size_t kWordBytes = 8;
inline constexpr std::uint64_t kMagic = 0x4843544142534d56;  // "VMSBATCH"
inline constexpr std::uint64_t kVersion = 1;
inline constexpr std::uint64_t kIndexBlocks = std::uint64_t{1} << 36;

// The header. Each line below begins a cache line of its own.
inline constexpr std::size_t kMagicAt = 0;
inline constexpr std::size_t kVersionAt = 8;
inline constexpr std::size_t kChecksumAt = 96;
inline constexpr std::size_t kStateNumberAt = 128;
inline constexpr std::array<std::size_t, 2> kStateAt = {192, 256};
inline constexpr std::size_t kPublishedAt = 320;
inline constexpr std::size_t kReleasedAt = 384;

using StaticWords = std::array<std::uint64_t, kChecksumAt / kWordBytes + 1>;
using StateWords = std::array<std::uint64_t, 8>;
using EntryWords = std::array<std::uint64_t, kBatchEntryBytes / kWordBytes>;

[[nodiscard]] inline std::size_t entry_place(std::uint64_t position) noexcept {
  return kBatchHeaderBytes + static_cast<std::size_t>(position % kBatchEntries) * kBatchEntryBytes;
}
[[nodiscard]] inline std::size_t slot_place(std::uint32_t slot) noexcept {
  return kBatchSlotsOffset + std::size_t{slot} * kBlockBytes;
}

/// One word, little-endian. Words are loaded one by one: a field is never seen half changed.
[[nodiscard]] std::uint64_t load_word(ByteSpan memory, std::size_t place) noexcept;
template <std::size_t kCount>
[[nodiscard]] std::array<std::uint64_t, kCount> load_words(ByteSpan memory,
                                                           std::size_t place) noexcept {
  std::array<std::uint64_t, kCount> words{};
  for (std::size_t i = 0; i < kCount; ++i) words[i] = load_word(memory, place + i * kWordBytes);
  return words;
}

/// `published` and `released`: 48 bits of count below 16 bits of check, so that one store changes
/// both and a damaged count is never taken for a smaller one. `corrupt`: they do not match.
[[nodiscard]] std::uint64_t encode_count(std::uint64_t count) noexcept;
[[nodiscard]] Result<std::uint64_t> decode_count(std::uint64_t word);

/// With its checksum as the last word.
[[nodiscard]] StaticWords encode_static(const BatchFileIdentity& identity) noexcept;
[[nodiscard]] StateWords encode_state(const BatchFileState& state, std::uint64_t number) noexcept;
[[nodiscard]] Result<BatchFileState> decode_state(const StateWords& words, std::uint64_t number);
/// With its tag, which depends on `position`: an entry of an earlier lap of the ring is seen.
[[nodiscard]] EntryWords encode_entry(const BatchEntry& entry, std::uint64_t position) noexcept;
/// `corrupt` for a wrong tag or any value out of bounds.
[[nodiscard]] Result<BatchEntry> decode_entry(const EntryWords& words, std::uint64_t position);

}  // namespace vmstore::disk::batch_format
