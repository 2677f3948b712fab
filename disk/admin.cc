// SPDX-License-Identifier: Apache-2.0
#include "disk/admin.h"

#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "base/units.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::disk {
namespace {

constexpr std::size_t kClonesPerTxn = 40;
constexpr int kWriteOutRaces = 16;
constexpr int kFenceRaces = 16;
constexpr std::size_t kRemovalsPerTxn = 100;
constexpr Duration kHolderSilence = limits::kLeaseTime + std::chrono::seconds(1);
/// A holder that is asked to leave commits what it was given first; one that takes longer is fenced
/// in the midst of that, which loses nothing.
constexpr Duration kHolderAnswer = std::chrono::seconds(5);
constexpr Duration kAskAgain = std::chrono::milliseconds(50);

meta::Op put_op(std::string key, std::string value) {
  return {std::move(key), std::move(value)};
}
meta::Op remove_op(std::string key) {
  return {std::move(key), std::nullopt};
}

meta::pb::DiskRecord fresh_record(DiskId id,
                                  const std::string& name,
                                  std::uint64_t bytes,
                                  std::uint32_t copies,
                                  std::uint64_t now_ns) {
  meta::pb::DiskRecord record;
  *record.mutable_id() = meta::to_pb(id);
  record.set_name(name);
  record.set_size_bytes(bytes);
  record.set_copies(copies);
  record.set_min_copies(std::min<std::uint32_t>(2, copies));
  record.set_created_ns(now_ns);
  record.mutable_base()->set_size_bytes(bytes);
  return record;
}

}  // namespace

std::uint64_t Admin::wall_ns() const {
  return static_cast<std::uint64_t>(session_.scheduler().wall_now().time_since_epoch().count());
}

std::shared_ptr<AsyncDisk> Admin::open(const VersionedDisk& disk, const AsyncDiskOptions& options) {
  auto& slot = open_[disk_id_of(disk.record)];
  auto object = slot.lock();
  if (object == nullptr || object->is_closed()) {
    object = std::make_shared<AsyncDisk>(session_, disk, options);
    slot = object;
  }
  object->enter();
  return object;
}

Task<Result<std::shared_ptr<AsyncDisk>>> Admin::open_for_guest(VersionedDisk disk,
                                                               AsyncDiskOptions options) {
  auto object = open(disk, options);
  object->set_connected(true);  // until it says otherwise
  if (disk.record.state() == meta::pb::DiskRecord::released) co_return object;
  const auto recovered = co_await object->acquire();
  // Held by another, or out of reach: the first request sees to it.
  const bool later = !recovered && (recovered.error() == Errc::busy ||
                                    net::is_connection_trouble(recovered.error()));
  if (recovered || later) co_return object;
  const auto left = co_await object->leave();
  ignore(left, "it holds nothing");
  co_return recovered.error();
}

// ---- create, list ----

Task<Result<DiskSummary>> Admin::create(std::string name,
                                        std::uint64_t bytes,
                                        std::uint32_t copies) {
  if (!is_valid_disk_name(name) || !is_valid_disk_size(bytes)) co_return Errc::invalid_argument;
  // Each on a node of its own: one node keeps one copy.
  const std::size_t nodes = session_.copies().nodes().ring().nodes().nodes().size();
  if (copies == 0 || copies > std::max<std::size_t>(nodes, 1)) co_return Errc::unsupported;
  const auto id = session_.random().id128<DiskId>();
  meta::pb::DiskRecord record = fresh_record(id, name, bytes, copies, wall_ns());
  meta::Txn txn;
  txn.compares.push_back(meta::Compare{meta::name_key(name), false});
  txn.compares.push_back(meta::Compare{meta::disk_key(id), false});
  const meta::Op put = put_op(meta::disk_key(id), meta::encode(record));
  txn.then_ops.push_back(put);
  txn.then_ops.push_back(put_op(meta::name_key(name), meta::encode_id(id)));
  const auto made = co_await catalogue_.commit(std::move(txn), put);
  if (!made) co_return made.error() == Errc::conflict ? Error(Errc::exists) : made.error();
  VersionedDisk disk;
  disk.record = std::move(record);
  disk.revision = *made;
  co_return co_await summarize(disk);
}

