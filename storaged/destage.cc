// SPDX-License-Identifier: Apache-2.0
// Destaging: what was written unsynced into key files is synced, then the ring's tail moves behind
// it and the space is used again. No data is moved.
//
// Invariants: the tail moves behind a group only after every file that the group changed was synced
// and every name it made or removed is durable; a key whose sync failed is first written anew
// (salvage.h) or marked as lost on stable storage; a destage writes nothing into the ring, so a
// full ring cannot stop it; without a descriptor for it a round is done again, all of it.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "storaged/block_store_state.h"
#include "storaged/fan_out.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kKeysAtOnce = 4;

/// The head is written before the log is synced: until the tail moves, the ring still holds all
/// that the head may say too much.
/// `doubt`: what a failure leaves in doubt.
Result<void> sync_key(KeyFiles& files, const LogHead& head, bool data_dirty, Doubt& doubt) {
  VMS_FAULT("destage.before_head");
  VMS_CHECK(files.write_head(head));
  VMS_FAULT("destage.before_sync");
  if (data_dirty) {
    doubt = Doubt::newest_blocks;
    VMS_CHECK(files.sync(KeyFileKind::data));
  }
  doubt = Doubt::newest_records;
  VMS_CHECK(files.sync(KeyFileKind::sums));
  VMS_CHECK(files.sync(KeyFileKind::log));
  VMS_FAULT("destage.after_sync");
  return success();
}

Result<void> write_bad_mark(Files& files, KeyId key) {
  OpenOptions options;
  options.create = true;
  VMS_TRY(const auto mark, files.open(key_bad_mark_path(key), options));
  VMS_CHECK(mark->sync());
  return files.sync_folder(key_folder(key));
}

}  // namespace

void BlockStore::State::mark_dirty(const std::shared_ptr<Key>& key) {
  if (key->dirty) return;
  key->dirty = true;
  dirty_keys.push_back(key);
}

void BlockStore::State::kick_destage_if_due() {
  const bool ring_half_full = journal->space().used() > journal->space().capacity() / 2;
  if (ring_half_full || undestaged_blocks_bytes > kUndestagedBlocksBytesMax) destage_work.set();
}

Task<Result<void>> BlockStore::State::destage_few(std::span<const std::shared_ptr<Key>> few) {
  struct Part {
    std::shared_ptr<Key> key;
    std::shared_ptr<KeyFiles> files;
    LogHead head;
    bool data_dirty = false;
    Doubt doubt = Doubt::everything;
    Result<void> outcome;
  };
  std::vector<Part> parts;
  for (const auto& key : few) {
    // Effects that are under way belong to ops in the ring; they wait for nothing of ours.
    while (key->pending_effects > 0) static_cast<void>(co_await key->changed.wait_pulse());
    if (std::exchange(key->folder_dirty, false)) dirty_folders.insert(key_folder(key->id()));
    if (key->is_lost() || key->removed) continue;
    const auto opened = co_await files_of(key);
    if (key->removed) continue;
    if (!opened && opened.error() != Errc::unknown) co_return opened.error();
    if (!opened) {
      fail_key(*key, "cannot be synced", opened.error());
      continue;
    }
    parts.push_back({key, *opened, {}, false, Doubt::everything, success()});
  }
  std::vector<PoolJob> jobs;
  for (Part& part : parts) {
    part.head = part.key->state;
    ++part.head.generation;
    part.data_dirty = std::exchange(part.key->data_dirty, false);
    jobs.push_back({&pool, [&part] {
                      part.outcome = sync_key(*part.files, part.head, part.data_dirty, part.doubt);
                    }});
  }
  FanOut all(scheduler, jobs);
  co_await all;
  Result<void> done = success();
  for (Part& part : parts) {
    counters.syncs += part.data_dirty ? 3 : 2;
    LogHead& state = part.key->state;
    if (part.outcome) state.generation = std::max(state.generation, part.head.generation);
    if (part.outcome) continue;
    part.key->data_dirty = part.key->data_dirty || part.data_dirty;
    // No sync was tried: the head found no space, and may find it later.
    if (part.outcome.error() == Errc::no_space && part.doubt == Doubt::everything) {
      done = part.outcome;
      continue;
    }
    fail_key(*part.key, "cannot be synced", part.outcome.error(), part.doubt);
  }
  co_return done;
}

