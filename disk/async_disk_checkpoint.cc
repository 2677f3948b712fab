// SPDX-License-Identifier: Apache-2.0
// AsyncDisk: checkpoints, cuts (snapshots, clones), resize, rollback. DESIGN 7.
//
// Why a checkpoint loses nothing: the frozen layer is written out only when every record in it is
// committed; pages name committed blocks and pages only, the root is appended after all its pages
// are committed, and replay starts behind the frozen layer only once that root is in the log. A
// roll in between appends again what is not committed (page_writer.h); a death leaves pages that
// nothing names.
#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "disk/async_disk.h"
#include "disk/snapshot_disk.h"
#include "meta/records.h"
#include "meta/schema.h"

namespace vmstore::disk {
namespace {

using snapshot::Extent;

}  // namespace

std::shared_ptr<FrozenLayer> AsyncDisk::freeze_now() {
  const Mapping::Lock lock(mapping_.mutex());
  close_open_batch(false);
  auto layer = mapping_.freeze(Sequence(last_assigned_));
  layer->charged_pages = std::exchange(charged_pages_, 0);
  dirty_leaves_.clear();
  has_discards_ = false;
  VMS_FAULT("disk.frozen");
  frozen_at_ = session_.scheduler().now();
  if (log_->committed() < layer->last_sequence) marks_[layer->last_sequence] = Mark();
  layer->disk_bytes = assigned_bytes_;
  layer->end = committed_end_;
  layer->data_end = committed_data_end_;
  return layer;
}

Task<Result<void>> AsyncDisk::settle_layer(std::shared_ptr<FrozenLayer> layer) {
  drain_closed();
  VMS_CO_CHECK(co_await log_->wait_committed(layer->last_sequence));
  if (const auto mark = marks_.find(layer->last_sequence); mark != marks_.end()) {
    layer->end = mark->second.position;
    layer->data_end = mark->second.data_end;
    marks_.erase(mark);
  }
  co_return success();
}

Task<Result<void>> AsyncDisk::checkpoint() {
  const auto lock = co_await maintenance_mutex_.lock();
  if (mode_.load() != Mode::owner || !log_->is_writing()) co_return success();
  co_return co_await checkpoint_locked();
}

Task<Result<void>> AsyncDisk::checkpoint_locked() {
  // First what is left over: a checkpoint that fails again and again must not freeze again and
  // again.
  while (mapping_.oldest_frozen() != nullptr) VMS_CO_CHECK(co_await write_out_oldest());
  bool dirty = false;
  {
    const Mapping::SharedLock lock(mapping_.mutex());
    dirty = !mapping_.overlay().empty() || !open_runs_.empty() || !view_parts_.empty();
  }
  if (dirty) {
    const auto layer = freeze_now();
    VMS_CO_CHECK(co_await settle_layer(layer));
  }
  while (mapping_.oldest_frozen() != nullptr) VMS_CO_CHECK(co_await write_out_oldest());
  co_return success();
}

PageWriter AsyncDisk::page_writer(std::int64_t charged_pages) {
  return PageWriter(
      *log_, [this](LogItem item) { return enqueue(std::move(item)); }, charged_pages);
}

Task<Result<void>> AsyncDisk::write_out_oldest() {
  const auto layer = mapping_.oldest_frozen();
  const std::uint64_t size_blocks = (layer->disk_bytes + kBlockBytes - 1) / kBlockBytes;
  PageWriter writer = page_writer(std::exchange(layer->charged_pages, 0));
  VMS_CO_TRY(auto built,
             co_await snapshot::build_checkpoint(
                 reader_.pages(), writer, view_top_, layer->runs, size_blocks, true));
  Address top = built.empty ? Address() : built.unchanged_top;
  if (built.page_count != 0) {
    VMS_CO_TRY(top, co_await writer.finish());
  }
  LogItem root;
  root.header.kind = wire::RecordKind::root;
  root.header.top_page = top;
  root.header.replay_from = layer->end;
  root.header.disk_bytes = layer->disk_bytes;
  const auto position = std::make_shared<Placement>();
  root.on_commit = [position](const Placement& place) { *position = place; };
  VMS_FAULT("disk.before_root");
  VMS_CO_CHECK(co_await log_->wait_committed(enqueue(std::move(root))));
  VMS_FAULT("disk.root_committed");
  {
    const Mapping::Lock lock(mapping_.mutex());
    mapping_.retire_oldest(top);
  }
  view_top_ = top;
  view_parts_.clear();
  own_from_ = layer->end;
  log_->set_root(LogPosition{position->key, position->log_offset, position->sequence});
  log_->reset_replay_bytes();
  if (layer->snapshot) {
    // The snapshot's view becomes these pages: from now on they are not ours alone.
    protect_up_to(position->end.key, position->data_end);
  }
  const auto name_root = [&](meta::pb::DiskRecord& record) {
    ClosedView base;
    base.top = top;
    base.size_bytes = layer->disk_bytes;
    *record.mutable_base() = view_to(base);
    *record.mutable_log_from() = meta::to_pb(layer->end);
    store_cut(record);
  };
  VMS_CO_CHECK(co_await record_.change(name_root));
  VMS_FAULT("disk.root_named");
  // Two roots are kept: pages that the root before the last one still names go now.
  for (const Address page : replaced_pages_) add_garbage(page, 1);
  replaced_pages_ = std::move(built.replaced_pages);
  for (const Extent& extent : built.replaced_blocks) {
    add_garbage(Address::from_raw(extent.place), extent.blocks);
  }
  if (layer->snapshot)
    co_return co_await finish_snapshot(*layer->snapshot, layer->snapshot_id, top);
  co_return success();
}

Task<Result<void>> AsyncDisk::finish_snapshot(std::string name, SnapshotId id, Address top) {
  const auto stored = co_await session_.catalogue().snapshot(id_, name);
  if (!stored) {
    // Removed meanwhile: nothing to write out.
    co_return stored.error() == Errc::not_found ? success() : Result<void>(stored.error());
  }
  if (meta::from_pb<SnapshotId>(stored->record.id()) != id) co_return success();  // a namesake
  if (stored->record.view().parts().empty()) co_return success();  // written out already
  ClosedView view;
  view.top = top;
  view.size_bytes = stored->record.view().size_bytes();
  meta::pb::SnapshotRecord wanted = stored->record;
  *wanted.mutable_view() = view_to(view);
  // With the disk's record: whoever lost the disk must not name pages that were collected since.
  const std::string key = meta::snap_key(id_, name);
  std::vector<meta::Compare> compares(1, meta::Compare{key, stored->revision});
  std::vector<meta::Op> ops(1, meta::Op{key, meta::encode(wanted)});
  const auto same_record = [](meta::pb::DiskRecord&) {};
  const auto done = co_await record_.change(same_record, std::move(compares), std::move(ops));
  if (!done && done.error() != Errc::conflict) co_return done.error();
  co_return success();
}

// ---- cuts ----

ClosedView AsyncDisk::closed_view(LogPosition end, std::uint64_t disk_bytes) const {
  ClosedView view;
  view.top = view_top_;
  view.parts = view_parts_;
  view.size_bytes = disk_bytes;
  const bool own_part = !own_from_.key.is_none() && own_from_.sequence < end.sequence;
  if (own_part) view.parts.push_back({id_, own_from_, end});
  return view;
}

void AsyncDisk::protect_up_to(KeyId key, BlockIndex data_end) {
  if (key.is_none()) return;
  const CutMark mark{key, data_end};
  const bool newer = !cut_ || cut_->key < key || (cut_->key == key && cut_->block < data_end);
  if (newer) cut_ = mark;
}

void AsyncDisk::store_cut(meta::pb::DiskRecord& record) const {
  if (!cut_) return;
  record.mutable_cut()->set_key(cut_->key.value());
  record.mutable_cut()->set_block(cut_->block.value);
}

Task<Result<SnapshotTiming>> AsyncDisk::cut(MakeOps make_ops, std::string name, SnapshotId id) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  VMS_CO_CHECK(co_await own_for_maintenance());
  // Before the lock: whoever gives the disk back takes the two in the other order.
  if (view_parts_.size() + 1 >= kViewPartsMax) {
    VMS_CO_CHECK(co_await ensure_writing_for_checkpoint());
  }
  const auto lock = co_await maintenance_mutex_.lock();
  if (mode_.load() != Mode::owner) co_return Errc::busy;
  Scheduler& scheduler = session_.scheduler();
  if (mapping_.frozen_count() >= limits::kFrozenOverlaysMax ||
      view_parts_.size() + 1 >= kViewPartsMax) {
    if (!log_->is_writing()) co_return Errc::busy;
    VMS_CO_CHECK(co_await checkpoint_locked());
  }
  SnapshotTiming timing;
  const TimePoint begin = scheduler.now();
  std::shared_ptr<FrozenLayer> layer;
  LogPosition end = committed_end_;
  KeyId cut_key = committed_end_.key;
  BlockIndex cut_block = committed_data_end_;
  if (log_->is_writing()) {
    layer = freeze_now();
    timing.stall = scheduler.now() - begin;
    VMS_CO_CHECK(co_await settle_layer(layer));
    end = layer->end;
    cut_key = layer->end.key;
    cut_block = layer->data_end;
    if (!name.empty()) layer->snapshot = std::make_shared<std::string>(name);
    layer->snapshot_id = id;
  }
  const ClosedView view = closed_view(end, layer ? layer->disk_bytes : size_bytes());
  std::vector<meta::Compare> compares;
  std::vector<meta::Op> ops;
  VMS_CO_CHECK(make_ops(view, compares, ops));
  // The cut counts from here on, until the transaction is known to have failed (C8, R8).
  const auto cut_before = cut_;
  protect_up_to(cut_key, cut_block);
  const auto protect = [this](meta::pb::DiskRecord& record) { store_cut(record); };
  const TimePoint metadata_begin = scheduler.now();
  VMS_FAULT("disk.before_cut");
  const auto stored = co_await record_.change(protect, std::move(compares), std::move(ops));
  timing.metadata = scheduler.now() - metadata_begin;
  VMS_FAULT("disk.after_cut");
  if (!stored) {
    if (stored.error() == Errc::conflict) cut_ = cut_before;
    if (layer != nullptr) layer->snapshot.reset();
    co_return stored.error();
  }
  if (layer != nullptr) start_checkpoint();
  co_return timing;
}

