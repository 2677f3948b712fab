// SPDX-License-Identifier: Apache-2.0
// Startup: the node and the catalogue meet: is it the same store, is either of them older than the
// other remembers, how often did this node start (DESIGN 2 "node") [H4, R12].
//
// The folder counts the node's starts and so does the node's record in the catalogue. A start
// raises the folder's count first, synced, then the catalogue's, so that without anything having
// gone back the folder is equal or one ahead.
// Folder below catalogue: the folder was rolled back (a copy from yesterday). What it says it has
// may be less than it once acknowledged, so it gets a new incarnation and no length of it is
// believed. Folder ahead by more than one: the catalogue was rolled back; refused, and
// `vmstored --rebuild-meta` helps. Catalogue without a count: it takes the folder's.
#pragma once

#include <string>

#include "base/random.h"
#include "base/result.h"
#include "base/scheduler.h"
#include "base/task.h"
#include "meta/meta_store.h"
#include "meta/records.h"
#include "storaged/identity.h"

namespace vmstore::storaged {

/// A node's record in the catalogue when it is first written; the address is added at its start.
[[nodiscard]] meta::pb::NodeRecord node_record(const Identity& identity);

/// Makes the catalogue of a new store, or checks it, and counts this start. On return folder and
/// catalogue agree and both are durable. `foreign_store`: the catalogue is another store's.
/// `newer_format`. `corrupt`: it is empty or older than the folder knows. Each is logged. The
/// node's record says where others reach it (`address`); weight and zone stay what they are there.
[[nodiscard]] Task<Result<void>> join_catalogue(Scheduler& scheduler,
                                                meta::MetaStore& store,
                                                DataFolder& folder,
                                                Random& random,
                                                std::string address);

}  // namespace vmstore::storaged
