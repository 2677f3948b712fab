// SPDX-License-Identifier: Apache-2.0
// AsyncDisk: the token: taking it, recovering, the batch file of a dead predecessor, giving it
// back.
// Steps of docs/protocol/ownership.pml: fence, choose_end, settle, serve, release; handover.pml:
// acquire, become_writer, hand_over.
#include "disk/async_disk.h"

#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "meta/records.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::disk {
namespace {

constexpr int kTokenRaces = 8;
constexpr Duration kAskAgain = std::chrono::milliseconds(20);
constexpr Duration kReleaseWait = std::chrono::seconds(30);

LogPosition sealed_end(const meta::pb::DiskRecord& record) {
  const KeyLength length = meta::from_pb(record.last_sealed_length());
  LogPosition end;
  end.key = *KeyId::make(record.last_sealed().key());
  end.log_offset = length.log_bytes;
  end.sequence = length.last_sequence.next();
  return end;
}

}  // namespace

AsyncDisk::AsyncDisk(Session& session, VersionedDisk disk, AsyncDiskOptions options)
    : session_(session),
      id_(disk_id_of(disk.record)),
      options_(options),
      record_(session.scheduler(), session.catalogue()),
      reader_(mapping_, session.blocks(), this),
      token_mutex_(session.scheduler()),
      maintenance_mutex_(session.scheduler()),
      gate_(session.scheduler()),
      stopping_(session.scheduler()),
      room_(session.scheduler()),
      freed_(session.scheduler()),
      wake_(session.scheduler()),
      size_bytes_(disk.record.size_bytes()) {
  record_.adopt(std::move(disk));
}

AsyncDisk::~AsyncDisk() = default;

void AsyncDisk::note_request_begin() noexcept {
  requests_open_.fetch_add(1);
  last_request_ns_ = session_.scheduler().now().time_since_epoch().count();
}
void AsyncDisk::note_request_end() noexcept {
  requests_open_.fetch_sub(1);
}

void AsyncDisk::become_failed(const Error& error) {
  if (failure_) return;
  failure_ = error;
  writable_ = false;
  mode_ = Mode::failed;
  session_.forget_disk(id_, this);
  VMS_LOG(error,
          "disk",
          "disk " << id_.hex() << " answers only errors from here on: " << to_string(error));
  const auto self = weak_from_this().lock();
  if (self != nullptr && !gate_.is_closed()) session_.scheduler().spawn(let_go(self));
}

Task<void> AsyncDisk::let_go(std::shared_ptr<AsyncDisk> self) {
  const auto pass = self->gate_.enter();
  if (!pass) co_return;  // abandon() does it
  // become_failed() may have been called by the log that is dropped here.
  co_await sleep_for(self->session_.scheduler(), Duration(0));
  const auto token = co_await self->token_mutex_.lock();
  const auto maintenance = co_await self->maintenance_mutex_.lock();
  const bool had_log = self->log_ != nullptr;
  co_await self->drop_log();
  {
    const Mapping::Lock lock(self->mapping_.mutex());
    self->closed_.clear();
    // A read that began before may still copy from the slots: from now on out of our own memory.
    const bool in_file = had_log && self->batch_ && self->handle_ != nullptr;
    if (in_file) self->batch_->move_to(self->make_private_memory());
    self->handle_.reset();
  }
  co_await self->session_.release(self->id_, self->record_.epoch(), self.get());
}

void AsyncDisk::on_fenced(Epoch epoch) {
  const auto self = weak_from_this().lock();
  if (self != nullptr && !gate_.is_closed()) {
    session_.scheduler().spawn(settle_fenced(self, epoch));
  }
}

Task<void> AsyncDisk::settle_fenced(std::shared_ptr<AsyncDisk> self, Epoch epoch) {
  const auto pass = self->gate_.enter();
  if (!pass) co_return;
  const auto token = co_await self->token_mutex_.lock();
  // Given back meanwhile, in order: the newer owner is one that we made room for.
  if (self->mode_.load() != Mode::owner || self->record_.epoch() != epoch) co_return;
  if (self->my_writer_epoch_) {
    self->become_failed(Errc::stale_token);
    co_return;
  }
  const auto maintenance = co_await self->maintenance_mutex_.lock();
  co_await self->lose_token();  // nothing was written under it: another attempt harms nobody
}

