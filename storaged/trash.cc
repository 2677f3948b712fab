// SPDX-License-Identifier: Apache-2.0
#include "storaged/trash.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/fault.h"
#include "base/log.h"
#include "meta/records.h"
#include "meta/schema.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kSnapshotsPerTxn = 100;

}  // namespace

bool Trash::is_old(DiskId disk, std::uint64_t trashed_ns) {
  const auto now_ns = scheduler_.wall_now().time_since_epoch().count();
  const auto old_at = static_cast<std::int64_t>(trashed_ns) + kTrashTime.count();
  if (trashed_ns == 0 || now_ns < old_at) {
    old_since_.erase(disk);
    return false;
  }
  const auto [first, added] = old_since_.try_emplace(disk, scheduler_.now());
  return !added && scheduler_.now() - first->second >= kTrashDoubt;
}

Task<Result<std::uint64_t>> Trash::empty_old() {
  std::vector<std::pair<DiskId, std::uint64_t>> old;
  meta::RangeRequest request;
  request.prefix = std::string(meta::kTrashPrefix);
  for (;;) {
    VMS_CO_TRY(const auto answer, co_await meta_.range(request));
    for (const meta::Entry& entry : answer.entries) {
      request.after = entry.key;
      VMS_CO_TRY(const auto record, meta::decode<meta::pb::DiskRecord>(entry.value));
      const auto id = meta::from_pb<DiskId>(record.id());
      if (is_old(id, record.trashed_ns())) old.emplace_back(id, entry.mod_revision);
    }
    request.revision = answer.revision;
    if (!answer.more) break;
  }
  for (const auto& [disk, revision] : old) {
    const auto removed = co_await remove(disk, revision);
    // Restored or purged by somebody in between.
    if (!removed && removed.error() == Errc::conflict) continue;
    if (!removed) co_return removed.error();
    old_since_.erase(disk);
    VMS_LOG(info, "trash", "disk " << disk.hex() << " was in the trash for a day: removed");
  }
  co_return old.size();
}

Task<Result<void>> Trash::remove(DiskId disk, std::uint64_t revision) {
  const std::string key = meta::trash_key(disk);
  for (bool more = true; more;) {
    meta::RangeRequest request;
    request.prefix = meta::snap_prefix(disk);
    VMS_CO_TRY(const auto answer, co_await meta_.range(std::move(request)));
    meta::Txn txn;
    txn.compares.push_back(meta::Compare{key, revision});
    const std::size_t count = std::min(answer.entries.size(), kSnapshotsPerTxn);
    for (std::size_t i = 0; i < count; ++i) {
      txn.then_ops.push_back(meta::Op{answer.entries[i].key, std::nullopt});
    }
    // Last: as long as anything of the disk is left, the trash shows it.
    more = answer.more || count < answer.entries.size();
    if (!more) txn.then_ops.push_back(meta::Op{key, std::nullopt});
    VMS_CO_TRY(const auto done, co_await meta_.txn(std::move(txn)));
    if (!done.held) co_return Errc::conflict;
    VMS_FAULT("trash.removed_some");
  }
  co_return success();
}

}  // namespace vmstore::storaged
