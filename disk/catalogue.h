// SPDX-License-Identifier: Apache-2.0
// Catalogue: typed access to the metadata of disks and snapshots.
//
// Invariants: whatever is changed is compared first, in one transaction (DESIGN 3); a transaction
// whose answer was lost is looked at again before anything is decided [H1]: commit() below returns
// only `held`, `conflict` or an error that leaves the outcome unknown to the caller by its code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/scheduler.h"
#include "base/task.h"
#include "meta/meta_store.h"
#include "meta/records.pb.h"

namespace vmstore::disk {

/// A value of the catalogue together with the revision that wrote it, the handle for compare.
template <class Record>
struct Versioned {
  Record record;
  std::uint64_t revision = 0;
};
using VersionedDisk = Versioned<meta::pb::DiskRecord>;
using VersionedSnapshot = Versioned<meta::pb::SnapshotRecord>;

/// THREADS: the scheduler's. Does not own the store.
class Catalogue {
 public:
  Catalogue(Scheduler& scheduler, meta::MetaStore& store) noexcept
      : scheduler_(scheduler), store_(store) {}

  /// `not_found` when the name certainly does not exist.
  [[nodiscard]] Task<Result<VersionedDisk>> disk_by_name(std::string name);
  [[nodiscard]] Task<Result<VersionedDisk>> disk_by_id(DiskId id);
  [[nodiscard]] Task<Result<VersionedSnapshot>> snapshot(DiskId disk, std::string name);
  [[nodiscard]] Task<Result<std::vector<VersionedSnapshot>>> snapshots(DiskId disk);
  [[nodiscard]] Task<Result<std::vector<VersionedDisk>>> all_disks();
  [[nodiscard]] Task<Result<std::vector<VersionedDisk>>> all_trash();

  /// Replaces a disk's record if it is still the one `disk` was read from, and applies `more` in
  /// the same transaction. On success disk.revision is the new one. `conflict`: somebody else
  /// changed something first. After a lost answer it reads back: its own write is found by its
  /// content.
  [[nodiscard]] Task<Result<void>> update(VersionedDisk& disk,
                                          meta::pb::DiskRecord wanted,
                                          std::vector<meta::Compare> more_compares = {},
                                          std::vector<meta::Op> more_ops = {});
  /// Any transaction whose success can be recognised by `proof` (a put among its then_ops) being
  /// the stored value; the same rules for lost answers. Returns the revision. `unknown` when no
  /// answer could be had for a minute.
  [[nodiscard]] Task<Result<std::uint64_t>> commit(meta::Txn txn, meta::Op proof);

  [[nodiscard]] meta::MetaStore& store() noexcept { return store_; }

  // Reads of the store that ask again while there is no answer, for half a minute.
  [[nodiscard]] Task<Result<meta::GetAnswer>> get(std::string key);
  [[nodiscard]] Task<Result<meta::RangeAnswer>> range(meta::RangeRequest request);
  /// Every entry under `prefix`, all of one revision.
  [[nodiscard]] Task<Result<std::vector<meta::Entry>>> range_all(std::string prefix);

 private:
  Scheduler& scheduler_;
  meta::MetaStore& store_;
};

// Conversions between ids and catalogue messages.
[[nodiscard]] DiskId disk_id_of(const meta::pb::DiskRecord& record) noexcept;

/// A closed view: pages, then parts of logs in order (DESIGN 2 "view").
struct LogPart {
  DiskId disk;
  LogPosition from;
  LogPosition to;
};
struct ClosedView {
  Address top;
  std::vector<LogPart> parts;
  std::uint64_t size_bytes = 0;
};
inline constexpr std::size_t kViewPartsMax = 4;
[[nodiscard]] ClosedView view_from(const meta::pb::View& view);
[[nodiscard]] meta::pb::View view_to(const ClosedView& view);

}  // namespace vmstore::disk