Task<Result<bool>> AsyncDisk::is_outdated() {
  if (failure_) co_return true;
  if (mode_.load() == Mode::owner || !my_writer_epoch_) co_return false;
  VMS_CO_TRY(const auto newest, co_await session_.catalogue().disk_by_id(id_));
  co_return newest.record.writer().epoch() != my_writer_epoch_->value;
}

// ---- taking the token ----

Task<Result<void>> AsyncDisk::acquire() {
  // Without the lock: a resize that holds it may ask when its disk is being closed.
  if (mode_.load() == Mode::closed) co_return Errc::closing;
  const auto lock = co_await token_mutex_.lock();
  if (failure_) co_return *failure_;
  if (mode_.load() == Mode::owner) co_return success();
  if (mode_.load() == Mode::closed) co_return Errc::closing;
  const auto outcome = co_await acquire_locked();
  if (!outcome) handle_.reset();  // a lock without the token would stand in everybody's way
  if (!outcome && outcome.error() != Errc::busy && outcome.error() != Errc::disconnected) {
    VMS_LOG(warning,
            "disk",
            "disk " << id_.hex() << " cannot be opened: " << to_string(outcome.error()));
  }
  co_return outcome;
}

Task<Result<void>> AsyncDisk::acquire_locked() {
  for (int attempt = 0; attempt < kTokenRaces; ++attempt) {
    VMS_CO_TRY(auto newest, co_await session_.catalogue().disk_by_id(id_));
    VMS_CO_TRY(const auto holder, co_await session_.node().holder(id_));
    // One of an older epoch was fenced, and does not know it yet.
    if (holder.held && holder.epoch.value >= newest.record.epoch()) co_return Errc::busy;
    VMS_FAULT("disk.unheld");
    handle_.reset();
    auto handle = session_.batches().open(session_.store(), id_, false);
    if (!handle && handle.error() != Errc::not_found) co_return handle.error();
    if (handle) handle_ = std::move(*handle);
    const bool is_unused =
        unused_token_ && meta::from_pb<TokenNonce>(newest.record.token_nonce()) == *unused_token_;
    const bool clean = is_unused || newest.record.state() == meta::pb::DiskRecord::released;
    const meta::pb::Writer prior = newest.record.writer();
    record_.adopt(std::move(newest));
    // Somebody else wrote after we did: what our guest believes is no longer true (DESIGN 6).
    if (my_writer_epoch_ && prior.epoch() != my_writer_epoch_->value) {
      VMS_LOG(error,
              "disk",
              "two_writers: disk " << record_.get().name() << " was written by another session");
      become_failed(Errc::stale_token);
      co_return Errc::stale_token;
    }
    const auto state = clean ? meta::pb::DiskRecord::held : meta::pb::DiskRecord::recovering;
    const auto nonce = session_.random().id128<TokenNonce>();
    const auto taken = co_await record_.take_token(state, nonce);
    if (!taken && taken.error() == Errc::conflict) continue;
    // Taken or not, nothing was written under it: the caller begins again.
    if (!taken && taken.error() == Errc::unknown) co_return Errc::timed_out;
    if (!taken) co_return taken.error();
    unused_token_ = clean ? std::optional(nonce) : std::nullopt;
    const Epoch next = record_.epoch();
    VMS_FAULT("disk.token_named");
    // After a release in order nobody was left who answers for the disk.
    if (!clean) VMS_CO_CHECK(co_await outlast_older_holders());
    VMS_FAULT("disk.outlasted");
    const auto announced = co_await session_.hold(id_, next, this);
    if (!announced && announced.error() == Errc::stale_token) continue;
    if (!announced) co_return announced.error();
    VMS_FAULT("disk.token_taken");
    const auto recovered = co_await recover(clean, prior);
    if (!recovered) {
      co_await session_.release(id_, next, this);
      co_await drop_log();
      handle_.reset();
      co_return recovered.error();
    }
    unused_token_.reset();
    mode_ = Mode::owner;
    co_return success();
  }
  co_return Errc::busy;
}

