// SPDX-License-Identifier: Apache-2.0
// Which key files are open, and the space behind their ends.
#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "storaged/block_store_state.h"

namespace vmstore::storaged {
namespace {

struct Opened {
  std::shared_ptr<KeyFiles> files;
  bool too_short = false;
};

Result<Opened> open_checked(Files& folder, KeyId id, const KeyLength& length) {
  Opened opened;
  VMS_TRY(opened.files, KeyFiles::open(folder, id));
  const auto sizes = opened.files->check_sizes(length);
  if (!sizes && sizes.error() != Errc::corrupt) return sizes.error();
  opened.too_short = !sizes.has_value();
  return opened;
}

/// Allocates [from, end) and, if it can be had, `ahead` more. Returns the new end.
Result<std::uint64_t> extend(File& file,
                             std::uint64_t from,
                             std::uint64_t end,
                             std::uint64_t ahead) {
  if (end <= from) return from;
  if (ahead > 0) {
    const auto generous = file.allocate(from, end + ahead - from);
    if (generous) return end + ahead;
    if (generous.error() != Errc::no_space) return generous.error();
  }
  VMS_CHECK(file.allocate(from, end - from));
  return end;
}

Result<Key::Allocated> extend_all(KeyFiles& files,
                                  const Key::Allocated& from,
                                  const Key::Allocated& ends,
                                  bool ahead) {
  Key::Allocated reached = from;
  VMS_FAULT("allocate.before");
  VMS_TRY(reached.data, extend(files.data(), from.data, ends.data, ahead ? kDataAheadBytes : 0));
  VMS_TRY(reached.log, extend(files.log(), from.log, ends.log, ahead ? kLogAheadBytes : 0));
  VMS_TRY(reached.sums, extend(files.sums(), from.sums, ends.sums, ahead ? kSumsAheadBytes : 0));
  VMS_FAULT("allocate.after");
  return reached;
}

/// Bytes that are about to be allocated.
class Promise {
 public:
  Promise(std::uint64_t& sum, std::uint64_t bytes) noexcept : sum_(sum), bytes_(bytes) {
    sum_ += bytes_;
  }
  Promise(const Promise&) = delete;
  Promise& operator=(const Promise&) = delete;
  ~Promise() { sum_ -= bytes_; }

