// SPDX-License-Identifier: Apache-2.0
// AsyncDisk: writes, zeroes, batches and what happens when they are committed.
// Steps of docs/protocol/handover.pml: a write.
#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/fault.h"
#include "base/log.h"
#include "disk/async_disk.h"

namespace vmstore::disk {
namespace {

using snapshot::Extent;
using snapshot::Where;

constexpr Duration kCheckpointPause = std::chrono::seconds(5);  // after one that failed
constexpr Duration kDiscardsWait = std::chrono::seconds(10);    // between checkpoints made for them
constexpr Duration kLookAgain = std::chrono::milliseconds(100);  // whether a holder is gone
constexpr std::size_t kOpenRunsMax = limits::kRecordRunsMax / 2;
constexpr int kMergeLookups = 16;
constexpr std::uint64_t kChunkBlocks = limits::kBatchBlocks;

std::uint64_t block_count(std::uint64_t offset, std::uint64_t bytes) noexcept {
  return (offset + bytes + kBlockBytes - 1) / kBlockBytes - offset / kBlockBytes;
}

}  // namespace

ByteSpan AsyncDisk::slot_bytes(std::uint64_t first_slot, std::uint64_t slots) const {
  SlotRun run;
  run.first = static_cast<std::uint32_t>(first_slot);
  run.count = static_cast<std::uint32_t>(slots);
  return batch_->slots(run);
}

// ---- the write itself, under the mapping's lock ----

std::int64_t AsyncDisk::clean_leaves(Lbn lbn, std::uint64_t blocks) const {
  std::int64_t clean = 0;
  const std::uint64_t last = (lbn.value + blocks - 1) / snapshot::kPageEntries;
  for (std::uint64_t leaf = lbn.value / snapshot::kPageEntries; leaf <= last; ++leaf) {
    if (!dirty_leaves_.contains(leaf)) ++clean;
  }
  return clean;
}

void AsyncDisk::mark_leaves_dirty(Lbn lbn, std::uint64_t blocks) {
  const std::uint64_t last = (lbn.value + blocks - 1) / snapshot::kPageEntries;
  for (std::uint64_t leaf = lbn.value / snapshot::kPageEntries; leaf <= last; ++leaf) {
    dirty_leaves_.insert(leaf);
  }
}

/// Splits content into zero runs and blocks copied to fresh slots; false when slots ran out (none
/// is kept then).
bool AsyncDisk::stage_blocks(Lbn lbn,
                             ByteSpan content,
                             std::vector<BatchEntry>& entries,
                             std::vector<Extent>& extents) {
  const std::uint64_t blocks = content.size() / kBlockBytes;
  const auto block_at = [&](std::uint64_t i) {
    return content.subspan(i * kBlockBytes, kBlockBytes);
  };
  std::vector<SlotRun> taken;
  for (std::uint64_t i = 0; i < blocks;) {
    const bool zero = is_all_zero(block_at(i));
    std::uint64_t end = i + 1;
    while (end < blocks && is_all_zero(block_at(end)) == zero) ++end;
    const Lbn first(lbn.value + i);
    if (zero) {
      entries.push_back(BatchEntry::make_zero(first, end - i));
      extents.push_back({first, end - i, Where::zero, 0});
      i = end;
      continue;
    }
    std::vector<SlotRun> runs;
    if (!batch_->allocate(static_cast<std::uint32_t>(end - i), runs)) {
      for (const SlotRun& run : taken) batch_->free_slots(run);
      return false;
    }
    for (const SlotRun& run : runs) {
      taken.push_back(run);
      const Lbn at(lbn.value + i);
      for (std::uint32_t slot = 0; slot < run.count; ++slot, ++i) {
        const ByteSpan from = block_at(i);
        const MutableBytes to = batch_->slot(run.first + slot);
        std::copy(from.begin(), from.end(), to.begin());
      }
      entries.push_back(BatchEntry::make_blocks(at, run));
      extents.push_back({at, run.count, Where::slot, run.first});
    }
  }
  return true;
}

void AsyncDisk::put_extent(const Extent& extent) {
  mapping_.overlay().put(extent, [this](const Extent& old) {
    if (old.where == Where::address) open_garbage_.push_back(old);
  });
  open_runs_.put(extent, [this](const Extent& old) {
    if (old.where != Where::slot) return;
    SlotRun run;
    run.first = static_cast<std::uint32_t>(old.place);
    run.count = static_cast<std::uint32_t>(old.blocks);
    batch_->free_slots(run);  // superseded by what was just published
    open_blocks_ -= old.blocks;
    log_->give_credit(static_cast<std::int64_t>(old.blocks));
  });
  if (extent.where == Where::slot) open_blocks_ += extent.blocks;
}

/// Brings the old content of a partly written block into `block`; false when it must be read first.
bool AsyncDisk::merge_block(Lbn lbn, Merge& merge, MutableBytes block) {
  const auto pieces = mapping_.pieces(lbn, 1);
  const Mapping::Piece& piece = pieces.front();
  merge.needed = true;
  // The same Merge serves the first block of a write and, if a chunk is less than a block, its
  // last.
  if (merge.lbn != lbn) merge.have_bytes = false;
  merge.lbn = lbn;
  if (!piece.in_pages && piece.extent.where == Where::slot) {
    const ByteSpan bytes = slot_bytes(piece.extent.place, 1);
    std::copy(bytes.begin(), bytes.end(), block.begin());
    return true;
  }
  if (!piece.in_pages && piece.extent.where == Where::zero) {
    std::fill(block.begin(), block.end(), std::byte{0});
    return true;
  }
  const Address address = piece.in_pages ? Address() : Address::from_raw(piece.extent.place);
  const bool same = merge.have_bytes && merge.in_pages == piece.in_pages &&
                    (piece.in_pages ? merge.top == mapping_.top() : merge.address == address);
  if (same) {
    std::copy(merge.bytes.begin(), merge.bytes.end(), block.begin());
    return true;
  }
  merge.have_bytes = false;
  merge.in_pages = piece.in_pages;
  merge.top = mapping_.top();
  merge.address = address;
  return false;
}

AsyncDisk::Outcome AsyncDisk::write_chunk(
    Lbn lbn, std::uint64_t blocks, std::uint64_t offset, ByteSpan bytes, Merge& head, Merge& tail) {
  const Mapping::Lock lock(mapping_.mutex());
  if (!writable_.load()) return Outcome::not_owner;
  const std::uint64_t skip = offset - lbn.value * kBlockBytes;
  ByteSpan content = bytes;
  std::vector<std::byte> merged;
  if (skip != 0 || bytes.size() != blocks * kBlockBytes) {
    merged.resize(blocks * kBlockBytes);
    const MutableBytes all(merged);
    const bool head_partial = skip != 0 || bytes.size() < kBlockBytes;
    const bool tail_partial = (skip + bytes.size()) % kBlockBytes != 0;
    if (head_partial && !merge_block(lbn, head, all.first(kBlockBytes))) return Outcome::merge;
    if (tail_partial && (blocks > 1 || !head_partial) &&
        !merge_block(Lbn(lbn.value + blocks - 1), tail, all.last(kBlockBytes))) {
      return Outcome::merge;
    }
    std::copy(bytes.begin(), bytes.end(), merged.begin() + static_cast<std::ptrdiff_t>(skip));
    content = merged;
  }
  if (!batch_->can_publish(2 * blocks + 1)) return Outcome::full;
  if (slowed_ && slow_allowance_ <= 0) return Outcome::slowed;
  if (open_blocks_ + blocks > limits::kBatchBlocks) {  // a record holds no more
    close_open_batch(false);
    kick();
  }
  const auto charge = static_cast<std::int64_t>(blocks);
  const std::int64_t leaves = clean_leaves(lbn, blocks);
  if (!log_->take_credit(charge + leaves)) return Outcome::no_credit;
  std::vector<BatchEntry> entries;
  std::vector<Extent> extents;
  if (!stage_blocks(lbn, content, entries, extents)) {
    log_->give_credit(charge + leaves);
    return Outcome::full;
  }
  charged_pages_ += leaves;
  mark_leaves_dirty(lbn, blocks);
  batch_->publish(entries);
  VMS_FAULT("disk.published");
  std::int64_t stored = 0;
  for (const Extent& extent : extents) {
    put_extent(extent);
    if (extent.where == Where::slot) stored += static_cast<std::int64_t>(extent.blocks);
  }
  if (stored < charge) log_->give_credit(charge - stored);
  if (slowed_) slow_allowance_ -= charge;  // one that takes more makes the next ones wait longer
  after_publish();
  return Outcome::done;
}

void AsyncDisk::after_publish() {
  if (open_since_ns_.load() == 0) {
    open_since_ns_ = session_.scheduler().now().time_since_epoch().count();
    // Waking a thread costs more than the write itself: not when it looks soon enough anyway.
    if (!watched_ || is_credit_low()) kick();
  }
  if (open_blocks_ >= limits::kBatchBlocks || open_runs_.run_count() >= kOpenRunsMax) {
    close_open_batch(false);
    kick();
  }
}

AsyncDisk::Outcome AsyncDisk::zero_run(Lbn lbn, std::uint64_t blocks) {
  const Mapping::Lock lock(mapping_.mutex());
  if (!writable_.load()) return Outcome::not_owner;
  if (!batch_->can_publish(1)) return Outcome::full;
  // Discards may use the reserve (C10): they must work on a full store, since they free space. Only
  // a leaf that the run covers in part is written again; the others fall away whole.
  std::int64_t leaves = 0;
  for (const std::uint64_t edge : {lbn.value, lbn.value + blocks}) {
    if (edge % snapshot::kPageEntries == 0) continue;
    if (dirty_leaves_.insert(edge / snapshot::kPageEntries).second) ++leaves;
  }
  log_->force_credit(leaves);
  charged_pages_ += leaves;
  const BatchEntry entry = BatchEntry::make_zero(lbn, blocks);
  batch_->publish(std::span(&entry, 1));
  put_extent({lbn, blocks, Where::zero, 0});
  has_discards_ = true;
  after_publish();
  return Outcome::done;
}

AsyncDisk::Outcome AsyncDisk::write_blocks(
    std::uint64_t offset, ByteSpan bytes, Merge& head, Merge& tail, std::size_t& written) {
  while (written < bytes.size()) {
    const std::uint64_t at = offset + written;
    const Lbn lbn(at / kBlockBytes);
    const std::uint64_t chunk_end = (lbn.value + kChunkBlocks) * kBlockBytes;
    const std::size_t count =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size() - written, chunk_end - at));
    const Outcome outcome =
        write_chunk(lbn, block_count(at, count), at, bytes.subspan(written, count), head, tail);
    if (outcome != Outcome::done) return outcome;
    written += count;
  }
  return Outcome::done;
}

