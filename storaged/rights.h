// SPDX-License-Identifier: Apache-2.0
// What a session may ask of the node, by its role: one table, looked at before anything is done.
//
// Invariants: what the table does not name is refused, for every role.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "meta/meta_store.h"
#include "net/certificate_name.h"
#include "net/connection.h"
#include "wire/frame.h"

namespace vmstore::storaged {

struct NodeOptions;

/// The role of a peer: its certificate's; of a unix socket's, admin for root and the node's own
/// user. Empty: it may nothing at all.
[[nodiscard]] std::optional<net::Role> role_of(const net::PeerCredentials& peer,
                                               const NodeOptions& options);

/// Whether the table names it: a request that clients may send.
[[nodiscard]] bool is_known(wire::Opcode opcode) noexcept;
/// Whether such a session may send such a request after its hello.
[[nodiscard]] bool may_ask(net::Role role, wire::Opcode opcode) noexcept;

/// Whether it may send this one: who only reads may not fence by reading, nor ask a holder for
/// anything but to be read; a client draws one range of key numbers at a time. `permission`, or
/// the error of a message that cannot be read.
[[nodiscard]] Result<void> check_request(net::Role role, const wire::Frame& request);

/// Narrows a client's change of the catalogue to what serving a disk takes: the record of a disk
/// that is there and has a name that `disks` is for (see net::is_for_disk), but for what makes it
/// that disk (name, copies, settings), and its snapshots. Adds compares, so that what was looked at
/// is still so when the change is made; one that fails is a conflict like any other. `permission`
/// for anything else: making, naming and removing disks is an admin's.
[[nodiscard]] Task<Result<meta::Txn>> narrow_for_client(meta::MetaStore& store,
                                                        meta::Txn txn,
                                                        std::vector<std::string> disks);

}  // namespace vmstore::storaged
