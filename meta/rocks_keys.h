// SPDX-License-Identifier: Apache-2.0
// The rows of the catalogue in RocksDB, as docs/format/metadata.md describes them.
//
//   "k" key 0x00 ~revision  ->  0x01 value | 0x00 (removed)    newest version of a key first
//   "r" revision key        ->  (empty)                         what changed at a revision
//   "mrevision", "mcompacted" -> number
//
// Numbers in row names are 8 bytes big-endian, so that rows sort by them; numbers in values are
// little-endian. Keys hold no 0x00, so the rows of one key are together and in the order of keys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace vmstore::meta::rocks {

inline constexpr std::string_view kRevisionRow = "mrevision";
inline constexpr std::string_view kCompactedRow = "mcompacted";

struct Row {
  std::string_view key;  // points into the row's name
  std::uint64_t revision = 0;
};

[[nodiscard]] std::string version_row(std::string_view key, std::uint64_t revision);
[[nodiscard]] Result<Row> parse_version_row(std::string_view name);
/// The first name behind all versions of `key` and not behind those of any later key.
[[nodiscard]] std::string end_of_versions(std::string_view key);
/// The first name at which versions of keys with `prefix` can lie.
[[nodiscard]] std::string first_row(std::string_view prefix);
/// The first name behind all versions of keys with `prefix`.
[[nodiscard]] std::string end_of_prefix(std::string_view prefix);

[[nodiscard]] std::string change_row(std::uint64_t revision, std::string_view key);
[[nodiscard]] Result<Row> parse_change_row(std::string_view name);
/// The first name behind all changes up to and including `revision`.
[[nodiscard]] std::string end_of_changes(std::uint64_t revision);

[[nodiscard]] std::string put_value(std::string_view value);
[[nodiscard]] std::string removed_value();
/// The value, or empty for a removal; `corrupt` for anything else.
[[nodiscard]] Result<std::optional<std::string>> parse_value(std::string_view bytes);

[[nodiscard]] std::string encode_number(std::uint64_t number);
[[nodiscard]] Result<std::uint64_t> decode_number(std::string_view bytes);

}  // namespace vmstore::meta::rocks