void AsyncDisk::start_checkpoint() {
  if (gate_.is_closed()) return;
  session_.scheduler().spawn(checkpoint_in_background());
}

Task<void> AsyncDisk::checkpoint_in_background() {
  const auto pass = gate_.enter();
  if (!pass || stopping_.is_set()) co_return;
  const auto lock = co_await maintenance_mutex_.lock();
  while (mode_.load() == Mode::owner && mapping_.oldest_frozen() != nullptr) {
    const auto done = co_await write_out_oldest();
    if (!done) co_return;  // tried again by the next checkpoint
  }
}

Task<Result<SnapshotTiming>> AsyncDisk::snapshot(std::string name) {
  const auto id = session_.random().id128<SnapshotId>();
  const std::string key = meta::snap_key(id_, name);
  const auto make_ops = [&](const ClosedView& view,
                            std::vector<meta::Compare>& compares,
                            std::vector<meta::Op>& ops) -> Result<void> {
    meta::pb::SnapshotRecord record;
    *record.mutable_id() = meta::to_pb(id);
    *record.mutable_disk() = meta::to_pb(id_);
    record.set_name(name);
    *record.mutable_view() = view_to(view);
    record.set_created_ns(
        static_cast<std::uint64_t>(session_.scheduler().wall_now().time_since_epoch().count()));
    compares.push_back({key, false});
    ops.push_back({key, meta::encode(record)});
    return success();
  };
  const auto taken = co_await session_.catalogue().snapshot(id_, name);
  if (taken) co_return Errc::exists;
  if (taken.error() != Errc::not_found) co_return taken.error();
  auto timing = co_await cut(make_ops, name, id);
  if (!timing && timing.error() == Errc::conflict) co_return Errc::exists;
  co_return timing;
}

