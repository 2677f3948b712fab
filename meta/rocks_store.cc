// SPDX-License-Identifier: Apache-2.0
#include "meta/rocks_store.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "meta/request_check.h"
#include "meta/schema.h"

namespace vmstore::meta {
namespace {

constexpr std::size_t kGroupTxnsMax = 64;
constexpr std::size_t kQueueMax = 4096;
constexpr std::size_t kHistoryChunk = 1000;
constexpr std::size_t kCompactChunk = 1000;
constexpr Duration kReopenPause = std::chrono::seconds(1);
constexpr Duration kReadersPause = std::chrono::milliseconds(10);
constexpr int kTimesOfKeepTime = 16;  // how finely the age of revisions is known

}  // namespace

/// A transaction on its way into a group.
struct RocksStore::Waiting {
  Waiting(Scheduler& scheduler, Txn request) : txn(std::move(request)), done(scheduler) {}
  Txn txn;
  Result<TxnAnswer> answer = Errc::unknown;
  vmstore::Event done;
};

RocksStore::RocksStore(Scheduler& scheduler,
                       WorkerPool& pool,
                       std::string folder,
                       std::shared_ptr<RocksTables> tables,
                       RocksOptions options)
    : scheduler_(scheduler),
      pool_(pool),
      folder_(std::move(folder)),
      options_(std::move(options)),
      tables_(std::move(tables)),
      published_(tables_->opened_revision()),
      hub_(scheduler),
      writing_(scheduler),
      gate_(scheduler) {}

Task<Result<std::unique_ptr<RocksStore>>> RocksStore::open(Scheduler& scheduler,
                                                           WorkerPool& pool,
                                                           std::string folder,
                                                           RocksOptions options) {
  auto work = [&folder] { return RocksTables::open(folder); };
  VMS_CO_TRY(auto tables, co_await run_on(pool, scheduler, work));
  co_return std::make_unique<RocksStore>(
      scheduler, pool, std::move(folder), std::move(tables), std::move(options));
}

Task<Result<std::unique_ptr<RocksStore>>> RocksStore::create(Scheduler& scheduler,
                                                             WorkerPool& pool,
                                                             std::string folder,
                                                             RocksOptions options) {
  auto work = [&folder] { return RocksTables::create(folder, Changes(), kFirstRevision); };
  VMS_CO_TRY(auto tables, co_await run_on(pool, scheduler, work));
  co_return std::make_unique<RocksStore>(
      scheduler, pool, std::move(folder), std::move(tables), std::move(options));
}

Task<Result<GetAnswer>> RocksStore::get(std::string key) {
  VMS_CO_CHECK(check_key(key));
  VMS_CO_TRY(const auto pass, gate_.enter());
  const auto tables = tables_;
  if (tables == nullptr) co_return Errc::unavailable;
  auto work = [&tables, &key] { return tables->get(key); };
  auto answer = co_await run_on(pool_, scheduler_, work);
  co_return answer;
}

Task<Result<RangeAnswer>> RocksStore::range(RangeRequest request) {
  VMS_CO_CHECK(check_range(request));
  VMS_CO_TRY(const auto pass, gate_.enter());
  const auto tables = tables_;
  if (tables == nullptr) co_return Errc::unavailable;
  auto work = [&tables, &request] { return tables->range(request); };
  auto answer = co_await run_on(pool_, scheduler_, work);
  co_return answer;
}

Task<Result<TxnAnswer>> RocksStore::txn(Txn txn) {
  VMS_CO_CHECK(check_txn(txn));
  VMS_CO_TRY(const auto pass, gate_.enter());
  if (queue_.size() >= kQueueMax) co_return Errc::busy;
  const auto waiting = std::make_shared<Waiting>(scheduler_, std::move(txn));
  queue_.push_back(waiting);
  if (!std::exchange(committing_, true)) {
    VMS_CO_TRY(auto loop_pass, gate_.enter());
    scheduler_.spawn(commit_loop(std::move(loop_pass)));
  }
  co_await waiting->done.wait();
  co_return waiting->answer;
}

std::deque<std::shared_ptr<RocksStore::Waiting>> RocksStore::take_group() {
  const std::size_t count = std::min(queue_.size(), kGroupTxnsMax);
  const auto end = queue_.begin() + static_cast<std::ptrdiff_t>(count);
  std::deque<std::shared_ptr<Waiting>> group(queue_.begin(), end);
  queue_.erase(queue_.begin(), end);
  return group;
}

Task<void> RocksStore::commit_loop(Gate::Pass /*pass*/) {
  while (!queue_.empty()) {
    const auto lock = co_await writing_.lock();
    const auto group = take_group();
    std::vector<Txn> txns;
    for (const auto& waiting : group) txns.push_back(std::move(waiting->txn));
    auto work = [this, &txns]() -> Result<std::vector<RocksTables::Applied>> {
      if (tables_ == nullptr) return Errc::unavailable;
      ask_for_room(options_.make_room, false);
      return tables_->apply(txns);
    };
    const auto applied = co_await run_on(pool_, scheduler_, work);
    for (std::size_t i = 0; i < group.size(); ++i) {
      if (applied) {
        publish((*applied)[i].changes);
        group[i]->answer = (*applied)[i].answer;
      } else {
        group[i]->answer = applied.error();
      }
      group[i]->done.set();
    }
    if (applied) start_compaction_if_due(applied->back().answer.revision);
    reopen_if_failed();
  }
  committing_ = false;
}

void RocksStore::start_compaction_if_due(std::uint64_t revision) {
  const TimePoint now = scheduler_.now();
  if (times_.empty() || now - times_.back().first >= options_.keep_time / kTimesOfKeepTime) {
    times_.emplace_back(now, revision);
  }
  std::uint64_t to = 0;
  while (!times_.empty() && now - times_.front().first >= options_.keep_time) {
    to = times_.front().second;
    times_.pop_front();
  }
  const std::uint64_t slack = options_.keep_revisions / 4;  // many at a time
  if (revision > compact_to_ + options_.keep_revisions + slack) {
    to = std::max(to, revision - options_.keep_revisions);
  }
  if (to <= compact_to_) return;
  compact_to_ = to;
  if (compacting_) return;
  auto pass = gate_.enter();
  if (!pass) return;
  compacting_ = true;
  scheduler_.spawn(compact_loop(std::move(*pass)));
}

Task<void> RocksStore::compact_loop(Gate::Pass /*pass*/) {
  for (bool more = true; more && !gate_.is_closed();) {
    const std::uint64_t to = compact_to_;
    const auto outcome = co_await compact_step(to);
    if (!outcome) break;  // logged where it failed; later ones compact what this one did not
    more = *outcome || to != compact_to_;
  }
  compacting_ = false;
}

Task<Result<bool>> RocksStore::compact_step(std::uint64_t to) {
  const auto lock = co_await writing_.lock();
  if (tables_ == nullptr) co_return Errc::unavailable;
  auto work = [this, to] {
    ask_for_room(options_.make_room, false);
    return tables_->compact(to, kCompactChunk);
  };
  const auto more = co_await run_on(pool_, scheduler_, work);
  reopen_if_failed();
  co_return more;
}

Task<Result<void>> RocksStore::compact(std::uint64_t revision) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  for (bool more = true; more;) {
    VMS_CO_TRY(more, co_await compact_step(revision));
  }
  co_return success();
}

