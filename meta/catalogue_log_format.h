// SPDX-License-Identifier: Apache-2.0
// The bytes of a catalogue log, as docs/format/catalogue_log.md describes them: a header, groups of
// changes that are a whole copy of the catalogue (the base), then one group per append.
//
// Invariants: the base was durable before the file had its name, and at most one group behind it is
// being written at a time; so an unreadable group is the torn end only if it is the last one and a
// piece of it never reached the device. Anything else unreadable is damage: `unknown`, never a
// shorter catalogue.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/limits.h"
#include "base/result.h"
#include "meta/meta_store.h"
#include "meta/watch_hub.h"

namespace vmstore::meta {

/// The catalogue at one revision: entries that are there, by key.
struct Image {
  std::map<std::string, Entry> entries;
  std::uint64_t revision = 0;
};

namespace log_format {

inline constexpr std::uint32_t kFormat = 1;
inline constexpr std::size_t kHeaderBytes = 64;
inline constexpr std::size_t kGroupHeadBytes = 48;
inline constexpr std::size_t kGroupTailBytes = 8;
inline constexpr std::size_t kGroupPayloadMax = 1 * limits::kMiB;
inline constexpr std::uint64_t kFileBytesMax = 2 * limits::kGiB;

struct Header {
  std::uint64_t base_groups = 0;
  std::uint64_t base_bytes = 0;  // header included
  std::uint64_t revision = 0;    // of the base
};

[[nodiscard]] std::vector<std::byte> encode_header(const Header& header);
/// `foreign_store`, `newer_format` or `unknown`.
[[nodiscard]] Result<Header> decode_header(ByteSpan file);

/// Bytes of `change` in a group's payload.
[[nodiscard]] std::size_t payload_bytes(const Event& change);
/// REQUIRES: the payload bytes of the changes are at most kGroupPayloadMax.
[[nodiscard]] std::vector<std::byte> encode_group(std::uint64_t number,
                                                  std::uint64_t revision,
                                                  const Changes& changes);

/// What a whole file says.
struct Scan {
  Image image;
  std::uint64_t groups = 0;
  std::uint64_t last_group_at = 0;  // where the last whole group begins; 0 = there is none
  std::uint64_t bytes = 0;          // of the file, up to the end of the last whole group
  std::uint64_t torn_bytes = 0;     // behind it
};
/// `foreign_store`, `newer_format`, or `unknown` for damage.
[[nodiscard]] Result<Scan> scan(ByteSpan file);

}  // namespace log_format
}  // namespace vmstore::meta
