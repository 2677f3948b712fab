// SPDX-License-Identifier: Apache-2.0
// What a store and its catalogue log must be told so that both agree after a start.
//
// A change is made in the store first, then in the log, then answered. So after a crash the store
// may be ahead by changes that were not answered: the log is told. A store that is behind has lost
// changes that were answered: the log has them.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/task.h"
#include "meta/catalogue_log_format.h"
#include "meta/meta_store.h"
#include "meta/watch_hub.h"

namespace vmstore::meta {

struct Reconciliation {
  Changes for_log;
  Changes for_store;           // sorted by revision
  std::uint64_t revision = 0;  // what both have afterwards
};

/// `foreign_store`: another store's log, or one from before or after a rebuild of the catalogue ·
/// `unknown`: they contradict each other at a revision that both have.
[[nodiscard]] Result<Reconciliation> reconcile(const Image& log, const Image& store);

/// What `newer` has that `older` lacks, sorted by revision. `unknown` if they contradict each other
/// at a revision that both have. REQUIRES: newer.revision >= older.revision.
[[nodiscard]] Result<Changes> missing_changes(const Image& older, const Image& newer);

/// The whole content of a store at one revision.
[[nodiscard]] Task<Result<Image>> read_image(MetaStore& store);

}  // namespace vmstore::meta
