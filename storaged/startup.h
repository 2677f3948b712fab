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

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/random.h"
#include "base/result.h"
#include "base/scheduler.h"
#include "base/task.h"
#include "meta/meta_store.h"
#include "meta/records.h"
#include "storaged/identity.h"

namespace vmstore::storaged {

/// A node's record in the catalogue when it is first written; its place is added at its start.
[[nodiscard]] meta::pb::NodeRecord node_record(const Identity& identity);

/// What a node's record says of it besides its identity.
struct NodePlace {
  std::string address;                  // where others reach it; empty: on its host only
  std::string certificate;              // name in the one that it shows there; empty: it shows none
  std::optional<std::string> zone;      // none: what the record has
  std::optional<std::uint32_t> weight;  // none: what the record has; 1 in a new one
};

/// Whether a node may have this place beside the others of its store. `exists`: another one shows a
/// certificate of that name, by which the two could pass for each other. `conflict`: it has never
/// started, and an older one says not where it is reached, so that neither could ask the other.
/// Each is logged.
[[nodiscard]] Task<Result<void>> check_place_among(meta::MetaStore& store,
                                                   const Identity& identity,
                                                   const NodePlace& place);

/// Whether this very node is served at an address already.
using IsServedAt = std::function<Task<bool>(std::string address)>;

/// Makes the catalogue of a new store, or checks it, and counts this start. On return folder and
/// catalogue agree and both are durable. `foreign_store`: the catalogue is another store's.
/// `newer_format`. `corrupt`: it is empty or older than the folder knows. `busy`: the node is
/// served where its record says, so that this folder is a copy. Each is logged.
[[nodiscard]] Task<Result<void>> join_catalogue(Scheduler& scheduler,
                                                meta::MetaStore& store,
                                                DataFolder& folder,
                                                Random& random,
                                                NodePlace place,
                                                IsServedAt is_served_at = {});

}  // namespace vmstore::storaged
