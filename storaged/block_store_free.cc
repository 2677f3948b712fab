// SPDX-License-Identifier: Apache-2.0
// Freeing: an owner's private frees and the punches of garbage collection. In the ring first, then
// the sums are set to zero, then the space is given back.
#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "storaged/block_store_state.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kSumsAtOnce = 8192;

/// Sorted, adjacent and overlapping ones merged. `invalid_argument`: empty or beyond `end`.
Result<std::vector<BlockRun>> normalize(std::vector<BlockRun> runs, BlockIndex end) {
  for (const BlockRun& run : runs) {
    if (run.blocks == 0 || run.blocks > end.value || run.first.value > end.value - run.blocks) {
      return Errc::invalid_argument;
    }
  }
  std::sort(runs.begin(), runs.end(), [](const BlockRun& a, const BlockRun& b) {
    return a.first < b.first;
  });
  std::vector<BlockRun> merged;
  for (const BlockRun& run : runs) {
    const std::uint64_t run_end = run.first.value + run.blocks;
    if (merged.empty() || merged.back().first.value + merged.back().blocks < run.first.value) {
      merged.push_back(run);
    } else {
      BlockRun& last = merged.back();
      last.blocks = std::max(last.first.value + last.blocks, run_end) - last.first.value;
    }
  }
  return merged;
}

/// Calls `visit(first block, its sums)` over the sums of `run`, in pieces.
template <class Visit>
Result<void> for_each_sums(KeyFiles& files, const BlockRun& run, Visit visit) {
  std::vector<std::uint64_t> sums;
  for (std::uint64_t done = 0; done < run.blocks; done += sums.size()) {
    sums.resize(std::min<std::uint64_t>(run.blocks - done, kSumsAtOnce));
    const BlockIndex first{run.first.value + done};
    VMS_CHECK(files.read_sums(first, sums));
    visit(first, std::span<const std::uint64_t>(sums));
  }
  return success();
}

struct Punched {
  std::uint64_t blocks = 0;  // that were there
  bool given_back = true;    // their space, too
};

Result<Punched> punch_files(KeyFiles& files, std::span<const BlockRun> runs) {
  Punched punched;
  VMS_FAULT("punch.before_files");
  for (const BlockRun& run : runs) {
    VMS_CHECK(for_each_sums(files, run, [&](BlockIndex, std::span<const std::uint64_t> sums) {
      const auto gone = std::count(sums.begin(), sums.end(), std::uint64_t{0});
      punched.blocks += sums.size() - static_cast<std::uint64_t>(gone);
    }));
    VMS_TRY(const bool given_back, files.punch(run));
    punched.given_back = punched.given_back && given_back;
  }
  VMS_FAULT("punch.after_files");
  return punched;
}

Result<std::vector<BlockRun>> find_present(KeyFiles& files, BlockIndex end) {
  std::vector<BlockRun> present;
  const auto add = [&present](BlockIndex first, std::span<const std::uint64_t> sums) {
    for (std::size_t i = 0; i < sums.size(); ++i) {
      if (sums[i] == 0) continue;
      const std::uint64_t block = first.value + i;
      const bool adjacent =
          !present.empty() && present.back().first.value + present.back().blocks == block;
      if (adjacent) ++present.back().blocks;
      if (!adjacent) present.push_back(BlockRun{BlockIndex{block}, 1});
    }
  };
  VMS_CHECK(for_each_sums(files, BlockRun{BlockIndex{0}, end.value}, add));
  return present;
}

}  // namespace

void BlockStore::State::note_space_kept() {
  if (std::exchange(space_kept_said, true)) return;
  VMS_LOG(
      warning,
      "storaged",
      "the file system does not give back the space of freed blocks: it stays taken until their "
      "keys are deleted");
}

Task<Result<void>> BlockStore::State::follow_files(std::shared_ptr<Key> key,
                                                   std::shared_ptr<KeyFiles>& opened,
                                                   std::uint64_t renewals) {
  while (key->salvaging) static_cast<void>(co_await key->changed.wait_pulse());
  if (renewals == key->renewals) co_return success();
  VMS_CO_TRY(opened, co_await files_of(key));
  co_return success();
}

Task<Result<std::uint64_t>> BlockStore::State::punch_runs(std::shared_ptr<Key> key,
                                                          Epoch token,
                                                          std::vector<BlockRun> wanted) {
  VMS_CO_TRY(const auto runs, normalize(std::move(wanted), key->state.length.blocks));
  VMS_CO_TRY(auto opened, co_await files_of(key));
  const std::uint64_t renewals = key->renewals;
  if (key->state.damaged) co_return Errc::unknown;
  std::uint64_t punched = 0;
  for (std::size_t begin = 0; begin < runs.size(); begin += kPunchRunsMax) {
    const std::size_t count = std::min(kPunchRunsMax, runs.size() - begin);
    const std::span<const BlockRun> part(runs.data() + begin, count);
    const std::vector<std::byte> body = encode_punch(part);
    Op op(scheduler, key, EntryKind::punch);
    op.fields.token = token;
    op.body = body;
    VMS_CO_CHECK(co_await commit(op));
    const auto followed = co_await follow_files(key, opened, renewals);
    Result<Punched> done = followed ? Result<Punched>(Punched()) : followed.error();
    auto work = [&opened, part] { return punch_files(*opened, part); };
    if (followed) done = co_await run_on(pool, scheduler, work);
    key->data_dirty = true;  // only now: a destage may have passed by meanwhile
    finish_effects(*key);
    if (!done) {
      fail_key(*key, "cannot be punched", done.error());
      co_return done.error();
    }
    punched += done->blocks;
    if (!done->given_back) note_space_kept();
  }
  counters.blocks_punched += punched;
  co_return punched;
}

Task<Result<void>> BlockStore::free_private(KeyId key_id,
                                            Epoch token,
                                            DiskId disk,
                                            std::vector<BlockRun> runs) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find_undamaged(key_id));
  const auto lock = co_await key->control.lock();
  if (!key->live) co_return Errc::not_found;
  if (key->state.disk != disk || key->state.shared) co_return Errc::permission;
  if (token < key->token) co_return Errc::stale_token;
  VMS_CO_CHECK(co_await s.punch_runs(key, key->state.token, std::move(runs)));
  co_return success();
}

Task<Result<std::uint64_t>> BlockStore::punch(KeyId key_id, std::vector<BlockRun> runs) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find_undamaged(key_id));
  const auto lock = co_await key->control.lock();
  if (!key->live) co_return Errc::not_found;
  if (!key->state.sealed) co_return Errc::invalid_argument;
  co_return co_await s.punch_runs(key, key->state.token, std::move(runs));
}

Task<Result<std::vector<BlockRun>>> BlockStore::present_blocks(KeyId key_id) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find_undamaged(key_id));
  VMS_CO_TRY(const auto opened, co_await s.files_of(key));
  if (key->state.damaged) co_return Errc::unknown;
  const BlockIndex end = key->state.length.blocks;
  auto work = [&opened, end] { return find_present(*opened, end); };
  co_return co_await run_on(s.pool, s.scheduler, work);
}

}  // namespace vmstore::storaged
