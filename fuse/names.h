// SPDX-License-Identifier: Apache-2.0
// Names of files and what they stand for. Pure: says what could be there, not what is.
//
//   /NAME.raw              a disk               /.snap/NAME@SNAP.raw         a snapshot
//   /GROUP/NAME.raw        a disk of a group    /.snap/GROUP/NAME@SNAP.raw   and of a group
//
// Disk names begin with a letter or digit, so `.snap` is never one.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vmstore::fuse {

enum class Kind { root, group, disk, snap_root, snap_group, snapshot };

/// One file or folder.
struct Place {
  Kind kind = Kind::root;
  std::string name;  // group: GROUP; disk: [GROUP/]NAME; snapshot: [GROUP/]NAME@SNAP; else empty
  friend auto operator<=>(const Place&, const Place&) = default;
};

[[nodiscard]] bool is_folder(Kind kind) noexcept;

/// The file that `entry` would be in `folder`; empty when it can only be a folder, or nothing.
[[nodiscard]] std::optional<Place> file_in(const Place& folder, std::string_view entry);
/// The folder that `entry` would be in `folder`; a file of that name goes first.
[[nodiscard]] std::optional<Place> folder_in(const Place& folder, std::string_view entry);

/// The last part of its path.
[[nodiscard]] std::string entry_name(const Place& place);
/// The group of a disk or snapshot name, or empty.
[[nodiscard]] std::string_view group_of(std::string_view name) noexcept;

}  // namespace vmstore::fuse