Task<Result<DiskSummary>> Admin::summarize(const VersionedDisk& disk) {
  DiskSummary summary;
  summary.id = disk_id_of(disk.record);
  summary.name = disk.record.name();
  summary.size_bytes = disk.record.size_bytes();
  summary.created_ns = disk.record.created_ns();
  summary.base_name = disk.record.base_name();
  summary.copies = disk.record.copies();
  summary.epoch = disk.record.epoch();
  summary.clean = disk.record.state() == meta::pb::DiskRecord::released;
  VMS_CO_TRY(const auto holder, co_await session_.node().holder(summary.id));
  summary.held = holder.held;
  summary.holder = holder.program;
  co_return summary;
}

Task<Result<std::vector<DiskSummary>>> Admin::list() {
  VMS_CO_TRY(const auto disks, co_await catalogue_.all_disks());
  std::vector<DiskSummary> summaries;
  for (const VersionedDisk& disk : disks) {
    VMS_CO_TRY(auto summary, co_await summarize(disk));
    summaries.push_back(std::move(summary));
  }
  std::sort(summaries.begin(), summaries.end(), [](const auto& a, const auto& b) {
    return a.name < b.name;
  });
  co_return summaries;
}

Task<Result<DiskSummary>> Admin::details(std::string name) {
  VMS_CO_TRY(const auto disk, co_await catalogue_.disk_by_name(std::move(name)));
  co_return co_await summarize(disk);
}

Task<Result<std::vector<SnapshotSummary>>> Admin::snapshots(std::string name) {
  VMS_CO_TRY(const auto disk, co_await catalogue_.disk_by_name(name));
  VMS_CO_TRY(const auto found, co_await catalogue_.snapshots(disk_id_of(disk.record)));
  std::vector<SnapshotSummary> summaries;
  for (const VersionedSnapshot& snapshot : found) {
    SnapshotSummary summary;
    summary.disk = name;
    summary.name = snapshot.record.name();
    summary.size_bytes = snapshot.record.view().size_bytes();
    summary.created_ns = snapshot.record.created_ns();
    summary.written_out = snapshot.record.view().parts().empty();
    summaries.push_back(std::move(summary));
  }
  co_return summaries;
}

// ---- snapshots ----

Task<Result<SnapshotTiming>> Admin::snapshot(std::string name, std::string snap) {
  if (!is_valid_name_part(snap)) co_return Errc::invalid_argument;
  VMS_CO_TRY(auto disk, co_await catalogue_.disk_by_name(std::move(name)));
  co_return co_await snapshot_of(std::move(disk), std::move(snap), false);
}

Task<Result<void>> Admin::before_asking_again(Error error, TimePoint deadline) {
  const bool busy = error == Errc::busy;  // it is just giving the disk back
  const bool silent = error == Errc::not_owner || error == Errc::unavailable;
  if (!busy && !silent) co_return error;
  if (session_.scheduler().now() >= deadline) co_return busy ? Errc::busy : Errc::unavailable;
  co_await sleep_for(session_.scheduler(), kAskAgain);
  co_return success();
}

Task<Result<SnapshotTiming>> Admin::snapshot_of(VersionedDisk disk,
                                                std::string snap,
                                                bool written_out) {
  const TimePoint deadline = session_.scheduler().now() + kHolderSilence;
  for (;;) {
    const auto object = open(disk, AsyncDiskOptions());
    Result<SnapshotTiming> timing(Errc::unknown);
    if (written_out) {
      timing = co_await object->write_out_snapshot(snap);
    } else {
      timing = co_await object->snapshot(snap);
    }
    // What this command took only for the cut it gives back at once.
    const auto left = co_await object->leave();
    if (timing && !left) co_return left.error();
    if (timing || timing.error() != Errc::busy) co_return timing;
    pb::DiskCallRequest request;
    wire::put_id(*request.mutable_disk(), object->id());
    request.mutable_snapshot()->set_name(snap);
    request.mutable_snapshot()->set_written_out(written_out);
    const auto answer = co_await session_.node().call_holder(request);
    if (answer) {
      SnapshotTiming remote;
      remote.stall = std::chrono::nanoseconds(answer->reply->stall_ns());
      co_return remote;
    }
    VMS_CO_CHECK(co_await before_asking_again(answer.error(), deadline));
  }
}