bool AsyncDisk::try_write(std::uint64_t offset, ByteSpan bytes) {
  if (!writable_.load(std::memory_order_acquire) || write_through_) return false;
  Merge head;
  Merge tail;
  std::size_t written = 0;
  for (int attempt = 0; attempt < 4; ++attempt) {
    const Outcome outcome = write_blocks(offset, bytes, head, tail, written);
    if (outcome == Outcome::done) return true;
    if (outcome != Outcome::merge) return false;  // the slow way writes all of it again: same bytes
    if (!try_prepare_merge(head) || !try_prepare_merge(tail)) return false;
  }
  return false;
}

bool AsyncDisk::try_zero(std::uint64_t offset, std::uint64_t bytes) {
  if (!writable_.load(std::memory_order_acquire) || write_through_) return false;
  if (offset % kBlockBytes != 0 || bytes % kBlockBytes != 0 || bytes == 0) return false;
  return zero_run(Lbn(offset / kBlockBytes), bytes / kBlockBytes) == Outcome::done;
}

bool AsyncDisk::try_prepare_merge(Merge& merge) {
  if (!merge.needed || merge.have_bytes) return true;
  Address address = merge.address;
  if (merge.in_pages) {
    const auto found = reader_.try_lookup(merge.top, merge.lbn);
    if (!found) return false;
    address = *found;
  }
  merge.bytes.assign(kBlockBytes, std::byte{0});
  if (!address.is_unmapped() && !session_.blocks().try_read(address, merge.bytes)) return false;
  merge.have_bytes = true;
  return true;
}