// One that registered between our look at the node and our change of the record, or is of before a
// forced fence. It answers at once, whatever it does; one that does not answer has a lease that
// runs out.
Task<Result<void>> AsyncDisk::outlast_older_holders() {
  const TimePoint deadline = session_.scheduler().now() + 3 * Duration(limits::kLeaseTime);
  for (;;) {
    VMS_CO_TRY(const auto holder, co_await session_.node().holder(id_));
    if (!holder.held || holder.epoch > record_.epoch()) co_return success();
    if (holder.session.value != 0) {
      pb::DiskCallRequest request;
      wire::put_id(*request.mutable_disk(), id_);
      request.mutable_prove();
      const TimePoint answer_by = session_.scheduler().now() + Duration(limits::kLeaseTime);
      const auto answer = co_await session_.node().call_holder(request, answer_by);
      if (answer) co_return success();
    }
    if (session_.scheduler().now() >= deadline) co_return Errc::timed_out;
    if (stopping_.is_set()) co_return Errc::closing;
    co_await sleep_for(session_.scheduler(), kAskAgain);
  }
}

Task<Result<void>> AsyncDisk::renew_lease() {
  const Epoch epoch = record_.epoch();
  Result<void> renewed(Errc::not_owner);
  if (!lease_.is_over()) renewed = co_await session_.renew(id_);
  if (renewed) co_return success();
  if (renewed.error() == Errc::stale_token) {
    co_await settle_fenced(shared_from_this(), epoch);
    co_return success();
  }
  if (renewed.error() == Errc::not_owner) {
    // It is being given back: afterwards somebody else holds it, or this one anew.
    const auto token = co_await token_mutex_.lock();
    co_return stopping_.is_set() ? Result<void>(Errc::closing) : success();
  }
  if (net::is_connection_trouble(renewed.error())) co_return co_await wait_for_node();
  co_return renewed;
}

Task<Result<snapshot::RunMap>> AsyncDisk::replay_base() {
  snapshot::RunMap overlay;
  const auto apply = [&overlay](const ReplayedRecord& record) -> Result<void> {
    apply_runs(record.header, overlay);
    return success();
  };
  const ClosedView base = view_from(record_.get().base());
  for (const LogPart& part : base.parts) {
    VMS_CO_CHECK(co_await visit_log(session_.copies(), part.from, part.to, Epoch(), apply));
  }
  co_return overlay;
}

Task<Result<void>> AsyncDisk::recover(bool clean, meta::pb::Writer prior) {
  const meta::pb::DiskRecord& record = record_.get();
  ReplayRequest request;
  request.token = record_.epoch();
  request.top = Address::from_raw(record.base().top_page());
  request.disk_bytes = record.size_bytes();
  VMS_CO_TRY(request.overlay, co_await replay_base());

  LogStart start;
  start.last_sequence = Sequence(record.last_sequence());
  start.last_key = *KeyId::make(record.last_sealed().key());
  start.last_length = meta::from_pb(record.last_sealed_length());
  LogPosition end = sealed_end(record);
  const KeyPlace open_place = place_from(record.open_key());
  const KeyId open_key = open_place.key;
  KeyLength open_length;
  if (!open_key.is_none() && clean) {
    end = meta::from_pb(record.log_end());
    open_length.last_sequence = Sequence(record.last_sequence());
    open_length.log_bytes = end.log_offset;
    open_length.blocks = BlockIndex{record.open_blocks()};
    start.open_key = open_place;
    start.open_length = open_length;
  } else if (!open_key.is_none()) {
    const auto fenced = co_await session_.copies().fence(open_place, record_.epoch());
    if (!fenced) co_return fenced.error();
    VMS_FAULT("disk.fenced");
    open_length = fenced->length;
    end = {open_key, open_length.log_bytes, open_length.last_sequence.next()};
  }
  request.from = meta::from_pb(record.log_from());
  VMS_CO_TRY(auto state, co_await replay_own_log(end, std::move(request)));
  if (!record.log_from().key()) state.last_sequence = start.last_sequence;

  if (!open_key.is_none() && !clean) {
    const auto sealed = co_await session_.copies().seal(open_place, record_.epoch(), open_length);
    if (sealed.done == 0 || sealed.error == Errc::stale_token) co_return sealed.error;
    start.last_key = open_key;
    start.last_length = open_length;
  }
  start.last_sequence = state.last_sequence;
  start.root = state.has_root ? state.root : LogPosition();
  const auto settle = [&](meta::pb::DiskRecord& wanted) {
    wanted.set_state(meta::pb::DiskRecord::held);
    wanted.set_last_sequence(state.last_sequence.value);
    wanted.set_size_bytes(state.disk_bytes);
    // The dead session may have made keys of the range that nobody knows, and they may have been
    // collected: a number is never used twice.
    wanted.clear_key_range_first();
    wanted.clear_key_range_next();
    if (!start.open_key) {
      wanted.clear_open_key();
      wanted.mutable_last_sealed()->set_key(start.last_key.value());
      *wanted.mutable_last_sealed_length() = meta::to_pb(start.last_length);
    }
  };
  if (!clean) VMS_CO_CHECK(co_await record_.change(settle));

  const Sequence recovered = state.last_sequence;
  co_await adopt_state(std::move(state), start, end);
  co_return co_await recover_batch_file(recovered, clean, prior);
}

