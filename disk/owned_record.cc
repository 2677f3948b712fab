// SPDX-License-Identifier: Apache-2.0
// Steps of docs/protocol/ownership.pml: take the token, name the key.
#include "disk/owned_record.h"

#include <utility>

#include "meta/records.h"

namespace vmstore::disk {
namespace {
constexpr int kConflictRetries = 16;
}

Task<Result<void>> OwnedRecord::take_token(meta::pb::DiskRecord::State state, TokenNonce nonce) {
  const auto lock = co_await mutex_.lock();
  meta::pb::DiskRecord wanted = disk_.record;
  wanted.set_epoch(wanted.epoch() + 1);
  wanted.set_state(state);
  *wanted.mutable_token_nonce() = meta::to_pb(nonce);
  VMS_CO_CHECK(co_await catalogue_.update(disk_, std::move(wanted)));
  epoch_ = Epoch(disk_.record.epoch());
  co_return success();
}

Task<Result<void>> OwnedRecord::change(Change change,
                                       std::vector<meta::Compare> more_compares,
                                       std::vector<meta::Op> more_ops) {
  const auto lock = co_await mutex_.lock();
  for (int attempt = 0; attempt < kConflictRetries; ++attempt) {
    if (Epoch(disk_.record.epoch()) != epoch_) co_return Errc::stale_token;
    meta::pb::DiskRecord wanted = disk_.record;
    change(wanted);
    auto compares = more_compares;
    auto ops = more_ops;
    const auto outcome =
        co_await catalogue_.update(disk_, std::move(wanted), std::move(compares), std::move(ops));
    if (outcome || outcome.error() != Error(Errc::conflict)) co_return outcome;
    auto newest = co_await catalogue_.disk_by_id(id());
    if (!newest) {
      co_return newest.error() == Errc::not_found ? Error(Errc::stale_token) : newest.error();
    }
    const bool ours_unchanged = newest->revision == disk_.revision;
    disk_ = std::move(*newest);
    if (ours_unchanged) co_return Errc::conflict;  // it was one of more_compares
  }
  co_return Errc::conflict;
}

}  // namespace vmstore::disk