Task<Result<void>> Admin::remove_snapshot(std::string name, std::string snap) {
  VMS_CO_TRY(const auto disk, co_await catalogue_.disk_by_name(std::move(name)));
  const std::string key = meta::snap_key(disk_id_of(disk.record), snap);
  std::optional<SnapshotId> meant;
  for (int attempt = 0; attempt < kWriteOutRaces; ++attempt) {
    VMS_CO_TRY(const auto found, co_await catalogue_.snapshot(disk_id_of(disk.record), snap));
    const auto id = meta::from_pb<SnapshotId>(found.record.id());
    if (meant && *meant != id) co_return Errc::not_found;  // a namesake was made meanwhile
    meant = id;
    meta::Txn txn;
    txn.compares.push_back(meta::Compare{key, found.revision});
    const meta::Op removal = remove_op(key);
    txn.then_ops.push_back(removal);
    const auto removed = co_await catalogue_.commit(std::move(txn), removal);
    if (removed) co_return success();
    if (removed.error() != Errc::conflict) co_return removed.error();
    // The disk's owner wrote its view out in between.
  }
  co_return Errc::conflict;
}

Task<Result<VersionedDisk>> Admin::free_to_change(std::string name, bool force) {
  VMS_CO_TRY(auto disk, co_await catalogue_.disk_by_name(name));
  const DiskId id = disk_id_of(disk.record);
  VMS_CO_TRY(auto holder, co_await session_.node().holder(id));
  if (holder.held) {
    const auto left = co_await ask_holder_to_leave(id, force);
    if (!left && !force) co_return left.error();
    VMS_CO_TRY(disk, co_await catalogue_.disk_by_name(name));
    VMS_CO_TRY(holder, co_await session_.node().holder(id));
  }
  const bool clean = disk.record.state() == meta::pb::DiskRecord::released;
  if (!holder.held && clean) co_return std::move(disk);
  if (!force) co_return Errc::busy;
  VMS_CO_CHECK(co_await fence_owner(id));
  VMS_CO_CHECK(co_await wait_for_fenced(id));
  co_return co_await catalogue_.disk_by_name(std::move(name));
}

Task<Result<void>> Admin::ask_holder_to_leave(DiskId id, bool force) {
  const TimePoint deadline = session_.scheduler().now() + kHolderAnswer;
  pb::DiskCallRequest request;
  wire::put_id(*request.mutable_disk(), id);
  if (!force) {
    request.mutable_info();
    const auto known = co_await session_.node().call_holder(request, deadline);
    if (!known && known.error() == Errc::not_owner) co_return success();
    if (!known || known->reply->has_connection()) co_return Errc::busy;
  }
  request.mutable_hand_over()->set_force(force);
  const auto answer = co_await session_.node().call_holder(request, deadline);
  if (answer || answer.error() == Errc::not_owner) co_return success();
  co_return Errc::busy;
}

Task<Result<void>> Admin::wait_for_fenced(DiskId id) {
  const TimePoint deadline = session_.scheduler().now() + kHolderSilence;
  for (;;) {
    // What it is asked makes it find out; on another host its batch file is in nobody's way.
    const auto left = co_await ask_holder_to_leave(id, true);
    ignore(left, "one that does not answer is fenced all the same");
    const auto file = session_.batches().open(session_.store(), id, false);
    if (file || file.error() != Errc::busy) co_return success();
    if (session_.scheduler().now() >= deadline) co_return Errc::busy;
    co_await sleep_for(session_.scheduler(), kAskAgain);
  }
}