Task<Result<SnapshotTiming>> AsyncDisk::write_out_snapshot(std::string name) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  auto stored = co_await session_.catalogue().snapshot(id_, name);
  if (!stored) co_return stored.error();
  if (stored->record.view().parts().empty()) co_return SnapshotTiming();
  VMS_CO_CHECK(co_await own_for_maintenance());
  VMS_CO_CHECK(co_await ensure_writable());
  const auto lock = co_await maintenance_mutex_.lock();
  if (mode_.load() != Mode::owner || !log_->is_writing()) co_return Errc::busy;
  while (mapping_.oldest_frozen() != nullptr) VMS_CO_CHECK(co_await write_out_oldest());
  stored = co_await session_.catalogue().snapshot(id_, name);
  if (!stored) co_return stored.error();
  const ClosedView view = view_from(stored->record.view());
  if (view.parts.empty()) co_return SnapshotTiming();
  // Left over from an owner that died before it wrote the view out: pages of its own, no root.
  SnapshotDisk replayed(session_);
  VMS_CO_CHECK(co_await replayed.open(view));
  PageWriter writer = page_writer(0);
  VMS_CO_TRY(const auto built, co_await replayed.build_pages(view, writer));
  Address top = built.empty ? Address() : built.unchanged_top;
  if (built.page_count != 0) {
    VMS_CO_TRY(top, co_await writer.finish());
  }
  protect_up_to(committed_end_.key, committed_data_end_);
  const auto protect = [this](meta::pb::DiskRecord& record) { store_cut(record); };
  VMS_CO_CHECK(co_await record_.change(protect));
  const SnapshotId id = meta::from_pb<SnapshotId>(stored->record.id());
  VMS_CO_CHECK(co_await finish_snapshot(name, id, top));
  co_return SnapshotTiming();
}