/// The recovered state becomes what this session serves.
Task<void> AsyncDisk::adopt_state(ReplayedState state, LogStart start, LogPosition end) {
  const meta::pb::DiskRecord& record = record_.get();
  co_await drop_log();
  auto log = std::make_unique<Log>(
      session_.scheduler(), session_.copies(), record_, options_.key_roll_bytes);
  log->begin(start);
  // A fenced owner takes no more writes, not even into its batch file (I3).
  log->set_on_failure([this](const Error& error) { become_failed(error); });
  size_bytes_ = state.disk_bytes;
  assigned_bytes_ = state.disk_bytes;
  committed_end_ = end;
  committed_data_end_ = start.open_key ? start.open_length.blocks : start.last_length.blocks;
  const bool folded = state.has_root || record.base().parts().empty();
  view_top_ = state.top;
  view_parts_ = folded ? std::vector<LogPart>() : view_from(record.base()).parts;
  own_from_ = state.replay_from;
  forget_garbage();
  own_keys_.clear();
  own_keys_.insert(state.keys.begin(), state.keys.end());
  if (record.has_cut() && record.cut().key() != 0) {
    cut_ = CutMark{*KeyId::make(record.cut().key()), BlockIndex{record.cut().block()}};
  }
  {
    const Mapping::Lock lock(mapping_.mutex());
    log_ = std::move(log);
    mapping_.reset(state.top);
    mapping_.overlay() = std::move(state.overlay);
    last_assigned_ = state.last_sequence.value;
    dirty_leaves_.clear();
    charged_pages_ = 0;
    open_runs_.clear();
    open_blocks_ = 0;
    batch_.reset();
  }
}

Task<Result<ReplayedState>> AsyncDisk::replay_own_log(LogPosition end, ReplayRequest request) {
  if (request.from.key.is_none()) {
    ReplayedState state;
    state.top = request.top;
    state.disk_bytes = request.disk_bytes;
    state.overlay = std::move(request.overlay);
    co_return state;
  }
  request.to = end;
  co_return co_await replay_log(session_.copies(), std::move(request));
}

// ---- the batch file that a dead process left ----

Result<void> AsyncDisk::stale_batch_file(const BatchFileContent* content) {
  // Its writes cannot be put above what another session wrote since (or cannot be found at all).
  // The guest that made them must never read older bytes; another process is another guest.
  const bool same_guest = content == nullptr || content->state.guest.pid == 0 || !options_.guest ||
                          content->state.guest == *options_.guest;
  if (same_guest) {
    VMS_LOG(error,
            "disk",
            "disk " << record_.get().name()
                    << ": acknowledged writes of its last session on this host cannot "
                       "be replayed; 'vmstore owner discard "
                    << record_.get().name() << "' gives them up");
    return Errc::unknown;
  }
  VMS_TRY(const std::string aside, handle_->set_aside());
  handle_.reset();
  VMS_LOG(warning,
          "disk",
          "disk " << record_.get().name() << ": the batch file of an earlier guest was "
                  << "set aside as " << aside);
  return success();
}

BatchFileIdentity AsyncDisk::batch_identity() const {
  BatchFileIdentity identity;
  identity.store = session_.store();
  identity.disk = id_;
  identity.boot = session_.boot();
  return identity;
}