Task<Result<void>> RocksStore::restore(Changes changes, std::uint64_t revision) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  const auto lock = co_await writing_.lock();
  if (tables_ == nullptr) co_return Errc::unavailable;
  auto work = [this, &changes, revision] {
    ask_for_room(options_.make_room, false);
    return tables_->restore(changes, revision);
  };
  const auto outcome = co_await run_on(pool_, scheduler_, work);
  reopen_if_failed();
  if (!outcome) co_return outcome.error();
  publish(changes);
  published_ = revision;
  co_return success();
}

void RocksStore::publish(const Changes& changes) {
  if (changes.empty()) return;
  hub_.publish(changes);
  published_ = changes.back().entry.mod_revision;
}

void RocksStore::reopen_if_failed() {
  if (tables_ == nullptr || !tables_->is_failed() || reopening_) return;
  auto pass = gate_.enter();
  if (!pass) return;
  reopening_ = true;
  scheduler_.spawn(reopen_loop(std::move(*pass)));
}

Task<void> RocksStore::reopen_loop(Gate::Pass /*pass*/) {
  while (!gate_.is_closed()) {
    co_await sleep_for(scheduler_, kReopenPause);
    const auto lock = co_await writing_.lock();
    const auto opened = co_await reopen();
    if (opened) break;
    VMS_LOG(error, "meta", "cannot open the catalogue again: " << opened.error());
  }
  reopening_ = false;
}

