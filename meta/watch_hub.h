// SPDX-License-Identifier: Apache-2.0
// WatchHub: the watches of one MetaStore object, and how changes get to them.
//
// Invariants: a watch is told of each change once, in revision order, from callbacks of their own
// (never inside a call of the store or of publish()); all events of one revision are told in one
// go; a watch that was destroyed is told nothing more, even inside its own callback.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/scheduler.h"
#include "meta/meta_store.h"

namespace vmstore::meta {

/// Changes in revision order; all of a revision or none.
using Changes = std::vector<Event>;

/// THREADS: the scheduler's.
class WatchHub {
 public:
  struct State;  // of one watch

  explicit WatchHub(Scheduler& scheduler) : scheduler_(scheduler) {}
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;
  ~WatchHub();

  /// A watch that is told of changes from `first_revision` on. It holds what is published back
  /// until start(), while the store hands it the changes of the past with catch_up().
  [[nodiscard]] std::shared_ptr<State> add(std::string prefix,
                                           std::uint64_t first_revision,
                                           MetaStore::WatchCallback callback);
  /// Changes up to and including revision `through`, which follow those handed in before.
  void catch_up(const std::shared_ptr<State>& watch, const Changes& past, std::uint64_t through);
  /// From now on the watch follows publish(). The handle that keeps it alive.
  [[nodiscard]] std::unique_ptr<Watch> start(std::shared_ptr<State> watch);
  /// Tells all watches of changes that were made just now.
  void publish(const Changes& changes);

 private:
  static void tell(const std::shared_ptr<State>& watch, const Changes& changes);
  Scheduler& scheduler_;
  std::vector<std::weak_ptr<State>> watches_;
};

}  // namespace vmstore::meta