Task<Result<void>> AsyncDisk::recover_batch_file(Sequence recovered,
                                                 bool clean,
                                                 const meta::pb::Writer& prior) {
  RecordedWriter writer;
  writer.epoch = Epoch(prior.epoch());
  writer.is_clean = clean;
  writer.has_file_of_this_boot =
      prior.has_batch_file() && meta::from_pb<BootId>(prior.boot_id()) == session_.boot();
  std::optional<BatchFileContent> found;
  if (handle_ != nullptr && !handle_->is_new()) {
    auto content = scan_batch_file(handle_->memory(), batch_identity());
    if (!content) {
      VMS_LOG(error,
              "disk",
              "batch file of disk " << record_.get().name() << ": " << to_string(content.error()));
      co_return content.error();
    }
    found = std::move(*content);
  }
  switch (judge_left_over(found ? &*found : nullptr, writer, recovered)) {
    case LeftOver::nothing:
      co_return success();
    case LeftOver::lost:
      co_return stale_batch_file(found ? &*found : nullptr);
    case LeftOver::append:
      break;
  }
  co_return co_await append_left_over(std::move(*found), recovered, writer.epoch);
}

Task<Result<void>> AsyncDisk::append_left_over(BatchFileContent content,
                                               Sequence recovered,
                                               Epoch keep) {
  auto adopted = BatchFile::adopt(handle_->memory(), content.identity);
  if (!adopted) co_return adopted.error();
  const auto missing = content.missing_after(recovered);
  batch_ = std::move(*adopted);
  batch_->begin_takeover(keep, record_.epoch(), recovered);
  VMS_FAULT("disk.takeover_begun");
  VMS_CO_CHECK(co_await log_->start_writing(session_.boot(), true));
  note_writing();
  takeover_active_ = true;
  {
    const Mapping::Lock lock(mapping_.mutex());
    // Batches that the log has already need nothing but their room back.
    std::uint64_t done = batch_->released();
    for (const RecoveredBatch& batch : content.batches) {
      const bool is_missing = std::any_of(missing.begin(), missing.end(), [&](const auto& other) {
        return other.end_entry == batch.end_entry;
      });
      if (is_missing) break;
      done = batch.end_entry;
    }
    std::vector<SlotRun> runs;
    if (done > batch_->released()) batch_->release_up_to(done, runs);
    for (const SlotRun& run : runs) batch_->free_slots(run);
    for (const RecoveredBatch& batch : missing) {
      auto closed = std::make_shared<ClosedBatch>();
      closed->sequence = Sequence(++last_assigned_);
      closed->flush_mark = batch.flush_mark;
      closed->extents = batch.extents;
      closed->of_takeover = true;
      closed->end_entry = batch.end_entry;
      if (!batch.sequence) closed->end_entry = batch_->close_batch(closed->sequence, false);
      for (const snapshot::Extent& extent : batch.extents) {
        mapping_.overlay().put(extent);
        log_->force_credit(static_cast<std::int64_t>(extent.blocks));
        if (extent.where == snapshot::Where::zero) {
          log_->give_credit(static_cast<std::int64_t>(extent.blocks));
        }
      }
      ++takeover_left_;
      closed_.push_back(std::move(closed));
    }
  }
  VMS_LOG(info,
          "disk",
          "disk " << record_.get().name() << ": appending " << missing.size()
                  << " batches that a dead process had acknowledged");
  drain_closed();
  write_through_ = false;
  writable_ = true;
  co_return success();
}

// ---- becoming able to write ----

void AsyncDisk::note_writing() {
  if (own_from_.key.is_none()) own_from_ = log_->end();
  committed_end_ = log_->end();  // nothing is in flight yet
  committed_data_end_ = log_->data_end();
  own_keys_.insert(log_->open_key());
  my_writer_epoch_ = record_.epoch();
}

Task<void> AsyncDisk::lose_token() {
  session_.forget_disk(id_, this);
  mode_ = Mode::idle;
  co_await drop_log();
  handle_.reset();
}

Task<void> AsyncDisk::drop_log() {
  if (log_ == nullptr) co_return;
  log_->stop();
  co_await log_->wait_stopped();
  const Mapping::Lock lock(mapping_.mutex());
  log_.reset();
}