Task<Result<void>> BlockStore::State::destage_keys(std::vector<std::shared_ptr<Key>> round) {
  for (const auto& key : round) {
    key->dirty = false;
    key->destaging = true;
  }
  Result<void> done = success();
  for (std::size_t begin = 0; begin < round.size(); begin += kKeysAtOnce) {
    const std::size_t count = std::min(kKeysAtOnce, round.size() - begin);
    const std::span<const std::shared_ptr<Key>> few(round.data() + begin, count);
    if (done) done = co_await destage_few(few);
    for (const auto& key : few) key->destaging = false;
  }
  if (done) done = co_await settle_failed_keys(std::move(round));
  co_return done;
}

Task<Result<void>> BlockStore::State::settle_failed_keys(std::vector<std::shared_ptr<Key>> failed) {
  for (const auto& key : failed) {
    if (!key->mark_needed || key->removed) continue;
    if (key->salvage == Salvage::wanted) co_await salvage_key(key);
    if (!key->mark_needed) continue;
    if (key->salvage == Salvage::wanted) co_return Error(Errc::busy, EMFILE);  // not tried: later
    auto work = [this, &key] { return write_bad_mark(files, key->id()); };
    const auto marked = co_await run_opening(work);
    if (!marked) co_return marked.error();
    key->mark_needed = false;
  }
  co_return success();
}

Task<Result<void>> BlockStore::State::destage(bool clean) {
  if (broken) co_return *broken;
  const std::uint64_t number = completed_number;
  undestaged_blocks_bytes = 0;
  std::vector<std::shared_ptr<Key>> round(dirty_keys.begin(), dirty_keys.end());
  dirty_keys.clear();
  auto synced = co_await destage_keys(round);
  const bool is_full = !synced && synced.error() == Errc::no_space;
  const auto folders = std::exchange(dirty_folders, {});
  auto work = [this, &folders]() -> Result<void> {
    VMS_FAULT("destage.before_names");
    for (const std::string& folder : folders) VMS_CHECK(files.sync_folder(folder));
    VMS_FAULT("destage.after_names");
    return success();
  };
  if (synced) synced = co_await run_opening(work);
  if (is_full || (!synced && is_out_of_descriptors(synced.error()))) {
    VMS_LOG(warning,
            "storaged",
            (is_full ? "the file system is full" : "out of descriptors")
                << ": what was written is moved out of the journal later");
    for (const auto& key : round) mark_dirty(key);
    dirty_folders.insert(folders.begin(), folders.end());
    co_return synced;
  }
  if (!synced) {
    break_store("what was written cannot be made durable", synced.error());
    co_return *broken;
  }
  for (const auto& key : round) {
    if (key->pending_effects == 0) key->names_unsynced = false;
    key->durable_generation = key->state.generation;
  }
  VMS_ASSERT(!clean || journal->space().empty());
  const RingHead head = journal->next_head(number, clean);
  auto move_tail = [this, &head]() -> Result<void> {
    VMS_FAULT("destage.before_tail");
    VMS_CHECK(journal->write_head(head));
    VMS_FAULT("destage.after_tail");
    return success();
  };
  const auto moved = co_await run_on(journal_pool, scheduler, move_tail);
  if (!moved) {
    break_store("the journal's head cannot be written", moved.error());
    co_return *broken;
  }
  journal->head_written(head);
  close_surplus_files();
  ring_space.pulse();
  co_return success();
}

Task<void> BlockStore::State::run_destaging() {
  auto pass = background.enter();
  for (;;) {
    co_await destage_work.wait();
    destage_work.reset();
    if (stopping) co_return;
    const auto done = co_await destage(false);
    if (done) continue;
    if (broken) co_return;  // said and remembered
    co_await sleep_for(scheduler, kDescriptorPause);
    destage_work.set();
  }
}

}  // namespace vmstore::storaged