Task<Result<void>> AsyncDisk::own_for_maintenance() {
  for (;;) {
    const auto acquired = co_await acquire();
    if (acquired) co_return success();
    // Being given back, and nothing was done: whoever asks may ask again.
    if (acquired.error() == Errc::closing) co_return Errc::busy;
    if (!net::is_connection_trouble(acquired.error())) co_return acquired.error();
    VMS_CO_CHECK(co_await wait_for_node());
  }
}

Task<Result<void>> AsyncDisk::ensure_writing_for_checkpoint() {
  if (log_->is_writing()) co_return success();
  co_return co_await ensure_writable();
}

// ---- resize, rollback ----

Task<Result<void>> AsyncDisk::resize(std::uint64_t bytes) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  VMS_CO_CHECK(co_await own_for_maintenance());
  VMS_CO_CHECK(co_await ensure_writable());
  // To the end: given back between the two steps of a shrink, the disk would have its old size and
  // zeros in place of what was to be cut off.
  const auto token = co_await token_mutex_.lock();
  // It may have been given back, and taken again, since.
  const bool still_ours = mode_.load() == Mode::owner && writable_.load();
  if (!still_ours) co_return failure_ ? *failure_ : Error(Errc::busy);
  const std::uint64_t old_bytes = size_bytes();
  if (bytes < old_bytes) VMS_CO_CHECK(co_await zero(bytes, old_bytes - bytes));
  const auto maintenance = co_await maintenance_mutex_.lock();
  if (mode_.load() != Mode::owner) co_return failure_ ? *failure_ : Error(Errc::closing);
  if (bytes != size_bytes()) {
    LogItem item;
    item.header.kind = wire::RecordKind::resize;
    item.header.disk_bytes = bytes;
    {
      const Mapping::Lock lock(mapping_.mutex());
      close_open_batch(false);
    }
    assigned_bytes_ = bytes;
    VMS_CO_CHECK(co_await log_->wait_committed(enqueue(std::move(item))));
    VMS_FAULT("disk.resize_committed");
    size_bytes_ = bytes;
  }
  // The log may say so already, and the record not: its change failed then.
  if (record_.get().size_bytes() == bytes) co_return success();
  const auto set_size = [bytes](meta::pb::DiskRecord& record) { record.set_size_bytes(bytes); };
  co_return co_await record_.change(set_size);
}

