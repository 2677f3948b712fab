// SPDX-License-Identifier: Apache-2.0
#include "storaged/block_store.h"

#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "storaged/block_store_state.h"
#include "storaged/fan_out.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kUsageJobs = 4;

Result<std::uint64_t> usage_of(Files& files, KeyId key) {
  VMS_TRY(const auto opened, KeyFiles::open(files, key));
  return opened->allocated_bytes();
}

Result<std::uint64_t> usage_of_some(Files& files, std::span<const KeyId> keys) {
  std::uint64_t total = 0;
  for (const KeyId key : keys) {
    const auto bytes = usage_of(files, key);
    // Removed meanwhile, or damaged: said elsewhere.
    if (!bytes && bytes.error() == Errc::unknown) continue;
    if (!bytes) return bytes.error();
    total += *bytes;
  }
  return total;
}

}  // namespace

BlockStore::State::State(Scheduler& home,
                         WorkerPool& workers,
                         Files& folder,
                         BlockStoreOptions wanted)
    : scheduler(home),
      pool(workers),
      journal_pool(wanted.journal_pool != nullptr ? *wanted.journal_pool : workers),
      files(folder),
      options(wanted),
      calls(home),
      background(home),
      commit_work(home),
      ring_space(home),
      destage_work(home) {
  if (options.journal_bytes == 0) options.journal_bytes = limits::kJournalBytes;
}

Result<std::shared_ptr<Key>> BlockStore::State::find(KeyId id) const {
  const auto found = keys.find(id);
  if (found == keys.end() || !found->second->live) return Errc::not_found;
  return found->second;
}

Result<std::shared_ptr<Key>> BlockStore::State::find_undamaged(KeyId id) const {
  VMS_TRY(auto key, find(id));
  if (key->state.damaged) return Errc::unknown;
  return key;
}

KeyState BlockStore::State::describe(const Key& key) const {
  KeyState state;
  state.key = key.id();
  state.disk = key.state.disk;
  state.token = key.state.token;
  state.sealed = key.state.sealed;
  state.shared = key.state.shared;
  state.damaged = key.state.damaged;
  state.copies = key.state.copies;
  state.length = key.state.length;
  state.committed = key.state.committed;
  // Always the node's present one: a length is believed only from the incarnation on record.
  state.incarnation = incarnation;
  return state;
}

BlockStore::BlockStore(Scheduler& scheduler,
                       WorkerPool& pool,
                       Files& files,
                       BlockStoreOptions options)
    : state_(std::make_unique<State>(scheduler, pool, files, options)) {}

BlockStore::~BlockStore() = default;

Task<Result<void>> BlockStore::open(Incarnation incarnation) {
  State& s = *state_;
  VMS_ASSERT(!s.journal);
  s.incarnation = incarnation;
  const auto recovered = co_await s.recover();
  if (!recovered) {
    s.journal.reset();
    s.keys.clear();
    s.calls.shut();
    co_return recovered.error();
  }
  s.scheduler.spawn(s.run_commits());
  s.scheduler.spawn(s.run_destaging());
  co_return success();
}

Task<void> BlockStore::close() {
  State& s = *state_;
  co_await s.calls.close();
  if (!s.journal) co_return;
  s.stopping = true;
  s.commit_work.set();
  s.destage_work.set();
  co_await s.background.close();
  // What fails while it is destaged becomes dirty once more, to be marked.
  Result<void> done = success();
  while (done && (!s.dirty_keys.empty() || !s.journal->space().empty())) {
    done = co_await s.destage(false);
  }
  if (done) done = co_await s.destage(true);
  if (!done) VMS_LOG(error, "storaged", "closed with work left for the next start");
  s.open_keys.clear();
  s.keys.clear();
  s.shared_descriptors.clear();
  s.journal.reset();
}

Result<KeyState> BlockStore::info(KeyId key) const {
  VMS_TRY(const auto found, state_->find(key));
  return state_->describe(*found);
}

std::vector<KeyState> BlockStore::list() const {
  std::vector<KeyState> states;
  states.reserve(state_->keys.size());
  for (const auto& [id, key] : state_->keys) {
    if (key->live) states.push_back(state_->describe(*key));
  }
  std::sort(states.begin(), states.end(), [](const KeyState& a, const KeyState& b) {
    return a.key < b.key;
  });
  return states;
}

void BlockStore::note_committed(KeyId key_id, Epoch token, Sequence committed) {
  const auto key = state_->find(key_id);
  if (!key || token < (*key)->token) return;
  LogHead& state = (*key)->state;
  state.committed = std::max(state.committed, std::min(committed, state.length.last_sequence));
}

Task<Result<KeyLength>> BlockStore::reserve(KeyId key_id,
                                            Epoch token,
                                            BlockIndex data_blocks,
                                            std::uint64_t log_bytes) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find_undamaged(key_id));
  if (s.broken) co_return *s.broken;
  if (token < key->token) co_return Errc::stale_token;
  if (key->state.sealed || key->sealing) co_return Errc::sealed;
  const bool fits =
      data_blocks.value <= BlockIndex::kEnd && log_bytes <= key->accepted.log_bytes + limits::kGiB;
  if (!fits) co_return Errc::invalid_argument;
  VMS_CO_TRY(const auto opened, co_await s.files_of(key));
  if (key->state.damaged) co_return Errc::unknown;
  KeyLength end = key->accepted;
  end.blocks = std::max(end.blocks, data_blocks);
  end.log_bytes = std::max(end.log_bytes, log_bytes);
  if (!State::has_space(*key, end)) {
    VMS_CO_CHECK(co_await s.reserve_space(key, opened, end));
  }
  end.blocks.value = key->allocated.data / kBlockBytes;
  end.log_bytes = key->allocated.log - limits::kLogHeadBytes;
  co_return end;
}

Task<Result<std::uint64_t>> BlockStore::used_bytes() {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  std::vector<KeyId> ids;
  for (const KeyState& key : list()) ids.push_back(key.key);
  std::vector<Result<std::uint64_t>> totals(kUsageJobs, Result<std::uint64_t>(0U));
  std::vector<PoolJob> jobs;
  for (std::size_t i = 0; i < kUsageJobs; ++i) {
    const std::size_t begin = ids.size() * i / kUsageJobs;
    const std::size_t count = ids.size() * (i + 1) / kUsageJobs - begin;
    const std::span<const KeyId> part(ids.data() + begin, count);
    jobs.push_back({&s.pool, [&s, &totals, part, i] { totals[i] = usage_of_some(s.files, part); }});
  }
  FanOut all(s.scheduler, jobs);
  co_await all;
  std::uint64_t sum = 0;
  for (const auto& total : totals) {
    if (!total) co_return total.error();
    sum += *total;
  }
  co_return sum;
}

const BlockStoreCounters& BlockStore::counters() const noexcept {
  return state_->counters;
}

bool BlockStore::takes_changes() const noexcept {
  return !state_->broken;
}

Task<Result<FolderSpace>> BlockStore::space() {
  return state_->space();
}

std::uint64_t BlockStore::journal_used_bytes() const noexcept {
  return state_->journal ? state_->journal->space().used() : 0;
}

}  // namespace vmstore::storaged