Task<Result<void>> AsyncDisk::prepare_merge(Merge& merge) {
  if (!merge.needed || merge.have_bytes) co_return success();
  const auto outcome = co_await read_for_merge(merge);
  if (outcome) co_return success();
  // Freed meanwhile: somebody wrote the block; the caller looks again and finds another place.
  const bool gone = outcome.error() == Errc::punched || outcome.error() == Errc::not_found;
  if (gone) co_return ++merge.times_gone <= kMergeLookups ? success() : Result<void>(Errc::corrupt);
  if (net::is_connection_trouble(outcome.error())) co_return co_await wait_for_node();
  co_return outcome.error();
}

Task<Result<void>> AsyncDisk::read_for_merge(Merge& merge) {
  Address address = merge.address;
  if (merge.in_pages) {
    VMS_CO_TRY(address, co_await snapshot::lookup(reader_.pages(), merge.top, merge.lbn));
  }
  merge.bytes.assign(kBlockBytes, std::byte{0});
  if (!address.is_unmapped()) {
    std::vector<BlockWant> wants;
    BlockWant want;
    want.address = address;
    want.into = merge.bytes;
    wants.push_back(want);
    VMS_CO_CHECK(co_await session_.blocks().read(std::move(wants)));
  }
  merge.have_bytes = true;
  co_return success();
}

