// SPDX-License-Identifier: Apache-2.0
// Steps of docs/protocol/ownership.pml: each change of the record, and its lost answer.
#include "disk/catalogue.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "meta/records.h"
#include "meta/schema.h"

namespace vmstore::disk {
namespace {

constexpr Duration kLostAnswerWait = std::chrono::seconds(60);  // a node's restart is shorter
constexpr Duration kReadWait = std::chrono::seconds(30);        // what a read changes is nothing
constexpr Duration kAskAgain = std::chrono::milliseconds(50);

template <class Record>
Result<Versioned<Record>> decode_versioned(const meta::Entry& entry) {
  VMS_TRY(Record record, meta::decode<Record>(entry.value));
  return Versioned<Record>{std::move(record), entry.mod_revision};
}

/// The revision at which `txn` expects `key`, if it does.
std::optional<std::uint64_t> compared_revision(const meta::Txn& txn, const std::string& key) {
  for (const meta::Compare& compare : txn.compares) {
    const auto* const revision = std::get_if<std::uint64_t>(&compare.what);
    if (compare.key == key && revision != nullptr) return *revision;
  }
  return std::nullopt;
}

}  // namespace

DiskId disk_id_of(const meta::pb::DiskRecord& record) noexcept {
  return meta::from_pb<DiskId>(record.id());
}

ClosedView view_from(const meta::pb::View& view) {
  ClosedView closed;
  closed.top = Address::from_raw(view.top_page());
  closed.size_bytes = view.size_bytes();
  for (const auto& part : view.parts()) {
    closed.parts.push_back(
        {meta::from_pb<DiskId>(part.disk()), meta::from_pb(part.from()), meta::from_pb(part.to())});
  }
  return closed;
}

meta::pb::View view_to(const ClosedView& view) {
  meta::pb::View message;
  message.set_top_page(view.top.raw());
  message.set_size_bytes(view.size_bytes);
  for (const LogPart& part : view.parts) {
    auto* const added = message.add_parts();
    *added->mutable_disk() = meta::to_pb(part.disk);
    *added->mutable_from() = meta::to_pb(part.from);
    *added->mutable_to() = meta::to_pb(part.to);
  }
  return message;
}

Task<Result<meta::GetAnswer>> Catalogue::get(std::string key) {
  const TimePoint deadline = scheduler_.now() + kReadWait;
  for (;;) {
    std::string wanted = key;
    auto answer = co_await store_.get(std::move(wanted));
    const bool again =
        !answer && meta::is_outcome_unknown(answer.error()) && scheduler_.now() < deadline;
    if (!again) co_return answer;
    co_await sleep_for(scheduler_, kAskAgain);
  }
}

Task<Result<meta::RangeAnswer>> Catalogue::range(meta::RangeRequest request) {
  const TimePoint deadline = scheduler_.now() + kReadWait;
  for (;;) {
    meta::RangeRequest wanted = request;
    auto answer = co_await store_.range(std::move(wanted));
    const bool again =
        !answer && meta::is_outcome_unknown(answer.error()) && scheduler_.now() < deadline;
    if (!again) co_return answer;
    co_await sleep_for(scheduler_, kAskAgain);
  }
}

Task<Result<VersionedDisk>> Catalogue::disk_by_name(std::string name) {
  VMS_CO_TRY(const auto answer, co_await get(meta::name_key(name)));
  if (!answer.entry) co_return Errc::not_found;
  VMS_CO_TRY(const DiskId id, meta::decode_id<DiskId>(answer.entry->value));
  auto disk = co_await disk_by_id(id);
  // Renamed or removed between the two reads: the name was given up meanwhile.
  if (disk && disk->record.name() != name) co_return Errc::not_found;
  co_return disk;
}

Task<Result<VersionedDisk>> Catalogue::disk_by_id(DiskId id) {
  VMS_CO_TRY(const auto answer, co_await get(meta::disk_key(id)));
  if (!answer.entry) co_return Errc::not_found;
  co_return decode_versioned<meta::pb::DiskRecord>(*answer.entry);
}

Task<Result<VersionedSnapshot>> Catalogue::snapshot(DiskId disk, std::string name) {
  VMS_CO_TRY(const auto answer, co_await get(meta::snap_key(disk, name)));
  if (!answer.entry) co_return Errc::not_found;
  co_return decode_versioned<meta::pb::SnapshotRecord>(*answer.entry);
}

Task<Result<std::vector<meta::Entry>>> Catalogue::range_all(std::string prefix) {
  std::vector<meta::Entry> all;
  meta::RangeRequest request;
  request.prefix = std::move(prefix);
  for (;;) {
    VMS_CO_TRY(auto answer, co_await range(request));
    for (auto& entry : answer.entries) all.push_back(std::move(entry));
    if (!answer.more || all.empty()) co_return all;
    request.after = all.back().key;
    request.revision = answer.revision;  // every page of the listing shows the same moment
  }
}

Task<Result<std::vector<VersionedSnapshot>>> Catalogue::snapshots(DiskId disk) {
  VMS_CO_TRY(const auto entries, co_await range_all(meta::snap_prefix(disk)));
  std::vector<VersionedSnapshot> found;
  for (const auto& entry : entries) {
    VMS_CO_TRY(auto item, decode_versioned<meta::pb::SnapshotRecord>(entry));
    found.push_back(std::move(item));
  }
  co_return found;
}

Task<Result<std::vector<VersionedDisk>>> Catalogue::all_disks() {
  VMS_CO_TRY(const auto entries, co_await range_all(std::string(meta::kDiskPrefix)));
  std::vector<VersionedDisk> found;
  for (const auto& entry : entries) {
    VMS_CO_TRY(auto item, decode_versioned<meta::pb::DiskRecord>(entry));
    found.push_back(std::move(item));
  }
  co_return found;
}

Task<Result<std::vector<VersionedDisk>>> Catalogue::all_trash() {
  VMS_CO_TRY(const auto entries, co_await range_all(std::string(meta::kTrashPrefix)));
  std::vector<VersionedDisk> found;
  for (const auto& entry : entries) {
    VMS_CO_TRY(auto item, decode_versioned<meta::pb::DiskRecord>(entry));
    found.push_back(std::move(item));
  }
  co_return found;
}

Task<Result<std::uint64_t>> Catalogue::commit(meta::Txn txn, meta::Op proof) {
  const TimePoint deadline = scheduler_.now() + kLostAnswerWait;
  const std::optional<std::uint64_t> before = compared_revision(txn, proof.key);
  for (int attempt = 0;; ++attempt) {
    meta::Txn copy = txn;
    const auto answer = co_await store_.txn(std::move(copy));
    if (answer) {
      if (answer->held) co_return answer->revision;
      // On a repeated attempt the compare may fail because the first one was applied.
      if (attempt == 0) co_return Errc::conflict;
    } else if (!meta::is_outcome_unknown(answer.error())) {
      co_return attempt == 0 ? answer.error() : Error(Errc::unknown);
    }
    const auto now = co_await store_.get(proof.key);
    if (now) {
      // A change that leaves the value as it was proves nothing by the value.
      const bool untouched = before && now->entry && now->entry->mod_revision == *before;
      const bool applied = untouched   ? false
                           : proof.put ? now->entry && now->entry->value == *proof.put
                                       : !now->entry.has_value();
      if (applied) co_return now->entry ? now->entry->mod_revision : now->revision;
      if (answer) co_return Errc::conflict;
    } else if (!meta::is_outcome_unknown(now.error())) {
      co_return Errc::unknown;
    }
    if (scheduler_.now() >= deadline) co_return Errc::unknown;
    co_await sleep_for(scheduler_, kAskAgain);
  }
}

Task<Result<void>> Catalogue::update(VersionedDisk& disk,
                                     meta::pb::DiskRecord wanted,
                                     std::vector<meta::Compare> more_compares,
                                     std::vector<meta::Op> more_ops) {
  const std::string key = meta::disk_key(disk_id_of(disk.record));
  meta::Txn txn;
  txn.compares = std::move(more_compares);
  txn.compares.push_back(meta::Compare{key, disk.revision});
  txn.then_ops = std::move(more_ops);
  const meta::Op put{key, meta::encode(wanted)};
  txn.then_ops.push_back(put);
  VMS_CO_TRY(const std::uint64_t revision, co_await commit(std::move(txn), put));
  disk.record = std::move(wanted);
  disk.revision = revision;
  co_return success();
}

}  // namespace vmstore::disk
