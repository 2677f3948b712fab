// SPDX-License-Identifier: Apache-2.0
// The keys of the catalogue; values are in meta/records.proto. docs/format/metadata.md.
//
//   /store                       StoreRecord
//   /key-counter                 KeyCounter: next 33-bit key number never handed out
//   /node/<node id>              NodeRecord
//   /disk/<disk id>              DiskRecord
//   /name/<name>                 16 bytes: disk id (created and removed in one txn with the disk)
//   /snap/<disk id>/<snap name>  SnapshotRecord
//   /trash/<disk id>             DiskRecord of a removed disk
//   /trashsnap/<disk id>/<name>  SnapshotRecord of a removed disk
//   /gc                          GcRecord
#pragma once

#include <string>
#include <string_view>

#include "base/ids.h"

namespace vmstore::meta {

inline constexpr std::uint32_t kStoreFormat = 1;
inline constexpr std::uint64_t kFirstRevision = 1;  // of a store without changes

inline constexpr std::string_view kStoreKey = "/store";
inline constexpr std::string_view kKeyCounterKey = "/key-counter";
inline constexpr std::string_view kNodePrefix = "/node/";
inline constexpr std::string_view kDiskPrefix = "/disk/";
inline constexpr std::string_view kNamePrefix = "/name/";
inline constexpr std::string_view kSnapPrefix = "/snap/";
inline constexpr std::string_view kTrashPrefix = "/trash/";
inline constexpr std::string_view kTrashSnapPrefix = "/trashsnap/";
inline constexpr std::string_view kGcKey = "/gc";

[[nodiscard]] inline std::string disk_key(DiskId id) {
  return std::string(kDiskPrefix) + id.hex();
}
[[nodiscard]] inline std::string name_key(std::string_view name) {
  return std::string(kNamePrefix).append(name);
}
[[nodiscard]] inline std::string snap_prefix(DiskId id) {
  return std::string(kSnapPrefix) + id.hex() + "/";
}
[[nodiscard]] inline std::string snap_key(DiskId id, std::string_view name) {
  return snap_prefix(id).append(name);
}
[[nodiscard]] inline std::string trash_key(DiskId id) {
  return std::string(kTrashPrefix) + id.hex();
}
[[nodiscard]] inline std::string trash_snap_prefix(DiskId id) {
  return std::string(kTrashSnapPrefix) + id.hex() + "/";
}

}  // namespace vmstore::meta