Task<Result<void>> AsyncDisk::make_batch_memory() {
  if (!options_.bulk) {
    if (handle_ == nullptr) {
      auto handle = session_.batches().open(session_.store(), id_, true);
      if (handle) handle_ = std::move(*handle);
    }
    const Result<void> allocated = handle_ == nullptr  ? Result<void>(Errc::not_found)
                                   : handle_->is_new() ? handle_->allocate()
                                                       : success();
    if (allocated) {
      // The recorded writer beside us: a death before the CAS that makes us the writer leaves its
      // file, which held nothing any more, and this one tells so.
      BatchFileState state;
      state.epochs = {record_.epoch(), Epoch(record_.get().writer().epoch())};
      if (options_.guest) state.guest = *options_.guest;
      batch_ = BatchFile::create(handle_->memory(), batch_identity(), state);
      co_return success();
    }
    handle_.reset();
    VMS_LOG(warning,
            "disk",
            "disk " << record_.get().name() << ": no batch file on tmpfs ("
                    << to_string(allocated.error())
                    << "): every write waits until it is committed");
  } else if (handle_ != nullptr) {
    // Nothing is left in it (recovery saw to that), and nothing will be put there.
    ignore(handle_->remove(), "the next session finds it void");
    handle_.reset();
  }
  BatchFileState state;
  state.epochs[0] = record_.epoch();
  batch_ = BatchFile::create(make_private_memory(), batch_identity(), state);
  write_through_ = !options_.bulk;
  co_return success();
}

MutableBytes AsyncDisk::make_private_memory() {
  heap_memory_ = std::make_shared<std::vector<std::byte>>(limits::kBatchFileBytes + kBlockBytes);
  const auto raw = reinterpret_cast<std::uintptr_t>(heap_memory_->data());
  const std::size_t skip = (kBlockBytes - raw % kBlockBytes) % kBlockBytes;
  return MutableBytes(*heap_memory_).subspan(skip, limits::kBatchFileBytes);
}

Task<Result<void>> AsyncDisk::start_writing_locked() {
  if (writable_.load()) co_return success();
  // The file names our epoch before the record does; a death in between leaves either [R1].
  VMS_CO_CHECK(co_await make_batch_memory());
  VMS_FAULT("disk.batch_file_made");
  VMS_CO_CHECK(co_await log_->start_writing(session_.boot(), handle_ != nullptr));
  VMS_FAULT("disk.writer_recorded");
  note_writing();
  writable_.store(true, std::memory_order_release);
  co_return success();
}

Task<Result<void>> AsyncDisk::ensure_writable() {
  do {
    VMS_CO_CHECK(co_await try_become_writable());
  } while (!writable_.load());
  co_return success();
}

Task<Result<void>> AsyncDisk::try_become_writable() {
  for (;;) {
    if (failure_) co_return *failure_;
    const auto acquired = co_await acquire();
    if (acquired) break;
    if (net::is_connection_trouble(acquired.error())) {
      VMS_CO_CHECK(co_await wait_for_node());
      continue;
    }
    if (acquired.error() != Errc::busy) co_return acquired.error();
    VMS_CO_CHECK(co_await ask_for_hand_over());
  }
  const auto lock = co_await token_mutex_.lock();
  if (failure_) co_return *failure_;
  if (mode_.load() == Mode::closed) co_return Errc::closing;
  if (mode_.load() != Mode::owner) co_return success();  // handed over meanwhile: ask again
  if (log_->failure()) co_return *log_->failure();
  const auto started = co_await start_writing_locked();
  if (!started && started.error() == Errc::stale_token) {
    if (my_writer_epoch_) become_failed(started.error());
    if (failure_) co_return *failure_;
    co_await lose_token();  // nothing was written under it: another attempt harms nobody
    co_return success();
  }
  if (!started && net::is_connection_trouble(started.error())) {
    co_return co_await wait_for_node();  // the caller tries again
  }
  co_return started;
}

Task<Result<void>> AsyncDisk::wait_for_node() {
  const auto connected =
      co_await session_.node().wait_connected(session_.scheduler().now() + std::chrono::seconds(5));
  if (!connected && !net::is_connection_trouble(connected.error())) co_return connected.error();
  if (stopping_.is_set() && !connected) co_return Errc::closing;
  if (connected) co_await sleep_for(session_.scheduler(), kAskAgain);  // never a busy loop
  co_return success();
}

// ---- giving it back ----

Task<Result<void>> AsyncDisk::leave() {
  VMS_ASSERT(users_ > 0);
  if (--users_ > 0) co_return success();
  co_return co_await release();
}

Task<void> AsyncDisk::drop() {
  VMS_ASSERT(users_ > 0);
  if (--users_ == 0) co_await abandon();
}

