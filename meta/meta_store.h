// SPDX-License-Identifier: Apache-2.0
// MetaStore: the interface of the catalogue. Backends: rocks (one node), mem (tests), remote (a
// client of a node's metadata API, in net/), later etcd.
//
// Invariants: revisions are one rising 64-bit sequence, a successful txn with at least one
// operation takes exactly one; every decision is a compare inside a txn, never a plain read; an
// answer that was lost is `unknown`/`disconnected`/`timed_out`: read, compare, then decide. A store
// without changes has revision 1. What breaks a maximum of base/limits.h, a key that is empty or
// holds a NUL, and a key named twice in one list are `invalid_argument`. A revision above the
// store's is `unknown`: the store has lost changes, or this is another one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/task.h"

namespace vmstore::meta {

struct Entry {
  std::string key;
  std::string value;
  std::uint64_t mod_revision = 0;  // revision of the txn that wrote it
};

struct GetAnswer {
  std::optional<Entry> entry;  // empty: certainly not there
  std::uint64_t revision = 0;  // the store's revision of this answer
};

struct Compare {
  std::string key;
  /// mod_revision equals (0 of a key that is not there) · value equals · key exists (or not).
  std::variant<std::uint64_t, std::string, bool> what;
};

struct Op {
  std::string key;
  std::optional<std::string> put;  // empty: remove
};

struct Txn {
  std::vector<Compare> compares;
  std::vector<Op> then_ops;
  std::vector<Op> else_ops;
};

struct TxnAnswer {
  bool held = false;           // whether all compares held; tells which list was applied
  std::uint64_t revision = 0;  // the one it took, or the store's if the list was empty
};

struct RangeRequest {
  std::string prefix;
  std::string after;           // continue behind this key; empty = from the start
  std::uint32_t limit = 1000;  // an answer may hold fewer and still say `more`
  std::uint64_t revision = 0;  // 0 = now; else exactly that one, or `compacted`
};
struct RangeAnswer {
  std::vector<Entry> entries;  // sorted by key
  bool more = false;
  std::uint64_t revision = 0;
};

struct Event {
  Entry entry;           // of a removed key: empty value, the revision of the removal
  bool removed = false;  // also told of a key that was not there when it was removed
  bool last = true;      // no more events of this revision come to this watch
  /// No change: those up to this revision that were not told are lost to this watch, because the
  /// history was compacted while the store could not be reached. What is there must be read anew.
  bool gap = false;
};

/// Whether a change that was answered so may have been made all the same: the answer was lost, or
/// the store cannot tell. Somebody must look; what only reads may simply be asked again.
[[nodiscard]] constexpr bool is_outcome_unknown(const Error& error) noexcept {
  return error == Errc::disconnected || error == Errc::timed_out || error == Errc::unknown ||
         error == Errc::unavailable;
}

/// Keeps a watch alive; destroying it ends the watch.
class Watch {
 public:
  virtual ~Watch() = default;
};

/// THREADS: the scheduler of its owner, one call at a time or several.
class MetaStore {
 public:
  MetaStore() = default;
  MetaStore(const MetaStore&) = delete;
  MetaStore& operator=(const MetaStore&) = delete;
  virtual ~MetaStore() = default;

  [[nodiscard]] virtual Task<Result<GetAnswer>> get(std::string key) = 0;
  /// Atomic: all compares against one revision, then one list applied and durable.
  [[nodiscard]] virtual Task<Result<TxnAnswer>> txn(Txn txn) = 0;
  [[nodiscard]] virtual Task<Result<RangeAnswer>> range(RangeRequest request) = 0;
  /// Calls back, on the owner's scheduler, for every change under `prefix` from `from_revision` on
  /// (0 = from now), in revision order. `compacted` if that revision is gone.
  using WatchCallback = std::function<void(const Event&)>;
  [[nodiscard]] virtual Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix,
                                                                   std::uint64_t from_revision,
                                                                   WatchCallback callback) = 0;
  /// False while it refuses every change because something of it failed.
  [[nodiscard]] virtual bool takes_changes() const noexcept { return true; }
};

}  // namespace vmstore::meta