Task<Result<void>> Admin::rollback(std::string name, std::string snap, bool force) {
  VMS_CO_TRY(const auto disk, co_await free_to_change(std::move(name), force));
  const DiskId id = disk_id_of(disk.record);
  VMS_CO_TRY(const auto target, co_await catalogue_.snapshot(id, snap));
  // Removed before the disk names its view, the view might be collected already.
  const meta::Compare still_there{meta::snap_key(id, snap), target.revision};
  const auto object = open(disk, AsyncDiskOptions());
  const auto outcome = co_await object->rollback(view_from(target.record.view()), still_there);
  const auto left = co_await object->leave();
  if (!outcome) co_return outcome;
  co_return left;
}

// ---- clones ----

Task<Result<void>> Admin::clone(std::string source, std::vector<std::string> names) {
  VMS_CO_TRY(const auto reference, parse_disk_reference(source));
  if (names.empty()) co_return Errc::invalid_argument;
  for (const std::string& name : names) {
    if (!is_valid_disk_name(name)) co_return Errc::invalid_argument;
    const auto taken = co_await catalogue_.get(meta::name_key(name));
    if (!taken) co_return taken.error();
    if (taken->entry) co_return Errc::exists;
  }
  VMS_CO_TRY(const auto disk, co_await catalogue_.disk_by_name(reference.disk));
  const bool own_snapshot = reference.snapshot.empty();
  std::string snap = reference.snapshot;
  if (own_snapshot) {
    snap = "clone-" + session_.random().id128<SnapshotId>().hex();
    VMS_CO_CHECK(co_await snapshot_of(disk, snap, false));
  }
  Result<void> outcome = success();
  // A thousand clones must not each replay the same log (R5).
  if (names.size() > 1) {
    const auto written = co_await snapshot_of(disk, snap, true);
    if (!written) outcome = written.error();
  }
  if (outcome) outcome = co_await make_clones(disk, snap, source, std::move(names));
  if (own_snapshot) {
    const auto removed = co_await remove_snapshot(reference.disk, snap);
    if (outcome && !removed) co_return removed.error();
  }
  co_return outcome;
}

Task<Result<void>> Admin::commit_clones(const VersionedDisk& source,
                                        std::string snap,
                                        std::string base_name,
                                        std::vector<std::string> names) {
  const DiskId parent = disk_id_of(source.record);
  std::uint64_t tried = 0;
  for (;;) {
    VMS_CO_TRY(const auto found, co_await catalogue_.snapshot(parent, snap));
    // The same snapshot twice: it was not the owner's write-out that came in between.
    if (found.revision == std::exchange(tried, found.revision)) co_return Errc::exists;
    meta::Txn txn;
    // Still there, unchanged: so what its view names is reachable until the clones name it too.
    txn.compares.push_back(meta::Compare{meta::snap_key(parent, snap), found.revision});
    for (const std::string& name : names) {
      const auto id = session_.random().id128<DiskId>();
      meta::pb::DiskRecord record = fresh_record(
          id, name, found.record.view().size_bytes(), source.record.copies(), wall_ns());
      *record.mutable_base() = found.record.view();
      record.set_base_name(base_name);
      record.set_domain(source.record.domain());
      txn.compares.push_back(meta::Compare{meta::name_key(name), false});
      txn.then_ops.push_back(put_op(meta::disk_key(id), meta::encode(record)));
      txn.then_ops.push_back(put_op(meta::name_key(name), meta::encode_id(id)));
    }
    const meta::Op proof = txn.then_ops.back();
    VMS_FAULT("disk.before_clones");
    const auto committed = co_await catalogue_.commit(std::move(txn), proof);
    if (committed) co_return success();
    if (committed.error() != Errc::conflict) co_return committed.error();
  }
}