Task<Result<void>> AsyncDisk::rollback(ClosedView view, meta::Compare still_there) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  VMS_CO_CHECK(co_await own_for_maintenance());
  VMS_CO_CHECK(co_await ensure_writable());
  VMS_CO_CHECK(co_await flush());
  const auto token = co_await token_mutex_.lock();
  const auto lock = co_await maintenance_mutex_.lock();
  // It may have been given back, and taken again, since.
  const bool still_ours = mode_.load() == Mode::owner && writable_.load();
  if (!still_ours) co_return failure_ ? *failure_ : Error(Errc::busy);
  writable_ = false;
  const auto outcome = co_await rollback_locked(std::move(view), std::move(still_there));
  if (!outcome && mode_.load() == Mode::owner) {
    lease_.start();
    log_->go_on();
    writable_ = true;
  }
  co_return outcome;
}

Task<Result<void>> AsyncDisk::rollback_locked(ClosedView view, meta::Compare still_there) {
  const Sequence last = close_and_last_sequence(false);
  drain_closed();
  VMS_CO_CHECK(co_await log_->wait_committed(last));
  co_await log_->hold_still();
  // One change of the record does it all (C9): the open key is sealed by it, the next session
  // starts a new one; sequences go on rising.
  const KeyId sealed_key = log_->open_key();
  const KeyLength sealed_length = log_->open_length();
  const auto sealed =
      co_await session_.copies().seal(log_->open_place(), record_.epoch(), sealed_length);
  if (sealed.done == 0 || sealed.error == Errc::stale_token) co_return sealed.error;
  protect_up_to(sealed_key, sealed_length.blocks);
  const auto set_view = [&](meta::pb::DiskRecord& record) {
    *record.mutable_base() = view_to(view);
    record.set_size_bytes(view.size_bytes);
    record.clear_log_from();
    record.clear_open_key();
    record.clear_log_end();
    record.mutable_last_sealed()->set_key(sealed_key.value());
    *record.mutable_last_sealed_length() = meta::to_pb(sealed_length);
    record.set_last_sequence(last_assigned_);
    record.set_state(meta::pb::DiskRecord::released);
    record.mutable_writer()->set_has_batch_file(false);
    log_->remember_keys(record);
    store_cut(record);
  };
  VMS_FAULT("disk.before_rollback");
  lease_.end();  // as in release_locked()
  std::vector<meta::Compare> compares;
  compares.push_back(std::move(still_there));
  const auto changed = co_await record_.change(set_view, std::move(compares));
  if (!changed && changed.error() != Errc::unknown) co_return changed;
  if (changed) {
    VMS_FAULT("disk.after_rollback");
    size_bytes_ = view.size_bytes;
    if (handle_ != nullptr) ignore(handle_->remove(), "an empty batch file is harmless");
  }
  // Whether it happened or not, nothing of this session may come on top of it: whoever uses the
  // disk next takes a new token and finds either. The batch file stays then, for the case of not.
  co_await end_ownership();
  co_return changed;
}

}  // namespace vmstore::disk
