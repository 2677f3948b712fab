// SPDX-License-Identifier: Apache-2.0
// RocksTables: the catalogue in RocksDB, with blocking calls; RocksStore puts them on workers.
// docs/format/metadata.md says what lies in the folder.
//
// Invariants: a change is in the write-ahead log and synced before apply() returns; after a write
// that failed nothing is believed, read or written until the folder is opened again, because what
// of it will be found then is not known; the format is looked at before RocksDB may change a file.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "meta/meta_store.h"
#include "meta/watch_hub.h"

namespace vmstore::meta {

inline constexpr std::uint32_t kRocksFormat = 1;

/// THREADS: any; apply(), compact() and restore() one at a time.
class RocksTables {
 public:
  /// `not_found`: no such folder · `unknown`: an empty one, or one whose making or content was cut
  /// short · `foreign_store`: holds something else · `newer_format` · `corrupt` · `busy`: used by
  /// another process.
  [[nodiscard]] static Result<std::unique_ptr<RocksTables>> open(const std::string& folder);
  /// Makes the store, with this content and revision, in a folder that exists and is empty (or
  /// holds a making that was cut short); else `exists` or `foreign_store`.
  [[nodiscard]] static Result<std::unique_ptr<RocksTables>> create(const std::string& folder,
                                                                   const Changes& content,
                                                                   std::uint64_t revision);
  RocksTables(const RocksTables&) = delete;
  RocksTables& operator=(const RocksTables&) = delete;
  ~RocksTables();

  [[nodiscard]] Result<std::uint64_t> revision();
  [[nodiscard]] Result<GetAnswer> get(const std::string& key);
  [[nodiscard]] Result<RangeAnswer> range(const RangeRequest& request);

  struct Applied {
    TxnAnswer answer;
    Changes changes;
  };
  /// The transactions one after the other, made durable together; the answers in the same order.
  /// After an error none of them was applied, except `unknown`: nobody can tell.
  [[nodiscard]] Result<std::vector<Applied>> apply(std::span<const Txn> txns);

  struct History {
    Changes changes;
    std::uint64_t through = 0;   // complete up to this revision
    std::uint64_t revision = 0;  // the store's
  };
  /// Changes from revision `from` on, at least one revision's if there is one, about `changes_max`.
  [[nodiscard]] Result<History> history(std::uint64_t from, std::size_t changes_max);

  /// Gives up what is seen only below revision `to`, and frees at most `changes_max` old changes.
  /// True if more could be freed.
  [[nodiscard]] Result<bool> compact(std::uint64_t to, std::size_t changes_max);
  /// See RestorableStore.
  [[nodiscard]] Result<void> restore(const Changes& changes, std::uint64_t revision);
  /// Of the store when it was opened.
  [[nodiscard]] std::uint64_t opened_revision() const noexcept { return opened_revision_; }
  /// True after a write that failed: every later call is `unavailable`.
  [[nodiscard]] bool is_failed() const noexcept;
  /// Ends the store's use of the folder. Nothing else may be called afterwards.
  [[nodiscard]] Result<void> close();

 private:
  class Reader;
  struct Parts;
  struct Pending;
  [[nodiscard]] static Result<bool> holds_all(Reader& reader,
                                              const Txn& txn,
                                              const Pending& pending);
  explicit RocksTables(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
  std::uint64_t opened_revision_ = 0;
};

}  // namespace vmstore::meta
