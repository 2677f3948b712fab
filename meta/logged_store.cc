// SPDX-License-Identifier: Apache-2.0
#include "meta/logged_store.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "meta/reconcile.h"
#include "meta/request_check.h"

namespace vmstore::meta {
namespace {

constexpr Duration kLogWait = std::chrono::seconds(10);
constexpr Duration kRepairPause = std::chrono::seconds(1);
constexpr int kWatchRetries = 5;

}  // namespace

/// A watch of the backend whose events are kept until they are logged.
class LoggedStore::HeldWatch {
 public:
  explicit HeldWatch(WatchCallback callback) : callback_(std::move(callback)) {}
  void follow(std::unique_ptr<Watch> inner) { inner_ = std::move(inner); }
  void end() {
    ended_ = true;
    inner_ = nullptr;
  }
  void take(const Event& event) { held_.push_back(event); }
  void tell(std::uint64_t logged) {
    while (!ended_ && !held_.empty() && held_.front().entry.mod_revision <= logged) {
      const Event event = std::move(held_.front());
      held_.pop_front();
      callback_(event);
    }
  }

  /// What the caller of watch() holds.
  class Handle final : public Watch {
   public:
    explicit Handle(std::shared_ptr<HeldWatch> watch) : watch_(std::move(watch)) {}
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() override { watch_->end(); }

   private:
    std::shared_ptr<HeldWatch> watch_;
  };

