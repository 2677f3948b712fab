// SPDX-License-Identifier: Apache-2.0
// RestorableStore: a MetaStore whose whole content is at hand and can be set from a catalogue log.
#pragma once

#include <cstdint>
#include <vector>

#include "meta/meta_store.h"

namespace vmstore::meta {

class RestorableStore : public MetaStore {
 public:
  /// Makes `changes`, sorted by the revisions they carry, in one durable step, after which the
  /// store has `revision`: the way back for changes that a catalogue log kept and the store lost.
  /// What lies between in the history is gone: it counts as compacted. `invalid_argument` if a
  /// change is not above the store's revision, or is above `revision`. Watches are told.
  [[nodiscard]] virtual Task<Result<void>> restore(std::vector<Event> changes,
                                                   std::uint64_t revision) = 0;
};

}  // namespace vmstore::meta
