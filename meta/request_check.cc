// SPDX-License-Identifier: Apache-2.0
#include "meta/request_check.h"

#include <unordered_set>

#include "base/limits.h"

namespace vmstore::meta {
namespace {

Result<void> require(bool condition) {
  if (!condition) return Errc::invalid_argument;
  return success();
}

Result<std::uint64_t> check_ops(const std::vector<Op>& ops) {
  VMS_CHECK(require(ops.size() <= limits::kMetaTxnOpsMax));
  std::unordered_set<std::string_view> keys;
  std::uint64_t bytes = 0;
  for (const Op& op : ops) {
    VMS_CHECK(check_key(op.key));
    VMS_CHECK(require(keys.insert(op.key).second));
    bytes += op.key.size();
    if (!op.put) continue;
    VMS_CHECK(require(op.put->size() <= limits::kMetaValueBytesMax));
    bytes += op.put->size();
  }
  return bytes;
}

}  // namespace

Result<void> check_prefix(std::string_view prefix) {
  return require(prefix.size() <= limits::kMetaKeyBytesMax &&
                 prefix.find('\0') == std::string_view::npos);
}

Result<void> check_key(std::string_view key) {
  VMS_CHECK(require(!key.empty()));
  return check_prefix(key);
}

Result<void> check_txn(const Txn& txn) {
  VMS_CHECK(require(txn.compares.size() <= limits::kMetaTxnOpsMax));
  std::uint64_t bytes = 0;
  for (const Compare& compare : txn.compares) {
    VMS_CHECK(check_key(compare.key));
    bytes += compare.key.size();
    const auto* value = std::get_if<std::string>(&compare.what);
    if (value == nullptr) continue;
    VMS_CHECK(require(value->size() <= limits::kMetaValueBytesMax));
    bytes += value->size();
  }
  VMS_TRY(const std::uint64_t then_bytes, check_ops(txn.then_ops));
  VMS_TRY(const std::uint64_t else_bytes, check_ops(txn.else_ops));
  return require(bytes + then_bytes + else_bytes <= limits::kMetaTxnBytesMax);
}

Result<void> check_range(const RangeRequest& request) {
  VMS_CHECK(check_prefix(request.prefix));
  VMS_CHECK(check_prefix(request.after));
  return require(request.limit >= 1 && request.limit <= limits::kMetaRangeMax);
}

bool holds(const Compare& compare, const std::optional<Entry>& entry) {
  if (const auto* revision = std::get_if<std::uint64_t>(&compare.what)) {
    return (entry ? entry->mod_revision : 0) == *revision;
  }
  if (const auto* value = std::get_if<std::string>(&compare.what)) {
    return entry && entry->value == *value;
  }
  return entry.has_value() == std::get<bool>(compare.what);
}

bool RangeBudget::take(const Entry& entry) {
  const std::uint64_t bytes = entry.key.size() + entry.value.size();
  if (entries_left_ == 0) return false;
  if (bytes_ > 0 && bytes_ + bytes > limits::kMetaRangeBytesMax) return false;
  --entries_left_;
  bytes_ += bytes;
  return true;
}

}  // namespace vmstore::meta