// REQUIRES: the caller holds writing_.
Task<Result<void>> RocksStore::reopen() {
  if (tables_ != nullptr) {
    auto old = std::exchange(tables_, nullptr);
    while (old.use_count() > 1) co_await sleep_for(scheduler_, kReadersPause);  // they are short
    auto close = [&old] {
      old = nullptr;
      return success();
    };
    VMS_CO_CHECK(co_await run_on(pool_, scheduler_, close));
  }
  auto work = [this] {
    ask_for_room(options_.make_room, true);
    return RocksTables::open(folder_);
  };
  VMS_CO_TRY(tables_, co_await run_on(pool_, scheduler_, work));
  VMS_LOG(info, "meta", "the catalogue is open again at revision " << tables_->opened_revision());
  co_return co_await publish_found();
}

/// Tells watches of changes that were answered `unknown` and are there.
Task<Result<void>> RocksStore::publish_found() {
  while (published_ < tables_->opened_revision()) {
    const std::uint64_t from = published_ + 1;
    auto work = [this, from] { return tables_->history(from, kHistoryChunk); };
    VMS_CO_TRY(const auto found, co_await run_on(pool_, scheduler_, work));
    hub_.publish(found.changes);
    published_ = found.through;
  }
  co_return success();
}

Task<Result<std::unique_ptr<Watch>>> RocksStore::watch(std::string prefix,
                                                       std::uint64_t from_revision,
                                                       WatchCallback callback) {
  VMS_CO_CHECK(check_prefix(prefix));
  VMS_CO_TRY(const auto pass, gate_.enter());
  const auto tables = tables_;
  if (tables == nullptr) co_return Errc::unavailable;
  // Joined before the past is read, so that no change can fall between the two.
  auto watch = hub_.add(std::move(prefix), from_revision, std::move(callback));
  if (from_revision == 0) {
    auto work = [&tables] { return tables->revision(); };
    VMS_CO_TRY(const std::uint64_t now, co_await run_on(pool_, scheduler_, work));
    hub_.catch_up(watch, Changes(), now);
    co_return hub_.start(std::move(watch));
  }
  for (std::uint64_t next = from_revision;;) {
    auto work = [&tables, next] { return tables->history(next, kHistoryChunk); };
    VMS_CO_TRY(const auto past, co_await run_on(pool_, scheduler_, work));
    hub_.catch_up(watch, past.changes, past.through);
    if (past.through >= past.revision) co_return hub_.start(std::move(watch));
    next = past.through + 1;
  }
}

Task<Result<void>> RocksStore::close() {
  co_await gate_.close();
  if (tables_ == nullptr) co_return Errc::unavailable;
  auto work = [this] { return tables_->close(); };
  const auto outcome = co_await run_on(pool_, scheduler_, work);
  co_return outcome;
}

}  // namespace vmstore::meta