Task<Result<void>> AsyncDisk::wait_for_room(Outcome why, std::optional<TimePoint>& no_space_at) {
  Scheduler& scheduler = session_.scheduler();
  if (why == Outcome::no_credit) {
    const auto refilled = co_await log_->refill_credit(options_.credit_ahead_blocks);
    const bool is_full = !refilled && refilled.error() == Errc::no_space;
    if (!is_full) no_space_at.reset();
    if (refilled) co_return success();
    if (!is_full && !net::is_connection_trouble(refilled.error())) co_return refilled.error();
    if (is_full && !no_space_at) no_space_at = scheduler.now() + options_.no_space_wait;
    if (is_full && scheduler.now() >= *no_space_at) co_return Errc::no_space;
    co_await sleep_for(scheduler, std::chrono::milliseconds(200));
    co_return success();
  }
  {
    const Mapping::Lock lock(mapping_.mutex());
    close_open_batch(false);
  }
  drain_closed();
  if (log_->failure()) co_return *log_->failure();
  // Bounded, so that a failure of the log is seen.
  static_cast<void>(co_await room_.wait_pulse(scheduler.now() + std::chrono::seconds(1)));
  co_return success();
}

Task<Result<void>> AsyncDisk::write(std::uint64_t offset, ByteSpan bytes) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  if (bytes.empty()) co_return success();
  std::optional<TimePoint> no_space_at;
  Merge head;
  Merge tail;
  std::size_t written = 0;
  for (;;) {
    const Outcome outcome = write_blocks(offset, bytes, head, tail, written);
    if (outcome == Outcome::done) break;
    if (outcome == Outcome::not_owner) {
      VMS_CO_CHECK(co_await ensure_writable());
    } else if (outcome == Outcome::merge) {
      VMS_CO_CHECK(co_await prepare_merge(head));
      VMS_CO_CHECK(co_await prepare_merge(tail));
    } else if (outcome == Outcome::slowed) {
      co_await wait_for_frees();
    } else {
      VMS_CO_CHECK(co_await wait_for_room(outcome, no_space_at));
    }
  }
  if (write_through_) co_return co_await flush();
  co_return success();
}