Task<Result<void>> Admin::make_clones(const VersionedDisk& source,
                                      std::string snap,
                                      std::string base_name,
                                      std::vector<std::string> names) {
  std::size_t made = 0;
  Result<void> outcome = success();
  while (made < names.size() && outcome) {
    const std::size_t end = std::min(names.size(), made + kClonesPerTxn);
    std::vector<std::string> some(names.begin() + static_cast<std::ptrdiff_t>(made),
                                  names.begin() + static_cast<std::ptrdiff_t>(end));
    outcome = co_await commit_clones(source, snap, base_name, std::move(some));
    if (outcome) made = end;
  }
  if (outcome) co_return outcome;
  for (std::size_t i = 0; i < made; ++i) {
    const auto undone = co_await remove(names[i], true, false);
    if (!undone) {
      VMS_LOG(error,
              "admin",
              "clone " << names[i] << " could not be taken back: " << to_string(undone.error()));
    }
  }
  co_return outcome;
}

// ---- resize, rename, remove ----

Task<Result<void>> Admin::resize(std::string name,
                                 std::uint64_t bytes,
                                 bool allow_shrink,
                                 bool force) {
  if (!is_valid_disk_size(bytes)) co_return Errc::invalid_argument;
  VMS_CO_TRY(auto disk, co_await catalogue_.disk_by_name(name));
  const bool shrink = bytes < disk.record.size_bytes();
  if (shrink && !allow_shrink) co_return Errc::invalid_argument;
  if (shrink) {
    VMS_CO_TRY(disk, co_await free_to_change(std::move(name), force));
  }
  const auto object = open(disk, AsyncDiskOptions());
  const auto outcome = co_await resize_object(*object, bytes, !shrink);
  const auto left = co_await object->leave();
  if (!outcome) co_return outcome;
  co_return left;
}

Task<Result<void>> Admin::resize_object(AsyncDisk& object, std::uint64_t bytes, bool holder_may) {
  const TimePoint deadline = session_.scheduler().now() + kHolderSilence;
  for (;;) {
    const auto acquired = co_await object.acquire();
    if (acquired) co_return co_await object.resize(bytes);
    if (acquired.error() != Errc::busy || !holder_may) co_return acquired.error();
    pb::DiskCallRequest request;  // attached: the holder grows it, the next connect sees it
    wire::put_id(*request.mutable_disk(), object.id());
    request.mutable_resize()->set_bytes(bytes);
    const auto answer = co_await session_.node().call_holder(request);
    if (answer) co_return success();
    VMS_CO_CHECK(co_await before_asking_again(answer.error(), deadline));
  }
}

Task<Result<void>> Admin::rename(std::string from, std::string to) {
  if (!is_valid_disk_name(to)) co_return Errc::invalid_argument;
  VMS_CO_TRY(auto disk, co_await free_to_change(from, false));
  meta::pb::DiskRecord wanted = disk.record;
  wanted.set_name(to);
  std::vector<meta::Compare> compares;
  compares.push_back(meta::Compare{meta::name_key(to), false});
  std::vector<meta::Op> ops;
  ops.push_back(remove_op(meta::name_key(from)));
  ops.push_back(put_op(meta::name_key(to), meta::encode_id(disk_id_of(disk.record))));
  const auto done =
      co_await catalogue_.update(disk, std::move(wanted), std::move(compares), std::move(ops));
  if (done || done.error() != Errc::conflict) co_return done;
  const auto taken = co_await catalogue_.get(meta::name_key(to));
  const bool name_taken = taken && taken->entry;
  co_return name_taken ? Errc::exists : Errc::busy;
}

