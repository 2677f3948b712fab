// SPDX-License-Identifier: Apache-2.0
// The run folder of one host's VMStore: where `vmstore up` keeps its sockets.
//
//   vmstored.sock  the node        control.sock  the supervisor        up.lock  one `up` at a time
//   nbd/NAME.sock  one per attached disk; '/' of a group is written '~', which no name contains
//
// Invariants: the folder is 0700 and ours (0750 of a group that may use the disks, if one was
// named), or it is refused; no name of a disk can leave nbd/ or collide with another's socket; a
// socket's path fits a sockaddr_un.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "cli/failure.h"

namespace vmstore::cli {

/// /run/vmstore for root where it can be made, else /dev/shm/vmstore-<uid>.
[[nodiscard]] std::string default_run_folder();

/// The users, besides ours, that may connect to attached disks.
struct SocketGroup {
  std::string name;
  gid_t id = 0;
};
/// `usage` when there is no such group.
[[nodiscard]] Answer<SocketGroup> find_group(const std::string& name);

/// Makes the folder (and nbd/ in it), mode 0700, or 0750 of that group; refuses one that is not
/// ours.
[[nodiscard]] Answer<void> make_run_folder(const std::string& folder,
                                           const std::optional<SocketGroup>& group = {});
/// Lets the group connect to a socket that we made: 0660.
[[nodiscard]] Answer<void> open_to_group(const std::string& socket, const SocketGroup& group);

[[nodiscard]] std::string node_socket(std::string_view run_folder);
[[nodiscard]] std::string control_socket(std::string_view run_folder);
/// Remembers which store the node here served, until a planned stop.
[[nodiscard]] std::string store_file(std::string_view run_folder);
/// Of an export, NAME or NAME@SNAP. A path that would be too long for a socket gets a hash instead
/// of its tail. REQUIRES: a valid reference.
[[nodiscard]] std::string nbd_socket(std::string_view run_folder, std::string_view reference);
/// nbd+unix:///NAME?socket=PATH, as libnbd, QEMU and nbdinfo read it.
[[nodiscard]] std::string nbd_uri(std::string_view reference, std::string_view socket);

}  // namespace vmstore::cli