Task<Result<void>> AsyncDisk::zero(std::uint64_t offset, std::uint64_t bytes) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  const std::uint64_t end = offset + bytes;
  const std::uint64_t first = (offset + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  // The last block of a disk may be partial: zeroing up to the end takes all of it.
  const std::uint64_t last = end == size_bytes()
                                 ? (end + kBlockBytes - 1) / kBlockBytes * kBlockBytes
                                 : end / kBlockBytes * kBlockBytes;
  if (first >= last) {  // no whole block in it
    const std::vector<std::byte> zeros(bytes);
    co_return co_await write(offset, zeros);
  }
  const std::vector<std::byte> zeros(kBlockBytes);
  if (offset < first) {
    VMS_CO_CHECK(co_await write(offset, ByteSpan(zeros).first(first - offset)));
  }
  std::optional<TimePoint> no_space_at;
  for (;;) {
    const Outcome outcome = zero_run(Lbn(first / kBlockBytes), (last - first) / kBlockBytes);
    if (outcome == Outcome::done) break;
    if (outcome == Outcome::not_owner) {
      VMS_CO_CHECK(co_await ensure_writable());
    } else {
      VMS_CO_CHECK(co_await wait_for_room(outcome, no_space_at));
    }
  }
  if (last < end) {
    VMS_CO_CHECK(co_await write(last, ByteSpan(zeros).first(end - last)));
  }
  if (write_through_) co_return co_await flush();
  co_return success();
}

// ---- closing and sending ----

void AsyncDisk::close_open_batch(bool flush_mark) {
  if (open_runs_.empty()) return;
  auto batch = std::make_shared<ClosedBatch>();
  batch->sequence = Sequence(++last_assigned_);
  batch->flush_mark = flush_mark;
  open_runs_.visit_all([&](const Extent& extent) { batch->extents.push_back(extent); });
  batch->garbage = std::move(open_garbage_);
  batch->end_entry = batch_->close_batch(batch->sequence, flush_mark);
  open_runs_.clear();
  open_garbage_.clear();
  open_blocks_ = 0;
  open_since_ns_ = 0;
  closed_.push_back(std::move(batch));
}

void AsyncDisk::kick() {
  if (kicked_.exchange(true)) return;
  session_.scheduler().post([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->kicked_ = false;
    self->drain_closed();
    self->wake_.pulse();
    if (!self->background_running_ && !self->gate_.is_closed()) {
      self->background_running_ = true;
      self->session_.scheduler().spawn(self->background());
    }
  });
}

void AsyncDisk::drain_closed() {
  for (;;) {
    std::shared_ptr<ClosedBatch> batch;
    {
      const Mapping::Lock lock(mapping_.mutex());
      if (closed_.empty()) return;
      batch = closed_.front();
      closed_.pop_front();
    }
    if (!batch->is_batch) {
      log_->append(std::move(batch->item));
      continue;
    }
    LogItem item = item_of_batch(*batch);
    item.on_commit = [this, batch](const Placement& place) { on_batch_committed(*batch, place); };
    log_->append(std::move(item));
  }
}

LogItem AsyncDisk::item_of_batch(ClosedBatch& batch) {
  LogItem item;
  item.header.kind = wire::RecordKind::data;
  item.header.sequence = batch.sequence;
  item.header.flush_mark = batch.flush_mark;
  std::vector<ByteSpan> pieces;
  for (const Extent& extent : batch.extents) {
    wire::Run run;
    run.lbn = extent.lbn;
    run.count = extent.blocks;
    run.kind = extent.where == Where::zero ? wire::RunKind::zero : wire::RunKind::stored;
    // Runs that lie side by side in the record are one run, whatever slots they came from.
    const bool merges =
        !item.header.runs.empty() && item.header.runs.back().kind == run.kind &&
        item.header.runs.back().lbn.value + item.header.runs.back().count == run.lbn.value;
    if (merges) {
      item.header.runs.back().count += run.count;
    } else {
      item.header.runs.push_back(run);
    }
    if (extent.where != Where::slot) continue;
    const ByteSpan bytes = slot_bytes(extent.place, extent.blocks);
    pieces.push_back(bytes);
    for (std::size_t i = 0; i < extent.blocks; ++i) {
      item.header.block_sums.push_back(block_sum(bytes.subspan(i * kBlockBytes, kBlockBytes)));
    }
  }
  std::shared_ptr<void> owner = heap_memory_;
  if (handle_ != nullptr) owner = handle_;
  item.blocks = wire::Payload(std::move(pieces), std::move(owner));
  return item;
}