Task<Result<void>> Admin::remove(std::string name, bool now, bool force) {
  VMS_CO_TRY(auto disk, co_await free_to_change(name, force));
  const DiskId id = disk_id_of(disk.record);
  meta::pb::DiskRecord trashed = disk.record;
  trashed.set_trashed_ns(wall_ns());
  trashed.set_trashed_name(name);
  meta::Txn txn;
  txn.compares.push_back(meta::Compare{meta::disk_key(id), disk.revision});
  txn.then_ops.push_back(remove_op(meta::disk_key(id)));
  txn.then_ops.push_back(remove_op(meta::name_key(name)));
  const meta::Op put = put_op(meta::trash_key(id), meta::encode(trashed));
  txn.then_ops.push_back(put);
  VMS_FAULT("disk.before_trash");
  const auto moved = co_await catalogue_.commit(std::move(txn), put);
  if (!moved) co_return moved.error() == Errc::conflict ? Error(Errc::busy) : moved.error();
  VMS_FAULT("disk.after_trash");
  if (!now) co_return success();
  disk.record = std::move(trashed);
  disk.revision = *moved;
  co_return co_await purge_one(std::move(disk));
}

Task<Result<void>> Admin::purge_one(VersionedDisk disk) {
  const DiskId id = disk_id_of(disk.record);
  VMS_CO_TRY(const auto snapshots, co_await catalogue_.snapshots(id));
  for (std::size_t at = 0; at < snapshots.size(); at += kRemovalsPerTxn) {
    meta::Txn txn;
    const std::size_t end = std::min(snapshots.size(), at + kRemovalsPerTxn);
    for (std::size_t i = at; i < end; ++i) {
      txn.then_ops.push_back(remove_op(meta::snap_key(id, snapshots[i].record.name())));
    }
    txn.compares.push_back(meta::Compare{meta::trash_key(id), disk.revision});
    const meta::Op proof = txn.then_ops.back();
    VMS_CO_CHECK(co_await catalogue_.commit(std::move(txn), proof));
    VMS_FAULT("disk.snapshots_purged");
  }
  // Last: as long as anything of the disk is left, the trash shows it.
  meta::Txn txn;
  txn.compares.push_back(meta::Compare{meta::trash_key(id), disk.revision});
  const meta::Op removal = remove_op(meta::trash_key(id));
  txn.then_ops.push_back(removal);
  VMS_CO_CHECK(co_await catalogue_.commit(std::move(txn), removal));
  const auto handle = session_.batches().open(session_.store(), id, false);
  if (handle) ignore((*handle)->remove(), "void with the disk's id");
  co_return success();
}

Task<Result<std::vector<TrashSummary>>> Admin::trash() {
  VMS_CO_TRY(const auto found, co_await catalogue_.all_trash());
  std::vector<TrashSummary> summaries;
  for (const VersionedDisk& disk : found) {
    TrashSummary summary;
    summary.id = disk_id_of(disk.record);
    summary.name = disk.record.trashed_name();
    summary.size_bytes = disk.record.size_bytes();
    summary.trashed_ns = disk.record.trashed_ns();
    summaries.push_back(std::move(summary));
  }
  co_return summaries;
}

Task<Result<void>> Admin::restore(std::string name, std::string as) {
  const std::string target = as.empty() ? name : as;
  if (!is_valid_disk_name(target)) co_return Errc::invalid_argument;
  VMS_CO_TRY(const auto found, co_await catalogue_.all_trash());
  // The newest of that name.
  const VersionedDisk* newest = nullptr;
  for (const VersionedDisk& disk : found) {
    const bool named = disk.record.trashed_name() == name || disk_id_of(disk.record).hex() == name;
    if (named && (newest == nullptr || newest->record.trashed_ns() < disk.record.trashed_ns())) {
      newest = &disk;
    }
  }
  if (newest == nullptr) co_return Errc::not_found;
  const DiskId id = disk_id_of(newest->record);
  meta::pb::DiskRecord record = newest->record;
  record.set_name(target);
  record.set_trashed_ns(0);
  record.clear_trashed_name();
  meta::Txn txn;
  txn.compares.push_back(meta::Compare{meta::trash_key(id), newest->revision});
  txn.compares.push_back(meta::Compare{meta::name_key(target), false});
  txn.then_ops.push_back(remove_op(meta::trash_key(id)));
  txn.then_ops.push_back(put_op(meta::name_key(target), meta::encode_id(id)));
  const meta::Op put = put_op(meta::disk_key(id), meta::encode(record));
  txn.then_ops.push_back(put);
  const auto done = co_await catalogue_.commit(std::move(txn), put);
  if (!done) co_return done.error() == Errc::conflict ? Error(Errc::exists) : done.error();
  co_return success();
}

