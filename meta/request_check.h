// SPDX-License-Identifier: Apache-2.0
// What every MetaStore refuses in the same way, and how a compare is decided.
#pragma once

#include <optional>

#include "base/result.h"
#include "meta/meta_store.h"

namespace vmstore::meta {

/// `invalid_argument` for what no store may accept; see MetaStore.
[[nodiscard]] Result<void> check_key(std::string_view key);
[[nodiscard]] Result<void> check_prefix(std::string_view prefix);
[[nodiscard]] Result<void> check_txn(const Txn& txn);
[[nodiscard]] Result<void> check_range(const RangeRequest& request);

/// Whether `compare` holds for the present entry of its key.
[[nodiscard]] bool holds(const Compare& compare, const std::optional<Entry>& entry);

/// Counts the bytes of an answer's entries.
class RangeBudget {
 public:
  explicit RangeBudget(const RangeRequest& request) : entries_left_(request.limit) {}
  /// False when the answer is full; an answer always takes its first entry.
  [[nodiscard]] bool take(const Entry& entry);

 private:
  std::uint64_t entries_left_;
  std::uint64_t bytes_ = 0;
};

}  // namespace vmstore::meta