void AsyncDisk::on_batch_committed(const ClosedBatch& batch, const Placement& place) {
  std::vector<Extent> dead;
  {
    const Mapping::Lock lock(mapping_.mutex());
    std::uint64_t stored = 0;
    for (const Extent& extent : batch.extents) {
      if (extent.where != Where::slot) continue;
      for (const Extent& garbage :
           mapping_.commit_slots(extent.lbn, extent.blocks, extent.place, place.block(stored))) {
        dead.push_back(garbage);
      }
      stored += extent.blocks;
    }
    std::vector<SlotRun> runs;
    batch_->release_up_to(batch.end_entry, runs);
    for (const SlotRun& run : runs) batch_->free_slots(run);
    if (batch.of_takeover) --takeover_left_;
    if (takeover_active_ && takeover_left_ == 0 && batch_->empty()) {
      batch_->end_takeover();
      takeover_active_ = false;
    }
    // A newer batch superseded these: they die at the latest with the commit of the open batch.
    open_garbage_.insert(open_garbage_.end(), dead.begin(), dead.end());
  }
  for (const Extent& extent : batch.garbage) {
    add_garbage(Address::from_raw(extent.place), extent.blocks);
  }
  note_committed(place);
  room_.pulse();
}

void AsyncDisk::note_committed(const Placement& place) {
  committed_end_ = place.end;
  committed_data_end_ = place.data_end;
  if (const auto mark = marks_.find(place.sequence); mark != marks_.end()) {
    mark->second = Mark{place.end, place.data_end};
  }
}

Sequence AsyncDisk::enqueue(LogItem item) {
  auto batch = std::make_shared<ClosedBatch>();
  batch->is_batch = false;
  batch->item = std::move(item);
  auto then = std::move(batch->item.on_commit);
  batch->item.on_commit = [this, then = std::move(then)](const Placement& place) {
    note_committed(place);
    if (then) then(place);
  };
  Sequence sequence;
  {
    const Mapping::Lock lock(mapping_.mutex());
    sequence = Sequence(++last_assigned_);
    batch->item.header.sequence = sequence;
    closed_.push_back(batch);
  }
  drain_closed();
  return sequence;
}

// ---- flush ----

Sequence AsyncDisk::close_and_last_sequence(bool flush_mark) {
  const Mapping::Lock lock(mapping_.mutex());
  close_open_batch(flush_mark);
  return Sequence(last_assigned_);
}

bool AsyncDisk::try_flush() {
  const Mapping::SharedLock lock(mapping_.mutex());
  if (mode_.load() != Mode::owner) return false;
  if (log_ == nullptr || log_->has_failed()) return false;
  return open_runs_.empty() && log_->committed() == Sequence(last_assigned_);
}

/// True when another process of this host may have left writes that were acknowledged: our guest
/// may be the one that made them. A locked file is that of a living one, which has its own guest.
bool AsyncDisk::may_have_left_over() const {
  const auto handle = session_.batches().open(session_.store(), id_, false);
  if (handle) return !(*handle)->is_new();
  return handle.error() != Errc::not_found && handle.error() != Errc::busy;
}