Task<Result<void>> Admin::purge(std::string name) {
  VMS_CO_TRY(auto found, co_await catalogue_.all_trash());
  bool any = name.empty();
  for (VersionedDisk& disk : found) {
    const bool wanted =
        name.empty() || disk.record.trashed_name() == name || disk_id_of(disk.record).hex() == name;
    if (!wanted) continue;
    any = true;
    VMS_CO_CHECK(co_await purge_one(std::move(disk)));
  }
  if (!any) co_return Errc::not_found;
  co_return success();
}

// ---- owner ----

Task<Result<void>> Admin::break_owner(std::string name) {
  VMS_CO_TRY(const auto disk, co_await catalogue_.disk_by_name(std::move(name)));
  const DiskId id = disk_id_of(disk.record);
  const auto left = co_await ask_holder_to_leave(id, true);
  ignore(left, "it is fenced in any case");
  co_return co_await fence_owner(id);
}

Task<Result<void>> Admin::fence_owner(DiskId id) {
  VersionedDisk disk;
  for (int attempt = 0;; ++attempt) {
    VMS_CO_TRY(disk, co_await catalogue_.disk_by_id(id));
    meta::pb::DiskRecord wanted = disk.record;
    wanted.set_epoch(wanted.epoch() + 1);
    if (wanted.state() != meta::pb::DiskRecord::released) {
      wanted.set_state(meta::pb::DiskRecord::recovering);
    }
    const auto updated = co_await catalogue_.update(disk, std::move(wanted));
    if (updated) break;
    // A living holder changed it in between.
    if (updated.error() != Errc::conflict || attempt >= kFenceRaces) co_return updated;
  }
  const KeyPlace place = place_from(disk.record.open_key());
  if (place.key.is_none()) co_return success();
  // From here on no append of the old owner is accepted (I3).
  const auto fenced = co_await session_.copies().fence(place, Epoch(disk.record.epoch()));
  if (!fenced) co_return fenced.error();
  co_return success();
}

Task<Result<std::uint64_t>> Admin::discard_batch_file(std::string name) {
  VMS_CO_TRY(auto disk, co_await catalogue_.disk_by_name(std::move(name)));
  const DiskId id = disk_id_of(disk.record);
  VMS_CO_TRY(const auto holder, co_await session_.node().holder(id));
  if (holder.held) co_return Errc::busy;
  VMS_CO_TRY(const auto batches, set_batch_file_aside(id));
  const bool clean = disk.record.state() == meta::pb::DiskRecord::released;
  const bool expected = !clean && disk.record.writer().has_batch_file();
  if (!batches && !expected) co_return Errc::not_found;  // there is nothing to give up
  meta::pb::DiskRecord wanted = disk.record;
  wanted.mutable_writer()->set_has_batch_file(false);
  VMS_CO_CHECK(co_await catalogue_.update(disk, std::move(wanted)));
  co_return batches.value_or(0);
}

Result<std::optional<std::uint64_t>> Admin::set_batch_file_aside(DiskId id) {
  std::optional<std::uint64_t> batches;
  const auto handle = session_.batches().open(session_.store(), id, false);
  if (!handle && handle.error() == Errc::not_found) return batches;
  if (!handle) return handle.error();
  BatchFileIdentity identity;
  identity.store = session_.store();
  identity.disk = id;
  identity.boot = session_.boot();
  const auto content = (*handle)->is_new() ? Result<BatchFileContent>(BatchFileContent())
                                           : scan_batch_file((*handle)->memory(), identity);
  batches = content ? content->batches.size() : 0;
  VMS_CHECK((*handle)->set_aside());
  return batches;
}

}  // namespace vmstore::disk
