// SPDX-License-Identifier: Apache-2.0
// Strong types for the ids and offsets that more than one folder uses.
//
// Invariant: an Address or KeyId that exists is in range; checked constructors refuse the rest, so
// that no offset arithmetic can overflow 31, 33 or 64 bits.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/assert.h"

namespace vmstore {

inline constexpr std::uint64_t kBlockBytes = 4096;
inline constexpr std::uint64_t kSectorBytes = 512;
inline constexpr std::uint64_t kSectorsPerBlock = kBlockBytes / kSectorBytes;

/// A number that is not interchangeable with other numbers.
template <class Tag>
struct Number {
  std::uint64_t value = 0;
  constexpr Number() = default;
  explicit constexpr Number(std::uint64_t v) noexcept : value(v) {}
  friend constexpr auto operator<=>(const Number&, const Number&) = default;
  [[nodiscard]] constexpr Number next() const noexcept { return Number(value + 1); }
};

/// Logical block number inside a disk, unit 4 KiB.
using Lbn = Number<struct LbnTag>;
/// Place of a record in a disk's log; the first record has sequence 1, 0 means "none".
using Sequence = Number<struct SequenceTag>;
/// A disk's token: the epoch of its owner. 0 means "never owned".
using Epoch = Number<struct EpochTag>;
/// Generation of dedup hits (DESIGN 9); 0 means "no hits used".
using Generation = Number<struct GenerationTag>;
/// One connection's session at a node, unique for the node's start.
using SessionId = Number<struct SessionIdTag>;

/// 33-bit number of a block file. 0..15 are reserved.
class KeyId {
 public:
  static constexpr std::uint64_t kFirst = 16;
  static constexpr std::uint64_t kEnd = std::uint64_t{1} << 33;
  constexpr KeyId() = default;
  /// Empty when `number` does not fit 33 bits.
  [[nodiscard]] static constexpr std::optional<KeyId> make(std::uint64_t number) noexcept {
    if (number >= kEnd) return std::nullopt;
    return KeyId(number);
  }
  [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }
  [[nodiscard]] constexpr bool is_none() const noexcept { return value_ == 0; }
  [[nodiscard]] constexpr bool is_usable() const noexcept { return value_ >= kFirst; }
  /// Nine lower-case hex digits, as in file names.
  [[nodiscard]] std::string hex() const;
  friend constexpr auto operator<=>(const KeyId&, const KeyId&) = default;

 private:
  explicit constexpr KeyId(std::uint64_t number) noexcept : value_(number) {}
  std::uint64_t value_ = 0;
};

/// Index of a 4 KiB block inside a key's data file.
struct BlockIndex {
  static constexpr std::uint64_t kEnd = (std::uint64_t{1} << 31) / kSectorsPerBlock;
  std::uint64_t value = 0;
  friend constexpr auto operator<=>(const BlockIndex&, const BlockIndex&) = default;
};

/// 64-bit block address: key (high 33 bits), offset in 512-byte sectors (low 31 bits).
/// 0 = unmapped, reads as zeros. Raw blocks have the low 3 bits 0; 1..7 is a slot of a packed block
/// (reserved: refused as unsupported).
class Address {
 public:
  constexpr Address() = default;
  /// Empty when the block does not fit the 31-bit offset.
  [[nodiscard]] static constexpr std::optional<Address> make(KeyId key, BlockIndex block) noexcept {
    if (block.value >= BlockIndex::kEnd) return std::nullopt;
    return Address((key.value() << 31) | (block.value * kSectorsPerBlock));
  }
  /// Any 64-bit pattern is an address; what it means is checked where it is used.
  [[nodiscard]] static constexpr Address from_raw(std::uint64_t raw) noexcept {
    return Address(raw);
  }
  [[nodiscard]] constexpr std::uint64_t raw() const noexcept { return raw_; }
  [[nodiscard]] constexpr bool is_unmapped() const noexcept { return raw_ == 0; }
  [[nodiscard]] constexpr KeyId key() const noexcept { return *KeyId::make(raw_ >> 31); }
  [[nodiscard]] constexpr BlockIndex block() const noexcept {
    return {(raw_ & 0x7fffffffU) / kSectorsPerBlock};
  }
  [[nodiscard]] constexpr unsigned slot() const noexcept {
    return static_cast<unsigned>(raw_ & (kSectorsPerBlock - 1));
  }
  /// The address `blocks` further in the same key. REQUIRES: it fits.
  [[nodiscard]] constexpr Address plus(std::uint64_t blocks) const noexcept {
    return Address(raw_ + blocks * kSectorsPerBlock);
  }
  friend constexpr auto operator<=>(const Address&, const Address&) = default;

 private:
  explicit constexpr Address(std::uint64_t raw) noexcept : raw_(raw) {}
  std::uint64_t raw_ = 0;
};

/// 128 random bits: disks, stores, node incarnations, snapshots, boots.
template <class Tag>
struct Id128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  friend constexpr auto operator<=>(const Id128&, const Id128&) = default;
  [[nodiscard]] constexpr bool is_none() const noexcept { return high == 0 && low == 0; }
  /// 32 lower-case hex digits.
  [[nodiscard]] std::string hex() const;
  /// Exactly 32 hex digits, else empty.
  [[nodiscard]] static std::optional<Id128> parse(std::string_view text);
};
using DiskId = Id128<struct DiskIdTag>;
using StoreId = Id128<struct StoreIdTag>;
using SnapshotId = Id128<struct SnapshotIdTag>;
using NodeId = Id128<struct NodeIdTag>;
using Incarnation = Id128<struct IncarnationTag>;
using BootId = Id128<struct BootIdTag>;

/// `{last sequence, log bytes, data blocks}` of a key: how far it reaches.
struct KeyLength {
  Sequence last_sequence;
  std::uint64_t log_bytes = 0;  // length of the log past its 4 KiB head
  BlockIndex blocks;            // number of data blocks
  friend constexpr bool operator==(const KeyLength&, const KeyLength&) = default;
};

/// A place in a disk's log: the record with `sequence` begins at `log_offset` of `key`.
struct LogPosition {
  KeyId key;
  std::uint64_t log_offset = 0;  // bytes past the log's 4 KiB head
  Sequence sequence;
  friend constexpr bool operator==(const LogPosition&, const LogPosition&) = default;
};

}  // namespace vmstore

template <class Tag>
struct std::hash<vmstore::Number<Tag>> {
  std::size_t operator()(const vmstore::Number<Tag>& n) const noexcept {
    return std::hash<std::uint64_t>()(n.value);
  }
};
template <>
struct std::hash<vmstore::KeyId> {
  std::size_t operator()(const vmstore::KeyId& k) const noexcept {
    return std::hash<std::uint64_t>()(k.value());
  }
};
template <>
struct std::hash<vmstore::Address> {
  std::size_t operator()(const vmstore::Address& a) const noexcept {
    return std::hash<std::uint64_t>()(a.raw() / vmstore::kSectorsPerBlock * 0x9e3779b97f4a7c15U);
  }
};
template <class Tag>
struct std::hash<vmstore::Id128<Tag>> {
  std::size_t operator()(const vmstore::Id128<Tag>& id) const noexcept {
    return std::hash<std::uint64_t>()(id.high ^ id.low);
  }
};