Task<Result<void>> AsyncDisk::release() {
  stopping_.set();
  wake_.pulse();
  Result<void> outcome = success();
  {
    const auto lock = co_await token_mutex_.lock();
    if (mode_.load() == Mode::owner) {
      outcome = co_await release_locked();
    } else if (unused_token_) {
      const auto unuse = [](meta::pb::DiskRecord& record) {
        record.set_state(meta::pb::DiskRecord::released);
      };
      ignore(co_await record_.change(unuse), "the next session recovers it");
    }
  }
  co_await abandon();
  co_return outcome;
}

Task<Result<void>> AsyncDisk::release_locked() {
  const TimePoint deadline = session_.scheduler().now() + kReleaseWait;
  // To the end: a cut that came in between would freeze an overlay that nobody writes out any more.
  const auto lock = co_await maintenance_mutex_.lock();
  const bool wrote = log_->is_writing();
  const bool was_writable = writable_.exchange(false);
  if (wrote) {
    const auto committed = co_await commit_and_write_out(deadline);
    if (!committed) {
      // Nothing of it is given back: the guest goes on where it was.
      if (mode_.load() == Mode::owner) writable_ = was_writable;
      co_return committed;
    }
    co_await free_rest(std::min(deadline, session_.scheduler().now() + options_.release_freeing));
    forget_garbage();
    co_await log_->hold_still();
  }
  const auto settle = [this, wrote](meta::pb::DiskRecord& record) {
    record.set_state(meta::pb::DiskRecord::released);
    record.set_last_sequence(last_assigned_);
    // A later session that dies before it wrote anything must not be asked for this one's file.
    record.mutable_writer()->set_has_batch_file(false);
    log_->remember_keys(record);
    log_->name_end(record);
    if (wrote) record.set_size_bytes(assigned_bytes_);
  };
  // Whoever finds the record released asks nobody who answers for the disk, and the answer to this
  // change may not arrive.
  lease_.end();
  for (;;) {
    const auto settled = co_await record_.change(settle);
    if (settled) break;
    const bool lost =
        net::is_connection_trouble(settled.error()) || settled.error() == Errc::unknown;
    if (settled.error() == Errc::stale_token) co_return settled.error();
    if (!lost || session_.scheduler().now() >= deadline) {
      // The record may say already that it is released: whoever goes on takes a new token. The
      // batch file stays, for the case that it does not.
      co_await end_ownership();
      co_return settled.error();
    }
    const auto connected = co_await session_.node().wait_connected(deadline);
    ignore(connected, "the next attempt tells");
  }
  VMS_FAULT("disk.released");
  if (handle_ != nullptr) ignore(handle_->remove(), "an empty batch file is harmless");
  co_await end_ownership();
  co_return success();
}

Task<Result<void>> AsyncDisk::commit_and_write_out(TimePoint deadline) {
  const Sequence last = close_and_last_sequence(false);
  drain_closed();
  const auto committed = co_await log_->wait_committed(last, deadline);
  if (!committed && committed.error() == Errc::timed_out) {
    VMS_LOG(warning,
            "disk",
            "disk " << record_.get().name() << " is not given back: the node did not take "
                    << last.value - log_->committed().value << " records in time; they stay "
                    << (handle_ != nullptr ? "in the batch file" : "in this process"));
  }
  if (!committed) co_return committed;
  co_return co_await checkpoint_until(deadline);
}

/// Everything that was acknowledged is committed: the disk is nobody's from here on.
Task<void> AsyncDisk::end_ownership() {
  handle_.reset();
  co_await session_.release(id_, record_.epoch(), this);
  released_in_order_ = true;
  mode_ = Mode::idle;
  co_await drop_log();
}

Task<Result<void>> AsyncDisk::checkpoint_until(TimePoint deadline) {
  for (;;) {
    const auto written = co_await checkpoint_locked();
    const bool lost = !written && net::is_connection_trouble(written.error());
    if (!lost || session_.scheduler().now() >= deadline) co_return written;
    const auto connected = co_await session_.node().wait_connected(deadline);
    ignore(connected, "the next attempt tells");
  }
}

Task<void> AsyncDisk::abandon() {
  stopping_.set();
  wake_.pulse();
  writable_ = false;
  mode_ = Mode::closed;
  if (log_ != nullptr) log_->stop();
  co_await gate_.close();
  co_await drop_log();
  session_.forget_disk(id_, this);
  handle_.reset();
}

void AsyncDisk::evict() {
  session_.blocks().evict();
}

}  // namespace vmstore::disk