 private:
  WatchCallback callback_;
  std::unique_ptr<Watch> inner_;
  std::deque<Event> held_;
  bool ended_ = false;
};

LoggedStore::LoggedStore(Parts parts)
    : parts_(std::move(parts)),
      progress_(parts_.scheduler),
      requests_(parts_.scheduler),
      loops_(parts_.scheduler) {}

LoggedStore::~LoggedStore() {
  for (const auto& weak : watches_) {
    if (const auto watch = weak.lock()) watch->end();
  }
}

Task<Result<std::unique_ptr<LoggedStore>>> LoggedStore::open(Parts parts, LogStart start) {
  auto store = std::unique_ptr<LoggedStore>(new LoggedStore(std::move(parts)));
  VMS_CO_CHECK(co_await store->start(start));
  co_return store;
}

Task<Result<void>> LoggedStore::start(LogStart start) {
  VMS_CO_TRY(Image store, co_await read_image(parts_.backend));
  VMS_CO_TRY(Image log, co_await open_log(start, store));
  VMS_CO_CHECK(co_await agree(std::move(log), std::move(store)));
  logged_ = log_->revision();
  auto callback = [this](const Event& event) { on_event(event); };
  VMS_CO_TRY(follow_, co_await parts_.backend.watch("", logged_ + 1, callback));
  co_return success();
}

Task<Result<Image>> LoggedStore::open_log(LogStart start, const Image& store) {
  if (start == LogStart::replace) {
    auto set_aside = [this] { return parts_.files.rename(parts_.path, parts_.path + ".old"); };
    const auto renamed = co_await run_on(parts_.pool, parts_.scheduler, set_aside);
    if (!renamed && renamed.error() != Errc::not_found) co_return renamed.error();
  }
  auto work = [this] { return CatalogueLog::open(parts_.files, parts_.path); };
  auto opened = co_await run_on(parts_.pool, parts_.scheduler, work);
  if (opened) {
    log_ = std::move(opened->log);
    co_return std::move(opened->image);
  }
  const bool is_missing = opened.error() == Errc::not_found;
  if (!is_missing || start == LogStart::need) co_return opened.error();
  VMS_LOG(info, "meta", "making the catalogue log at revision " << store.revision);
  VMS_CO_CHECK(co_await make_log(store));
  co_return store;
}

Task<Result<void>> LoggedStore::make_log(const Image& image) {
  auto work = [this, &image] {
    ask_for_room(parts_.make_room, lacks_room_);
    return CatalogueLog::create(parts_.files, parts_.path, image);
  };
  auto made = co_await run_on(parts_.pool, parts_.scheduler, work);
  lacks_room_ = !made && made.error() == Errc::no_space;
  if (!made) co_return made.error();
  log_ = std::move(*made);
  co_return success();
}

Task<Result<void>> LoggedStore::agree(Image log, Image store) {
  VMS_CO_TRY(Reconciliation both, reconcile(log, store));
  if (store.revision < log.revision) {
    VMS_LOG(warning,
            "meta",
            "the catalogue is at revision " << store.revision << ", its log at " << log.revision);
    if (parts_.restorable == nullptr) co_return Errc::unknown;
    VMS_CO_CHECK(co_await parts_.restorable->restore(std::move(both.for_store), both.revision));
    co_return success();
  }
  if (log.revision == store.revision) co_return success();
  if (!CatalogueLog::fits(both.for_log)) co_return co_await make_log(store);
  co_return co_await append(std::move(both.for_log), both.revision);
}

Task<Result<void>> LoggedStore::append(Changes changes, std::uint64_t revision) {
  auto work = [this, &changes, revision] {
    ask_for_room(parts_.make_room, false);
    return log_->append(changes, revision);
  };
  const auto outcome = co_await run_on(parts_.pool, parts_.scheduler, work);
  lacks_room_ = !outcome && outcome.error() == Errc::no_space;
  co_return outcome;
}

void LoggedStore::on_event(const Event& event) {
  if (event.gap) {
    VMS_LOG(warning, "meta", "changes were missed: the catalogue log is made anew");
    floor_ = std::max(floor_, event.entry.mod_revision);
    fail();
    return;
  }
  if (event.entry.mod_revision <= logged_) return;  // the log was made anew in the meantime
  pending_.push_back(event);
  if (event.last) start_loop();
}

void LoggedStore::start_loop() {
  if (looping_ || failed_ || pending_.empty()) return;
  auto pass = loops_.enter();
  if (!pass) return;
  looping_ = true;
  parts_.scheduler.spawn(log_loop(std::move(*pass)));
}

Changes LoggedStore::take_group() {
  Changes group;
  std::size_t bytes = 0;
  while (!pending_.empty()) {
    const auto whole = std::find_if(
        pending_.begin(), pending_.end(), [](const Event& event) { return event.last; });
    if (whole == pending_.end()) break;
    const auto end = std::next(whole);
    for (auto event = pending_.begin(); event != end; ++event) {
      bytes += log_format::payload_bytes(*event);
    }
    if (!group.empty() && bytes > log_format::kGroupPayloadMax) break;
    group.insert(group.end(), pending_.begin(), end);
    pending_.erase(pending_.begin(), end);
  }
  return group;
}

Task<void> LoggedStore::log_loop(Gate::Pass /*pass*/) {
  for (Changes group = take_group(); !group.empty(); group = take_group()) {
    const std::uint64_t revision = group.back().entry.mod_revision;
    const auto outcome = co_await append(std::move(group), revision);
    if (!outcome) {
      VMS_LOG(error, "meta", "the catalogue log cannot be written: " << outcome.error());
      fail();
      break;
    }
    set_logged(revision);
    if (log_->may_hold_garbage()) co_await compact_log();
    if (failed_) break;
  }
  looping_ = false;
}

Task<void> LoggedStore::compact_log() {
  auto work = [this] { return log_->compact(); };
  const auto outcome = co_await run_on(parts_.pool, parts_.scheduler, work);
  if (outcome) co_return;
  VMS_LOG(warning, "meta", "the catalogue log cannot be compacted: " << outcome.error());
  if (log_->is_failed()) fail();
}

void LoggedStore::fail() {
  if (std::exchange(failed_, true)) return;
  progress_.pulse();
  auto pass = loops_.enter();
  if (pass) parts_.scheduler.spawn(repair_loop(std::move(*pass)));
}

// A file whose sync failed is not used again, one that misses changes neither; the backend has
// everything that should be in it.
Task<void> LoggedStore::repair_loop(Gate::Pass /*pass*/) {
  while (!loops_.is_closed()) {
    co_await sleep_for(parts_.scheduler, kRepairPause);
    if (looping_) continue;  // a group is still being written to the old file
    const auto image = co_await read_image(parts_.backend);
    if (!image || image->revision < std::max(logged_, floor_)) continue;
    const auto made = co_await make_log(*image);
    if (!made || image->revision < floor_) continue;
    VMS_LOG(info, "meta", "made the catalogue log anew at revision " << image->revision);
    failed_ = false;
    std::erase_if(pending_, [&image](const Event& event) {
      return event.entry.mod_revision <= image->revision;
    });
    set_logged(image->revision);
    start_loop();
    co_return;
  }
}

void LoggedStore::set_logged(std::uint64_t revision) {
  logged_ = revision;
  progress_.pulse();
  watches_.remove_if([](const auto& watch) { return watch.expired(); });
  const auto watches = watches_;  // a callback may make or end watches
  for (const auto& weak : watches) {
    if (const auto watch = weak.lock()) watch->tell(revision);
  }
}

Task<Result<void>> LoggedStore::wait_logged(std::uint64_t revision) {
  const TimePoint deadline = parts_.scheduler.now() + kLogWait;
  while (logged_ < revision) {
    if (failed_) co_return Errc::unavailable;
    const bool in_time = co_await progress_.wait_pulse(deadline);
    if (!in_time && logged_ < revision) co_return Errc::timed_out;
  }
  co_return success();
}

Task<Result<void>> LoggedStore::settle(std::uint64_t floor, std::uint64_t revision) {
  if (revision < floor) {
    VMS_LOG(error, "meta", "the catalogue answers from " << revision << " after " << floor);
    co_return Errc::unknown;
  }
  co_return co_await wait_logged(revision);
}

Task<Result<GetAnswer>> LoggedStore::get(std::string key) {
  VMS_CO_TRY(const auto pass, requests_.enter());
  if (failed_) co_return Errc::unavailable;
  const std::uint64_t floor = logged_;
  VMS_CO_TRY(auto answer, co_await parts_.backend.get(std::move(key)));
  VMS_CO_CHECK(co_await settle(floor, answer.revision));
  co_return answer;
}

Task<Result<TxnAnswer>> LoggedStore::txn(Txn txn) {
  VMS_CO_TRY(const auto pass, requests_.enter());
  if (failed_) co_return Errc::unavailable;
  const std::uint64_t floor = logged_;
  VMS_CO_TRY(const auto answer, co_await parts_.backend.txn(std::move(txn)));
  const auto settled = co_await settle(floor, answer.revision);
  if (!settled) co_return Errc::unknown;
  co_return answer;
}

Task<Result<RangeAnswer>> LoggedStore::range(RangeRequest request) {
  VMS_CO_TRY(const auto pass, requests_.enter());
  if (failed_) co_return Errc::unavailable;
  const std::uint64_t floor = request.revision == 0 ? logged_ : request.revision;
  VMS_CO_TRY(auto answer, co_await parts_.backend.range(std::move(request)));
  VMS_CO_CHECK(co_await settle(floor, answer.revision));
  co_return answer;
}

Task<Result<std::unique_ptr<Watch>>> LoggedStore::watch(std::string prefix,
                                                        std::uint64_t from_revision,
                                                        WatchCallback callback) {
  VMS_CO_TRY(const auto pass, requests_.enter());
  if (failed_) co_return Errc::unavailable;
  const auto watch = std::make_shared<HeldWatch>(std::move(callback));
  const std::weak_ptr<HeldWatch> weak = watch;
  auto take = [this, weak](const Event& event) {
    const auto held = weak.lock();
    if (held == nullptr) return;
    held->take(event);
    held->tell(logged_);
  };
  // From now on means from the first change that is not logged yet.
  const bool from_now = from_revision == 0;
  if (from_now) from_revision = logged_ + 1;
  auto inner = co_await parts_.backend.watch(prefix, from_revision, take);
  for (int again = 0; again < kWatchRetries && from_now && inner.error() == Errc::compacted;
       ++again) {
    inner = co_await parts_.backend.watch(prefix, logged_ + 1, take);
  }
  if (!inner) co_return inner.error();
  watch->follow(std::move(*inner));
  watches_.push_back(watch);
  std::unique_ptr<Watch> handle = std::make_unique<HeldWatch::Handle>(watch);
  co_return std::move(handle);
}

Task<void> LoggedStore::close() {
  co_await requests_.close();
  follow_ = nullptr;
  co_await loops_.close();
}

}  // namespace vmstore::meta