 private:
  std::uint64_t& sum_;
  std::uint64_t bytes_;
};

/// Without it a power cut could take back what was promised.
Result<void> sync_all(Files& folders, KeyFiles& files, const std::string& folder) {
  VMS_FAULT("reserve.before_sync");
  if (!folder.empty()) VMS_CHECK(folders.sync_folder(folder));
  VMS_CHECK(files.sync(KeyFileKind::data));
  VMS_CHECK(files.sync(KeyFileKind::sums));
  VMS_CHECK(files.sync(KeyFileKind::log));
  VMS_FAULT("reserve.after_sync");
  return success();
}

}  // namespace

void BlockStore::State::adopt_files(Key& key, std::shared_ptr<KeyFiles> opened) {
  if (key.files) return;
  key.files = std::move(opened);
  key.lru = open_keys.insert(open_keys.end(), &key);
  close_surplus_files();
}

void BlockStore::State::drop_files(Key& key) {
  if (!key.files) return;
  open_keys.erase(key.lru);
  key.files.reset();
}

void BlockStore::State::forget_files(Key& key) {
  drop_files(key);
  ++key.renewals;
  const KeyId id = key.id();
  shared_descriptors.remove_if([id](const auto& shared) { return shared.first == id; });
  key.allocated = Key::Allocated();
  key.data_dirty = false;
  key.names_unsynced = false;
}

void BlockStore::State::close_surplus_files() {
  // A key that is not synced stays open: an error of its write-back is told to an open file only.
  auto it = open_keys.begin();
  while (it != open_keys.end() && open_keys.size() > options.open_keys_max) {
    Key& key = **it++;
    const bool synced = !key.dirty && !key.destaging && !key.mark_needed;
    if (synced && key.idle() && key.files.use_count() == 1) drop_files(key);
  }
  // Some slack, so that a round of syncs lets many keys go.
  if (open_keys.size() > options.open_keys_max + options.open_keys_max / 4) destage_work.set();
}

bool BlockStore::State::close_unused_files() {
  const std::size_t before = open_keys.size();
  const std::size_t kept = before / 2;
  auto it = open_keys.begin();
  while (it != open_keys.end() && open_keys.size() > kept) {
    Key& key = **it++;
    const bool synced = !key.dirty && !key.destaging && !key.mark_needed;
    if (synced && key.idle() && key.files.use_count() == 1) drop_files(key);
  }
  const bool closed = open_keys.size() < before || !shared_descriptors.empty();
  shared_descriptors.clear();
  return closed;
}

Task<void> BlockStore::State::wait_for_descriptors() {
  if (close_unused_files()) co_return;
  // What is open has changes that are not synced, or is in use: both pass.
  destage_work.set();
  co_await sleep_for(scheduler, kDescriptorPause);
}

Task<Result<std::shared_ptr<KeyFiles>>> BlockStore::State::files_of(std::shared_ptr<Key> key) {
  if (key->files) {
    open_keys.splice(open_keys.end(), open_keys, key->lru);
    co_return key->files;
  }
  const std::uint64_t renewals = key->renewals;
  const KeyLength length = key->state.length;
  auto work = [this, &key, &length] { return open_checked(files, key->id(), length); };
  const auto opened = co_await run_opening(work);
  if (renewals != key->renewals) co_return co_await files_of(key);  // these have no name any more
  if (!opened) {
    if (opened.error() == Errc::unknown && !key->removed) {
      VMS_LOG(error, "storaged", "key " << key->id().hex() << ": a file is missing");
      key->state.damaged = true;
    }
    co_return opened.error();
  }
  if (opened->too_short && !key->state.damaged && !key->removed) {
    VMS_LOG(error, "storaged", "key " << key->id().hex() << ": a file is shorter than its length");
    key->state.damaged = true;
  }
  if (key->removed) co_return Errc::not_found;
  adopt_files(*key, opened->files);
  co_return key->files;
}

bool BlockStore::State::has_space(const Key& key, const KeyLength& end) noexcept {
  return key.allocated.data >= end.blocks.value * kBlockBytes &&
         key.allocated.log >= limits::kLogHeadBytes + end.log_bytes &&
         key.allocated.sums >= end.blocks.value * kSumBytes;
}

Task<Result<void>> BlockStore::State::allocate(std::shared_ptr<Key> key,
                                               std::shared_ptr<KeyFiles> opened,
                                               Key::Allocated ends,
                                               bool ahead) {
  // What lies below the length is written already.
  Key::Allocated from = key->allocated;
  from.data = std::max(from.data, key->state.length.blocks.value * kBlockBytes);
  from.log = std::max(from.log, limits::kLogHeadBytes + key->state.length.log_bytes);
  from.sums = std::max(from.sums, key->state.length.blocks.value * kSumBytes);
  const std::uint64_t promised = promised_bytes;
  auto work = [this, &opened, &from, &ends, ahead, promised] {
    // Allocating ahead is a convenience: it never takes from the reserve.
    const auto space = files.space();
    const std::uint64_t kept =
        options.reserve_bytes + promised + kWorkersMost * (kDataAheadBytes + kLogAheadBytes);
    const bool plenty = ahead && space && space->free_bytes > kept;
    return extend_all(*opened, from, ends, plenty);
  };
  const auto reached = co_await run_on(pool, scheduler, work);
  if (!reached) co_return reached.error();
  key->allocated.data = std::max(key->allocated.data, reached->data);
  key->allocated.log = std::max(key->allocated.log, reached->log);
  key->allocated.sums = std::max(key->allocated.sums, reached->sums);
  co_return success();
}

Task<Result<FolderSpace>> BlockStore::State::space() {
  auto ask = [this] { return files.space(); };
  co_return co_await run_on(pool, scheduler, ask);
}

/// A new key takes little, and may take it from the reserve, as a roll must; not all of it.
Task<Result<void>> BlockStore::State::check_room_for_key() {
  if (options.reserve_bytes == 0) co_return success();
  VMS_CO_TRY(const FolderSpace now, co_await space());
  if (now.free_bytes < options.reserve_bytes / 4) co_return Errc::no_space;
  co_return success();
}

Task<Result<void>> BlockStore::State::reserve_space(std::shared_ptr<Key> key,
                                                    std::shared_ptr<KeyFiles> opened,
                                                    KeyLength end) {
  Key::Allocated ends;
  ends.data = end.blocks.value * kBlockBytes;
  ends.log = limits::kLogHeadBytes + end.log_bytes;
  ends.sums = end.blocks.value * kSumBytes;
  const auto missing = [](std::uint64_t goal, std::uint64_t have) {
    return goal - std::min(goal, have);
  };
  const std::uint64_t wanted = missing(ends.data, key->allocated.data) +
                               missing(ends.log, key->allocated.log) +
                               missing(ends.sums, key->allocated.sums);
  // What others were promised and is not taken yet counts as gone: hundreds may ask at once.
  const Promise promise(promised_bytes, wanted);
  VMS_CO_TRY(const FolderSpace now, co_await space());
  if (now.free_bytes < options.reserve_bytes + promised_bytes) co_return Errc::no_space;
  VMS_CO_CHECK(co_await allocate(key, opened, ends, false));
  const std::string folder = key->names_unsynced ? key_folder(key->id()) : std::string();
  auto sync = [this, &opened, &folder] { return sync_all(files, *opened, folder); };
  const auto synced = co_await run_opening(sync);
  if (!synced && is_out_of_descriptors(synced.error())) co_return synced;
  ++counters.syncs;
  if (synced) key->names_unsynced = false;
  if (!synced) fail_key(*key, "its reserved space cannot be synced", synced.error());
  co_return synced;
}

}  // namespace vmstore::storaged
