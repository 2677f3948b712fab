// SPDX-License-Identifier: Apache-2.0
// OwnedRecord: the catalogue record of a disk while this session holds (or takes) its token.
//
// Invariants: every change is a compare-and-set against the record as last seen; a record whose
// epoch is no longer ours means fenced: `stale_token`, for ever (I3).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/sync.h"
#include "disk/catalogue.h"

namespace vmstore::disk {

using TokenNonce = Id128<struct TokenNonceTag>;

/// THREADS: the scheduler's.
class OwnedRecord {
 public:
  using Change = std::function<void(meta::pb::DiskRecord&)>;

  OwnedRecord(Scheduler& scheduler, Catalogue& catalogue)
      : catalogue_(catalogue), mutex_(scheduler) {}

  [[nodiscard]] const meta::pb::DiskRecord& get() const noexcept { return disk_.record; }
  [[nodiscard]] DiskId id() const noexcept { return disk_id_of(disk_.record); }
  [[nodiscard]] Epoch epoch() const noexcept { return epoch_; }
  void adopt(VersionedDisk disk) { disk_ = std::move(disk); }

  /// Takes the token: CAS to epoch+1 with `state` from the record as adopted. `conflict` when
  /// somebody else was faster. `nonce` is random: two sessions that race for one epoch never write
  /// equal records, so that after a lost answer nobody takes the other's success for its own.
  [[nodiscard]] Task<Result<void>> take_token(meta::pb::DiskRecord::State state, TokenNonce nonce);
  /// Applies `change` to the newest record and stores it, again after a conflict that left the
  /// epoch ours. `more_compares` that fail give `conflict`.
  [[nodiscard]] Task<Result<void>> change(Change change,
                                          std::vector<meta::Compare> more_compares = {},
                                          std::vector<meta::Op> more_ops = {});

 private:
  Catalogue& catalogue_;
  TaskMutex mutex_;
  VersionedDisk disk_;
  Epoch epoch_;
};

}  // namespace vmstore::disk