/// Who does not own the disk has nothing to flush, once that is certain: what a process before this
/// one acknowledged is only recovered by whoever takes the token.
Task<Result<void>> AsyncDisk::decide_before_flush() {
  while (mode_.load() != Mode::owner && !released_in_order_) {
    if (failure_) co_return *failure_;
    const auto acquired = co_await acquire();
    if (acquired) continue;
    if (net::is_connection_trouble(acquired.error())) {
      VMS_CO_CHECK(co_await wait_for_node());
      continue;
    }
    if (acquired.error() != Errc::busy) co_return acquired.error();
    if (!may_have_left_over()) break;
    if (stopping_.is_set()) co_return Errc::closing;
    co_await sleep_for(session_.scheduler(), kLookAgain);
  }
  co_return success();
}

Task<Result<void>> AsyncDisk::flush() {
  VMS_CO_TRY(const auto pass, gate_.enter());
  VMS_CO_CHECK(co_await decide_before_flush());
  if (failure_) co_return *failure_;
  if (mode_.load() != Mode::owner || log_ == nullptr) co_return success();
  const Sequence last = close_and_last_sequence(true);
  drain_closed();
  const auto outcome = co_await log_->wait_committed(last);
  if (!outcome && outcome.error() != Errc::closing) become_failed(outcome.error());
  co_return outcome;
}

AsyncDisk::Load AsyncDisk::load() const {
  const Mapping::SharedLock lock(mapping_.mutex());
  Load load;
  if (log_ == nullptr) return load;  // given back meanwhile
  load.idle = open_runs_.empty() && log_->committed() == Sequence(last_assigned_);
  // What a guest discards is space again only when pages say so: not at every one, but soon.
  const bool discards_due =
      has_discards_ && session_.scheduler().now() - frozen_at_ >= kDiscardsWait;
  if (has_discards_) load.idle = false;
  load.checkpoint = discards_due || mapping_.overlay().run_count() >= options_.checkpoint_runs ||
                    dirty_leaves_.size() >= options_.checkpoint_leaves ||
                    log_->replay_bytes() >= options_.checkpoint_log_bytes;
  return load;
}

/// Closes batches that grew old, keeps credit ahead, checkpoints when it is time.
bool AsyncDisk::is_credit_low() const {
  return log_->credit_blocks() < options_.credit_ahead_blocks / 2;
}

/// Says whether background() will look at the open batch before it is kBatchAgeMax old. False when
/// there is one that nobody would look at.
bool AsyncDisk::set_watched(bool watched) {
  const Mapping::Lock lock(mapping_.mutex());
  if (!watched && open_since_ns_.load() != 0) return false;
  watched_ = watched;
  return true;
}

Task<void> AsyncDisk::background() {
  const auto pass = gate_.enter();
  Scheduler& scheduler = session_.scheduler();
  static_cast<void>(set_watched(true));
  while (pass && !stopping_.is_set() && mode_.load() == Mode::owner && log_ != nullptr &&
         !log_->failure()) {
    const std::int64_t since = open_since_ns_.load();
    TimePoint next = scheduler.now() + Duration(limits::kBatchAgeMax);
    if (since != 0) next = TimePoint(Duration(since)) + Duration(limits::kBatchAgeMax);
    if (since != 0 && scheduler.now() >= next) {
      static_cast<void>(close_and_last_sequence(false));
      drain_closed();
      continue;
    }
    if (log_->is_writing() && is_credit_low()) {
      const auto refilled = co_await log_->refill_credit(options_.credit_ahead_blocks);
      ignore(refilled, "a writer that needs it asks again");
      room_.pulse();
    }
    const Load now = load();
    if (now.checkpoint && scheduler.now() >= checkpoint_again_at_) {
      const auto done = co_await checkpoint();
      if (!done && done.error() == Errc::stale_token) become_failed(done.error());
      if (!done) checkpoint_again_at_ = scheduler.now() + kCheckpointPause;
    }
    if (now.idle && set_watched(false)) break;
    static_cast<void>(co_await wake_.wait_pulse(next));
  }
  {
    const Mapping::Lock lock(mapping_.mutex());
    watched_ = false;
  }
  background_running_ = false;
}

}  // namespace vmstore::disk
